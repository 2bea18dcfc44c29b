"""What the scheduler does with the history of its own runs."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from shop.jobs import queries
from shop.jobs.models import JobRun

#: How long the history of runs is kept.
KEPT = timedelta(days=30)
_BATCH = 500
#: A day's runs are some thousand, and this happens dozens of times a day.
_MOST_BATCHES = 10


def forget_runs(session: Session, moment: datetime) -> int:
    """Delete runs that ended 30 days ago or earlier, in small batches; how many there were.

    The newest run of a job stays, however old it is: the slots after it are those to catch up.
    """
    forgotten = 0
    for _ in range(_MOST_BATCHES):
        ids = session.scalars(queries.ended_before(moment - KEPT, _BATCH)).all()
        rows = delete(JobRun).where(JobRun.id.in_(ids))
        forgotten += session.connection().execute(rows).rowcount
        if len(ids) < _BATCH:
            break
    return forgotten
