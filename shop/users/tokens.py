"""Secrets that the shop hands out once and keeps only the digest of."""

from __future__ import annotations

import hashlib
import secrets


def new_secret() -> str:
    """256 random bits, for URLs and headers."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is stored of it. A fast hash will do: nobody can guess 256 bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
