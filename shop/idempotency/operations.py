"""Claiming a key, keeping an answer under it, freeing it. Each statement decides in the database.

The rows are no objects here: what counts is what the database has at the moment of the statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, bindparam, delete, insert, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from shop import clock
from shop.bundles import Bundle
from shop.db import database_ms, is_conflict, is_duplicate, write_alone
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


# Made once: every request with a key needs two of them.
_LASTING: Any = database_ms() + bindparam("lasting_ms", type_=BigInteger())
_CLAIM = insert(IdempotencyKey).values(
    {column: bindparam(column) for column in (
        "caller", "operation", "idempotency_key", "fingerprint", "claim", "created_at",
    )} | {"expires_ms": _LASTING}
)  # fmt: skip
_HELD = (
    IdempotencyKey.id == bindparam("key_id"),
    IdempotencyKey.claim == bindparam("number"),
    IdempotencyKey.status.is_(None),
)
_KEEP = (
    update(IdempotencyKey)
    .where(*_HELD)
    .values(
        status=bindparam("answer_status"), headers=bindparam("answer_headers"),
        body=bindparam("answer_body"), expires_ms=_LASTING,
    )
)  # fmt: skip
_FREE = delete(IdempotencyKey).where(*_HELD)


def claim_new(name: KeyName, fingerprint: str, lease_seconds: int) -> Claim | None:
    """Claim a key that nobody has used, in a transaction of its own.

    None when somebody has, or it cannot be said just now: look, and try again.
    """
    row = {
        "caller": name.caller, "operation": name.operation, "idempotency_key": name.key,
        "fingerprint": fingerprint, "claim": 1, "created_at": clock.now(),
        "lasting_ms": lease_seconds * 1000,
    }  # fmt: skip
    try:
        result = write_alone(_CLAIM, row)
    except IntegrityError as error:
        if is_duplicate(error, "idempotency_keys", "caller", "operation", "idempotency_key"):
            return None
        raise
    except DBAPIError as error:
        # The request that has the key may be keeping its answer at this moment.
        if is_conflict(error) or error.connection_invalidated:
            return None
        raise
    return Claim(result.lastrowid, 1)


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
    bundle: Bundle, claim: Claim, *, status: int, headers: str, body: str, kept_seconds: int
) -> None:
    """Keep the answer of the request that holds the key, in the transaction of its effects.

    A claim whose time has passed counts as long as nobody took the key. Once the bundle is sent it
    raises KeyInProgress if somebody did, or the key was removed: the effects must not be kept
    either.
    """
    answer = {"answer_status": status, "answer_headers": headers, "answer_body": body}
    kept = bundle.ask(_KEEP, answer | _named(claim) | {"lasting_ms": kept_seconds * 1000})

    def check() -> None:
        if not kept.rowcount:
            raise KeyInProgress("This took so long that another request with the key was let in.")

    bundle.then(check)


def free(session: Session, claim: Claim) -> None:
    """Let the key be used again, unless an answer is kept under it or somebody else has it."""
    _changed(session, _FREE, _named(claim))


def forget_caller(session: Session, caller: str) -> None:
    """Forget all keys of a caller, with what is kept under them."""
    _changed(session, delete(IdempotencyKey).where(IdempotencyKey.caller == caller))


def _named(claim: Claim) -> dict[str, int]:
    return {"key_id": claim.id, "number": claim.number}


def _changed(session: Session, statement: Any, values: dict[str, Any] | None = None) -> bool:
    return session.connection().execute(statement, values).rowcount > 0
