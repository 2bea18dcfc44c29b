"""Claiming, keeping, taking over and finishing runs. Each statement decides in the database."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop import clock
from shop.db import database_ms
from shop.jobs.models import DONE, FAILED, RUNNING, JobRun, JobTotal


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this process holds; a plain value, so that it may go to another thread."""

    id: int
    job: str
    slot: str
    owner: str
    attempts: int


class Superseded(Exception):
    """Another process took this run over; what it did here must not be kept."""


def claim(session: Session, job: str, slot: str, owner: str) -> Claim | None:
    """Claim a slot by inserting it; None when it is claimed already."""
    taken = select(JobRun.id).where(JobRun.job == job, JobRun.slot == slot)
    if session.execute(taken).first() is not None:
        return None
    heartbeat = session.execute(select(database_ms())).scalar_one()
    run = JobRun(
        job=job, slot=slot, status=RUNNING, attempts=1, owner=owner, heartbeat_ms=heartbeat,
        started_at=clock.now(),
    )  # fmt: skip
    try:
        # A savepoint, so that losing the race does not undo the rest of the transaction.
        with session.begin_nested():
            session.add(run)
    except IntegrityError:
        return None
    return Claim(run.id, job, slot, owner, run.attempts)


def keep(session: Session, run_ids: list[int], owner: str) -> None:
    """Say that these runs are alive."""
    session.execute(
        update(JobRun)
        .where(JobRun.id.in_(run_ids), JobRun.owner == owner, JobRun.status == RUNNING)
        .values(heartbeat_ms=database_ms())
        .execution_options(synchronize_session=False)
    )


def take_over(session: Session, job: str, owner: str, silence_ms: int) -> Claim | None:
    """Take one run of `job` whose process has said nothing for `silence_ms`."""
    silent = (JobRun.status == RUNNING, JobRun.heartbeat_ms < database_ms() - silence_ms)
    lost = session.execute(
        select(JobRun.id, JobRun.slot, JobRun.attempts).where(JobRun.job == job, *silent).limit(1)
    ).first()
    if lost is None:
        return None
    taken = _changed(
        session,
        update(JobRun)
        .where(JobRun.id == lost.id, JobRun.attempts == lost.attempts, *silent)
        .values(owner=owner, attempts=lost.attempts + 1, heartbeat_ms=database_ms()),
    )
    return Claim(lost.id, job, lost.slot, owner, lost.attempts + 1) if taken else None


def finish(session: Session, run: Claim, error: str | None = None) -> None:
    """Record the end of a run, in the transaction of its effects.

    Raises:
        Superseded: the run is another's by now.
    """
    status = FAILED if error else DONE
    ended = _changed(
        session,
        update(JobRun)
        .where(
            JobRun.id == run.id,
            JobRun.owner == run.owner,
            JobRun.attempts == run.attempts,
            JobRun.status == RUNNING,
        )
        .values(status=status, error=error, finished_at=clock.now()),
    )
    if not ended:
        raise Superseded(f"{run.job} {run.slot} was taken over")
    _count(session, run.job, status)


def _count(session: Session, job: str, status: str) -> None:
    more = (
        update(JobTotal)
        .where(JobTotal.job == job, JobTotal.status == status)
        .values(runs=JobTotal.runs + 1)
    )
    if _changed(session, more):
        return
    try:
        with session.begin_nested():
            session.execute(insert(JobTotal).values(job=job, status=status, runs=1))
    except IntegrityError:
        # Another run of this job ended so for the first time, in the same moment.
        _changed(session, more)


def _changed(session: Session, statement: object) -> bool:
    options = {"synchronize_session": False}
    result = session.execute(statement, execution_options=options)  # type: ignore[call-overload]
    return isinstance(result, CursorResult) and result.rowcount == 1
