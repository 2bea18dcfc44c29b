"""Questions to the history of runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import CompoundSelect, Select, exists, func, literal, select, union_all
from sqlalchemy.orm import aliased

from shop.db import database_ms
from shop.jobs.models import DONE, FAILED, RUNNING, JobRun, JobTotal


def latest_slot(job: str) -> Select[str | None]:
    """The last slot of a job that was ever claimed; slot names sort as times do."""
    return select(func.max(JobRun.slot)).where(JobRun.job == job)


def last_runs(jobs: Sequence[str]) -> CompoundSelect[*tuple[Any, ...]]:
    """Of each job: name, last slot that was claimed, last that was done, and when that ended."""
    return union_all(*[_last_run(job) for job in jobs])


def _last_run(job: str) -> Select[*tuple[Any, ...]]:
    done = (JobRun.job == job, JobRun.status == DONE)
    newest = JobRun.slot.desc()
    slot = select(JobRun.slot).where(*done).order_by(newest).limit(1)
    ended = select(JobRun.finished_at).where(*done).order_by(newest).limit(1)
    return select(
        literal(job).label("job"),
        latest_slot(job).scalar_subquery().label("claimed"),
        slot.scalar_subquery().label("done"),
        ended.scalar_subquery().label("ended"),
    )


def totals() -> Select[str, str, int]:
    """How many runs of each job ended how, since ever."""
    return select(JobTotal.job, JobTotal.status, JobTotal.runs).order_by(
        JobTotal.job, JobTotal.status
    )


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
