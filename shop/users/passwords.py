"""Passwords: argon2id with the parameters of the OWASP cheat sheet."""

from __future__ import annotations

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
#: Checked when the account does not exist, so that the answer takes as long.
_NOBODYS_HASH = _hasher.hash(secrets.token_urlsafe(32))


def hash_password(password: str) -> str:
    """A salted argon2id hash (19 MiB, two passes, one lane), about 30 ms of work."""
    return _hasher.hash(password)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password is the one behind the hash; no hash takes as long, is never right."""
    try:
        _hasher.verify(password_hash or _NOBODYS_HASH, password)
    except (VerificationError, InvalidHashError):
        return False
    return bool(password_hash)
