"""Questions to the history of runs."""

from __future__ import annotations

from sqlalchemy import Select, func, select

from shop.jobs.models import JobRun


def latest_slot(job: str) -> Select[str | None]:
    """The last slot of a job that was ever claimed; slot names sort as times do."""
    return select(func.max(JobRun.slot)).where(JobRun.job == job)


def history(job: str | None, limit: int) -> Select[JobRun]:
    """The newest runs, of one job or of all."""
    newest = select(JobRun).order_by(JobRun.id.desc()).limit(limit)
    return newest if job is None else newest.where(JobRun.job == job)
