"""Questions about keys."""

from __future__ import annotations

from sqlalchemy import Select, bindparam, select

from shop.db import database_ms
from shop.idempotency.models import IdempotencyKey

#: A key as it is now, for `db.read`; `over` is true when it has expired.
FOUND = select(
    IdempotencyKey.id,
    IdempotencyKey.fingerprint,
    IdempotencyKey.claim,
    (IdempotencyKey.expires_ms <= database_ms()).label("over"),
    IdempotencyKey.status,
    IdempotencyKey.headers,
    IdempotencyKey.body,
).where(
    IdempotencyKey.caller == bindparam("caller"),
    IdempotencyKey.operation == bindparam("operation"),
    IdempotencyKey.idempotency_key == bindparam("key"),
)


def expired(most: int) -> Select[int]:
    """Ids of some keys that have expired."""
    return select(IdempotencyKey.id).where(IdempotencyKey.expires_ms <= database_ms()).limit(most)
