"""Questions to the history of runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import CompoundSelect, Select, exists, literal, or_, select, union_all
from sqlalchemy.orm import aliased

from shop.db import database_ms
from shop.jobs.models import DONE, FAILED, RUNNING, SKIPPED, WAITING, JobRun, JobState, JobTotal


def latest_slot(job: str) -> Select[str]:
    """The last planned slot of a job that has a run; slot names sort as times do."""
    planned = select(JobRun.slot).where(JobRun.job == job, JobRun.ordered_by.is_(None))
    return planned.order_by(JobRun.slot.desc()).limit(1)


def last_runs(jobs: Sequence[str]) -> CompoundSelect[*tuple[Any, ...]]:
    """Of each job: its name, whether it is disabled, the last slot that has a run, the last that
    needs no run any more, and when the last one that was done began and ended.
    """
    return union_all(*[_last_run(job) for job in jobs])


def _last_run(job: str) -> Select[*tuple[Any, ...]]:
    disabled = select(JobState.job).where(JobState.job == job, JobState.enabled.is_(False))
    settled = latest_slot(job).where(JobRun.status.in_((DONE, SKIPPED)))
    newest = JobRun.slot.desc()
    done = select(JobRun).where(JobRun.job == job, JobRun.status == DONE)
    began = done.with_only_columns(JobRun.started_at).order_by(newest).limit(1)
    ended = done.with_only_columns(JobRun.finished_at).order_by(newest).limit(1)
    return select(
        literal(job).label("job"),
        disabled.exists().label("disabled"),
        latest_slot(job).scalar_subquery().label("claimed"),
        settled.scalar_subquery().label("settled"),
        began.scalar_subquery().label("began"),
        ended.scalar_subquery().label("ended"),
    )


def totals() -> Select[str, str, int]:
    """How many runs of each job ended how, since ever."""
    return select(JobTotal.job, JobTotal.status, JobTotal.runs).order_by(
        JobTotal.job, JobTotal.status
    )


def states() -> Select[JobState]:
    """What was decided about jobs."""
    return select(JobState)


def open_runs() -> Select[*tuple[Any, ...]]:
    """The time of the database, and every run that is not over: one row without a run if none."""
    once = select(literal(1).label("once")).subquery()
    not_over = JobRun.status.in_((RUNNING, WAITING))
    return (
        select(
            database_ms().label("now"), JobRun.id, JobRun.job, JobRun.slot, JobRun.status,
            JobRun.heartbeat_ms, JobRun.due_ms,
        )
        .select_from(once.outerjoin(JobRun, not_over))
        .order_by(JobRun.slot)
    )  # fmt: skip


def waiting(job: str) -> Select[int]:
    """Runs of a job that wait and are due, the oldest slot first."""
    due = (JobRun.job == job, JobRun.status == WAITING, JobRun.due_ms <= database_ms())
    return select(JobRun.id).where(*due).order_by(JobRun.slot)


def unfinished(job: str) -> Select[JobRun]:
    """Runs of a job that are not over."""
    return select(JobRun).where(JobRun.job == job, JobRun.status.in_((RUNNING, WAITING)))


def running(job: str) -> Select[int]:
    """Runs of a job that are under way."""
    return select(JobRun.id).where(JobRun.status == RUNNING, JobRun.job == job)


def taken(job: str, slots: Sequence[str]) -> Select[str]:
    """Which of these slots of a job have a run."""
    return select(JobRun.slot).where(JobRun.job == job, JobRun.slot.in_(slots))


def newest_of_each(jobs: Sequence[str]) -> Select[JobRun]:
    """The run with the newest slot of each job."""
    newest = [
        select(JobRun.id).where(JobRun.job == job).order_by(JobRun.slot.desc()).limit(1)
        for job in jobs
    ]
    return select(JobRun).where(or_(*[JobRun.id == one.scalar_subquery() for one in newest]))


def under_way() -> Select[str]:
    """Jobs that run now."""
    return select(JobRun.job).where(JobRun.status == RUNNING)


def runs_of(job: str, before: str, limit: int) -> Select[JobRun]:
    """Runs of a job whose slot is before this one, the newest first."""
    older = select(JobRun).where(JobRun.job == job, JobRun.slot < before)
    return older.order_by(JobRun.slot.desc()).limit(limit)


def history(job: str | None, limit: int) -> Select[JobRun]:
    """The newest runs, of one job or of all."""
    newest = select(JobRun).order_by(JobRun.id.desc()).limit(limit)
    return newest if job is None else newest.where(JobRun.job == job)


def ended_before(moment: datetime, limit: int) -> Select[int]:
    """Runs that have ended by then, but for the newest planned one of each job."""
    later = aliased(JobRun)
    newer = exists().where(
        later.job == JobRun.job, later.slot > JobRun.slot, later.ordered_by.is_(None)
    )
    return (
        select(JobRun.id)
        .where(
            # No heart beats after the end: so says an index which runs are old enough.
            JobRun.status.in_((DONE, FAILED, SKIPPED)),
            JobRun.heartbeat_ms <= int(moment.timestamp() * 1000),
            JobRun.finished_at <= moment,
            newer,
        )
        .order_by(JobRun.id)
        .limit(limit)
    )
