"""Passwords: argon2id with the parameters of the OWASP cheat sheet, and what a good one is."""

from __future__ import annotations

import gzip
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shop.errors import Fault, Invalid, Unavailable
from shop.turns import aside

SHORTEST, LONGEST = 8, 128

_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
#: Checked when the account does not exist, so that the answer takes as long.
_NOBODYS_HASH = _hasher.hash(secrets.token_urlsafe(32))


class Room:
    """How many passwords this process hashes at once, and how many requests may wait for that.

    Hashing takes 19 MiB and a whole processor for about 30 ms. Without bounds a rush of sign-ins
    would take all memory, or all threads of the worker.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._slots = threading.BoundedSemaphore(at_once)
        self._queue = threading.BoundedSemaphore(at_once + waiting)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a slot. Raises Unavailable when too many wait already."""
        if not self._queue.acquire(blocking=False):
            raise Unavailable("Too many people sign in just now. Send the same request again.")
        try:
            with aside(), self._slots:
                yield
        finally:
            self._queue.release()


class _Here:
    """The room of this process."""

    room = Room(at_once=2, waiting=1_000_000)


def make_room(at_once: int, waiting: int) -> None:
    """Bound the hashing of this process from now on."""
    _Here.room = Room(at_once, waiting)


def hash_password(password: str) -> str:
    """A salted argon2id hash (19 MiB, two passes, one lane), about 30 ms of work."""
    with _Here.room.taken():
        return _hasher.hash(password)


@contextmanager
def guessing() -> Iterator[Callable[[str | None, str], bool]]:
    """One of the few slots for hashing, with what verifies passwords in it.

    Look inside of it whether a guess is allowed, and count there what was wrong: then no more
    guesses than there are slots can slip through beside the count.
    """
    with _Here.room.taken():
        yield _verify


def _verify(password_hash: str | None, password: str) -> bool:
    """Whether the password is the one behind the hash; no hash takes as long, is never right."""
    try:
        _hasher.verify(password_hash or _NOBODYS_HASH, password)
    except (VerificationError, InvalidHashError):
        return False
    return bool(password_hash)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password is the one behind the hash; no hash takes as long, is never right."""
    with guessing() as verify:
        return verify(password_hash, password)


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than those of today."""
    return _hasher.check_needs_rehash(password_hash)


def check_password(password: str, *, email: str, pointer: str = "/password") -> None:
    """Refuse what is guessed first; any composition is fine (NIST SP 800-63B, OWASP ASVS 6.2).

    Raises:
        Invalid: it is too short, too long, among the most common, or just the e-mail address.
    """
    if complaint := _complaint(password, email):
        raise Invalid("Choose another password.", faults=(Fault(pointer, complaint),))


def _complaint(password: str, email: str) -> str | None:
    if not SHORTEST <= len(password) <= LONGEST:
        return f"A password has {SHORTEST} to {LONGEST} characters."
    folded = password.casefold()
    if folded in _common() or len(set(password)) == 1:
        return "This password is one of the most common ones: it is guessed first."
    if folded in {email.casefold(), email.partition("@")[0].casefold()}:
        return "The password must not be the e-mail address."
    return None


@cache
def _common() -> frozenset[str]:
    """The most common passwords of 8 characters and more (docs/architecture.md says whence)."""
    packed = files("shop.users").joinpath("common-passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().splitlines())
