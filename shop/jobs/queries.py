"""Questions to the history of runs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import aliased

from shop.db import database_ms
from shop.jobs.models import DONE, FAILED, RUNNING, JobRun


def latest_slot(job: str) -> Select[str | None]:
    """The last slot of a job that was ever claimed; slot names sort as times do."""
    return select(func.max(JobRun.slot)).where(JobRun.job == job)


def silent(silence_ms: int) -> Select[str]:
    """Jobs that have a run whose process has said nothing for `silence_ms`."""
    return select(JobRun.job).where(
        JobRun.status == RUNNING, JobRun.heartbeat_ms < database_ms() - silence_ms
    )


def history(job: str | None, limit: int) -> Select[JobRun]:
    """The newest runs, of one job or of all."""
    newest = select(JobRun).order_by(JobRun.id.desc()).limit(limit)
    return newest if job is None else newest.where(JobRun.job == job)


def ended_before(moment: datetime, limit: int) -> Select[int]:
    """Runs that have ended by then, but for the newest of each job."""
    later = aliased(JobRun)
    newer = exists().where(later.job == JobRun.job, later.slot > JobRun.slot)
    return (
        select(JobRun.id)
        .where(
            # No heart beats after the end: so says an index which runs are old enough.
            JobRun.status.in_((DONE, FAILED)),
            JobRun.heartbeat_ms <= int(moment.timestamp() * 1000),
            JobRun.finished_at <= moment,
            newer,
        )
        .order_by(JobRun.id)
        .limit(limit)
    )
