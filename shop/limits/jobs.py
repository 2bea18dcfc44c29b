"""What the scheduler does with the counters."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shop.db import database_ms
from shop.limits.models import RateCounter

_BATCH = 500
_MOST_BATCHES = 40


def forget_counters(session: Session, _moment: datetime) -> int:
    """Delete counters whose window has ended; how many there were.

    Only the database's clock says what has ended. The batches are small, and a flood of counters
    is left to the next time, so that nobody who counts waits long for this.
    """
    forgotten = 0
    for _ in range(_MOST_BATCHES):
        over = RateCounter.ends_ms <= database_ms()
        names = session.scalars(select(RateCounter.name).where(over).limit(_BATCH)).all()
        # Asked again while deleting: some may have begun anew in between.
        rows = delete(RateCounter).where(RateCounter.name.in_(names), over)
        forgotten += session.connection().execute(rows).rowcount
        if len(names) < _BATCH:
            break
    return forgotten
