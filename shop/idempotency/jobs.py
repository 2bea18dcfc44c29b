"""What the scheduler does with keys."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session

from shop.db import database_ms
from shop.idempotency import queries
from shop.idempotency.models import IdempotencyKey

_BATCH = 500
#: Enough for more than a hundred keys a second, day and night.
_MOST_BATCHES = 400


def forget_keys(session: Session, _moment: datetime) -> int:
    """Delete keys that have expired, in small batches; how many there were."""
    forgotten = 0
    for _ in range(_MOST_BATCHES):
        ids = session.scalars(queries.expired(_BATCH)).all()
        # Asked again while deleting: one may have been claimed anew in between.
        rows = delete(IdempotencyKey).where(
            IdempotencyKey.id.in_(ids), IdempotencyKey.expires_ms <= database_ms()
        )
        forgotten += session.connection().execute(rows).rowcount
        if len(ids) < _BATCH:
            break
    return forgotten
