"""Claiming a key, keeping an answer under it, freeing it. Each statement decides in the database.

The rows are no objects here: what counts is what the database has at the moment of the statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import delete, insert, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop import clock
from shop.db import database_ms, is_duplicate
from shop.errors import Conflict, Refusal
from shop.idempotency.models import IdempotencyKey


class KeyMismatch(Refusal):
    """The key was given to another request before."""

    slug = "idempotency-mismatch"


class KeyInProgress(Conflict):
    """A request with this key is being worked on."""

    slug = "idempotency-in-progress"
    retry_after = 1


@dataclass(frozen=True, slots=True)
class KeyName:
    """What names a key: whose it is, for which operation (method and route), and how it reads."""

    caller: str
    operation: str
    key: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that one request holds; a plain value, so that any transaction may be fenced by it."""

    id: int
    number: int


def claim_new(
    session: Session, name: KeyName, fingerprint: str, lease_seconds: int
) -> Claim | None:
    """Claim a key that nobody has used; None when it turns out that somebody has."""
    row = {
        "caller": name.caller, "operation": name.operation, "idempotency_key": name.key,
        "fingerprint": fingerprint, "claim": 1, "created_at": clock.now(),
    }  # fmt: skip
    claiming = insert(IdempotencyKey).values(**row, expires_ms=database_ms() + lease_seconds * 1000)
    try:
        result = session.connection().execute(claiming)
    except IntegrityError as error:
        # The failed statement leaves the transaction as it was.
        if is_duplicate(error, "idempotency_keys", "caller", "operation", "idempotency_key"):
            return None
        raise
    (number,) = cast(tuple[int], result.inserted_primary_key)
    return Claim(number, 1)


def claim_expired(
    session: Session, expired: Claim, fingerprint: str, lease_seconds: int
) -> Claim | None:
    """Claim a key that was seen to have expired; None when somebody came first."""
    taken = _changed(
        session,
        update(IdempotencyKey)
        .where(
            IdempotencyKey.id == expired.id,
            IdempotencyKey.claim == expired.number,
            IdempotencyKey.expires_ms <= database_ms(),
        )
        .values(
            claim=expired.number + 1, fingerprint=fingerprint, created_at=clock.now(),
            expires_ms=database_ms() + lease_seconds * 1000,
            status=None, headers=None, body=None,
        ),
    )  # fmt: skip
    return Claim(expired.id, expired.number + 1) if taken else None


def keep(
    session: Session, claim: Claim, *, status: int, headers: str, body: str, kept_seconds: int
) -> None:
    """Keep the answer of the request that holds the key, in the transaction of its effects.

    A claim whose time has passed counts as long as nobody took the key.

    Raises:
        KeyInProgress: somebody took it, or it was removed: the effects must not be kept either.
    """
    kept = _changed(
        session,
        update(IdempotencyKey)
        .where(*_held(claim))
        .values(
            status=status, headers=headers, body=body,
            expires_ms=database_ms() + kept_seconds * 1000,
        ),
    )  # fmt: skip
    if not kept:
        raise KeyInProgress("This took so long that another request with the key was let in.")


def free(session: Session, claim: Claim) -> None:
    """Let the key be used again, unless an answer is kept under it or somebody else has it."""
    _changed(session, delete(IdempotencyKey).where(*_held(claim)))


def forget_caller(session: Session, caller: str) -> None:
    """Forget all keys of a caller, with what is kept under them."""
    _changed(session, delete(IdempotencyKey).where(IdempotencyKey.caller == caller))


def _held(claim: Claim) -> tuple[Any, ...]:
    return (
        IdempotencyKey.id == claim.id,
        IdempotencyKey.claim == claim.number,
        IdempotencyKey.status.is_(None),
    )


def _changed(session: Session, statement: Any) -> bool:
    return session.connection().execute(statement).rowcount > 0
