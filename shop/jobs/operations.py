"""Claiming, keeping, taking over and finishing runs. Each statement decides in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop import clock
from shop.db import database_ms, is_duplicate
from shop.errors import Conflict
from shop.jobs import queries
from shop.jobs.models import (
    DISABLED,
    DONE,
    FAILED,
    ORDERED,
    OVERLAP,
    OVERTAKEN,
    RETRY,
    RUNNING,
    SKIPPED,
    TOO_OLD,
    WAITING,
    JobRun,
    JobState,
    JobTotal,
)
from shop.jobs.plan import Due, Job
from shop.jobs.slots import slot_name

_NOT_FETCHED = {"synchronize_session": False}


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


class StillRuns(Conflict):
    """A run of the job is not over."""


def lock(session: Session, job: str) -> JobState:
    """The job's state. Claims, orders and switches of one job wait here for each other."""
    wanted = select(JobState).where(JobState.job == job).with_for_update()
    wanted = wanted.execution_options(populate_existing=True)
    state = session.scalars(wanted).one_or_none()
    if state is None:
        now = datetime.fromtimestamp(_now_ms(session) / 1000, UTC)
        try:
            with session.begin_nested():
                session.add(JobState(job=job, enabled=True, known_since=now))
        except IntegrityError:
            # Another process came first.
            pass
        state = session.scalars(wanted).one()
    return state


def take(session: Session, job: Job, due: Due, owner: str) -> list[Claim]:
    """Claim what is due, and leave a row for each slot that does not run, or not yet.

    Slots that somebody has seen to already are left alone.
    """
    if not lock(session, job.name).enabled:
        _skip(session, job.name, [*due.passed, *due.to_run], DISABLED)
        return []
    _skip(session, job.name, due.passed, TOO_OLD)
    busy = _is_busy(session, job)
    if busy and job.overlap == "skip":
        _skip(session, job.name, due.to_run, OVERLAP)
        return []
    claims = []
    for slot in map(slot_name, due.to_run):
        run = _wait(session, job.name, slot) if busy else claim(session, job.name, slot, owner)
        if isinstance(run, Claim):
            claims.append(run)
            busy = job.overlap != "allow"
        if job.catch_up != "all":
            _give_way(session, job.name, slot)
    return claims


def claim(session: Session, job: str, slot: str, owner: str) -> Claim | None:
    """Claim a slot by inserting it; None when it is claimed already."""
    run = JobRun(status=RUNNING, attempts=1, owner=owner, started_at=clock.now())
    if not _insert(session, run, job, slot):
        return None
    return Claim(run.id, job, slot, owner, run.attempts)


def resume(session: Session, job: Job, run_id: int, owner: str) -> Claim | None:
    """Begin a run that waits; None when it need not, or must not yet."""
    state = lock(session, job.name)
    run = session.get_one(JobRun, run_id, populate_existing=True)
    if run.status != WAITING or _is_busy(session, job):
        return None
    if not state.enabled and run.ordered_by is None:
        run.status, run.reason, run.finished_at = SKIPPED, DISABLED, clock.now()
        _count(session, job.name, SKIPPED)
        return None
    run.status, run.reason, run.due_ms, run.owner = RUNNING, None, None, owner
    run.attempts, run.heartbeat_ms, run.started_at = run.attempts + 1, _now_ms(session), clock.now()
    return Claim(run.id, run.job, run.slot, owner, run.attempts)


def order(session: Session, job: str, who: str) -> JobRun:
    """Ask for a run outside the plan. Who asks again before it has begun gets the same one.

    Raises:
        StillRuns: one is under way.
    """
    lock(session, job)
    open_ = session.scalars(queries.unfinished(job)).all()
    if any(run.status == RUNNING for run in open_):
        raise StillRuns(f"A run of {job} is under way. Wait for its end.")
    ordered = [run for run in open_ if run.ordered_by is not None]
    if ordered:
        return ordered[0]
    slot = clock.now()
    while True:
        run = JobRun(status=WAITING, reason=ORDERED, attempts=0, owner="", ordered_by=who)
        if _insert(session, run, job, slot_name(slot)):
            return run
        slot += timedelta(seconds=1)


def switch(session: Session, job: str, enabled: bool, who: str) -> JobState:
    """Let the plan of a job rest, or go on."""
    state = lock(session, job)
    if state.enabled != enabled:
        state.enabled, state.changed_by, state.changed_at = enabled, who, clock.now()
    return state


def keep(session: Session, run_ids: Sequence[int], owner: str) -> None:
    """Say that these runs are alive."""
    session.execute(
        update(JobRun)
        .where(JobRun.id.in_(run_ids), JobRun.owner == owner, JobRun.status == RUNNING)
        .values(heartbeat_ms=database_ms())
        .execution_options(**_NOT_FETCHED)
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
        .values(
            owner=owner, attempts=lost.attempts + 1, heartbeat_ms=database_ms(),
            started_at=clock.now(),
        ),
    )  # fmt: skip
    return Claim(lost.id, job, lost.slot, owner, lost.attempts + 1) if taken else None


def finish(
    session: Session, run: Claim, error: str | None = None, reason: str | None = None
) -> None:
    """Record the end of a run, in the transaction of its effects.

    Raises:
        Superseded: the run is another's by now.
    """
    status = FAILED if error else DONE
    _end(session, run, status=status, error=error, reason=reason, finished_at=clock.now())
    _count(session, run.job, status)


def put_off(session: Session, run: Claim, error: str, seconds: float) -> None:
    """Record that an attempt has failed, and that there will be another one.

    Raises:
        Superseded: the run is another's by now.
    """
    due = database_ms() + int(seconds * 1000)
    _end(session, run, status=WAITING, error=error, reason=RETRY, due_ms=due)


def confirm(session: Session, run: Claim) -> None:
    """Fence a transaction: see that the run is this process's still, and keep it so.

    Raises:
        Superseded: the run is another's by now.
    """
    row = select(JobRun.id).where(*_mine(run)).with_for_update(read=True)
    if session.execute(row).first() is None:
        raise Superseded(f"{run.job} {run.slot} was taken over")


def _end(session: Session, run: Claim, **values: Any) -> None:
    if not _changed(session, update(JobRun).where(*_mine(run)).values(**values)):
        raise Superseded(f"{run.job} {run.slot} was taken over")


def _mine(run: Claim) -> tuple[Any, ...]:
    return (
        JobRun.id == run.id,
        JobRun.owner == run.owner,
        JobRun.attempts == run.attempts,
        JobRun.status == RUNNING,
    )


def _is_busy(session: Session, job: Job) -> bool:
    if job.overlap == "allow":
        return False
    return session.scalars(queries.running(job.name)).first() is not None


def _insert(session: Session, run: JobRun, job: str, slot: str) -> bool:
    """Insert the run of a slot; False when there is one already."""
    taken = select(JobRun.id).where(JobRun.job == job, JobRun.slot == slot)
    if session.execute(taken).first() is not None:
        return False
    run.job, run.slot, run.heartbeat_ms = job, slot, _now_ms(session)
    if run.status == WAITING:
        run.due_ms = run.heartbeat_ms
    try:
        # A savepoint, so that losing the race does not undo the rest of the transaction.
        with session.begin_nested():
            session.add(run)
    except IntegrityError as error:
        if not is_duplicate(error, "job_runs", "job", "slot"):
            raise
        return False
    return True


def _wait(session: Session, job: str, slot: str) -> bool:
    run = JobRun(status=WAITING, reason=OVERLAP, attempts=0, owner="")
    return _insert(session, run, job, slot)


def _skip(session: Session, job: str, slots: Sequence[datetime], reason: str) -> None:
    names = [slot_name(slot) for slot in slots]
    if not names:
        return
    known = set(
        session.scalars(select(JobRun.slot).where(JobRun.job == job, JobRun.slot.in_(names)))
    )
    same = {
        "job": job, "status": SKIPPED, "reason": reason, "attempts": 0, "owner": "",
        "heartbeat_ms": _now_ms(session), "finished_at": clock.now(),
    }  # fmt: skip
    rows = [same | {"slot": name} for name in names if name not in known]
    if rows:
        session.execute(insert(JobRun), rows)
        _count(session, job, SKIPPED, len(rows))


def _give_way(session: Session, job: str, slot: str) -> None:
    """Of slots that wait only the newest runs: older ones end here."""
    older = (
        JobRun.job == job, JobRun.slot < slot, JobRun.status == WAITING,
        JobRun.ordered_by.is_(None),
    )  # fmt: skip
    for was, status, reason in ((OVERLAP, SKIPPED, OVERLAP), (RETRY, FAILED, OVERTAKEN)):
        ended = session.execute(
            update(JobRun)
            .where(*older, JobRun.reason == was)
            .values(status=status, reason=reason, finished_at=clock.now()),
            execution_options=_NOT_FETCHED,
        )
        assert isinstance(ended, CursorResult)
        if ended.rowcount:
            _count(session, job, status, ended.rowcount)


def _now_ms(session: Session) -> int:
    return session.execute(select(database_ms())).scalar_one()


def _count(session: Session, job: str, status: str, runs: int = 1) -> None:
    more = (
        update(JobTotal)
        .where(JobTotal.job == job, JobTotal.status == status)
        .values(runs=JobTotal.runs + runs)
    )
    if _changed(session, more):
        return
    try:
        with session.begin_nested():
            session.execute(insert(JobTotal).values(job=job, status=status, runs=runs))
    except IntegrityError:
        # Another run of this job ended so for the first time, in the same moment.
        _changed(session, more)


def _changed(session: Session, statement: Any) -> bool:
    result = session.execute(statement, execution_options=_NOT_FETCHED)
    return isinstance(result, CursorResult) and result.rowcount == 1
