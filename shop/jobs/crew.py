"""The runs of this process: a thread each, heartbeats, and an end for what takes too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from flask import Flask
from sqlalchemy import exc

from shop import logs, provenance
from shop.crashes import crash_point
from shop.db import db, is_away, transactional
from shop.errors import Refusal, Unavailable
from shop.jobs import operations
from shop.jobs.fence import Fence, TimedOut, raise_in
from shop.jobs.models import DONE, FAILED, TIMED_OUT, WAITING
from shop.jobs.operations import Claim, Superseded
from shop.jobs.pings import Pings
from shop.jobs.plan import Job
from shop.jobs.slots import slot_time

log = logs.get(__name__)

#: How a run may end besides the ways that its row tells.
_SUPERSEDED, _ABANDONED, _CUT = "superseded", "abandoned", "timed-out"


@dataclass(slots=True, eq=False)
class Run:
    """A run in this process."""

    job: Job
    claim: Claim
    fence: Fence
    thread: threading.Thread = field(default_factory=threading.current_thread)
    began: float = field(default_factory=time.monotonic)


class Crew:
    """Works on claims. `following` is asked after each for another one of the same job."""

    def __init__(
        self, app: Flask, owner: str, pings: Pings, following: Callable[[Job], Claim | None]
    ) -> None:
        self._app = app
        self._owner = owner
        self._pings = pings
        self._following = following
        self._runs: list[Run] = []
        self._hung: list[Run] = []
        self._changed = threading.Condition()

    def begin(self, job: Job, claim: Claim) -> None:
        """Run it in a thread of its own."""
        run = self._add(job, claim)
        # A daemon, because what hangs must not keep the process from ending.
        run.thread = threading.Thread(target=self._work, args=(run,), daemon=True)
        run.thread.start()

    def holds(self, run_id: int) -> bool:
        """Whether a run is under way here."""
        return any(run.claim.id == run_id for run in list(self._runs))

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is under way; False when the time was over before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs, seconds)

    def keep(self) -> None:
        """Say that the runs are alive."""
        ids = sorted(run.claim.id for run in list(self._runs))
        if ids:
            transactional(operations.keep)(db.session(), ids, self._owner)

    def cut_off(self) -> None:
        """End the runs that take longer than their jobs allow."""
        now = time.monotonic()
        self._hung = [run for run in self._hung if run.thread.is_alive()]
        for run in self._hung:
            raise_in(run.thread)
        for run in [run for run in list(self._runs) if now - run.began > run.job.timeout]:
            log.error("job.timed-out", job=run.job.name, slot=run.claim.slot)
            run.fence.cut(db.engine)
            self._hung.append(run)
            # No heart beats for it from here on: should this fail, another process takes it over.
            self._leave(run)
            why = TimeoutError(f"took longer than {run.job.timeout:g} s")
            self.record_failure(run.job, run.claim, why, TIMED_OUT)

    def record_failure(
        self, job: Job, claim: Claim, error: Exception, reason: str | None = None,
        *, for_good: bool = False,
    ) -> str:  # fmt: skip
        """Put the run off to another attempt, or write down that it has failed; which of them."""
        again = not for_good and claim.attempts < job.attempts
        try:
            if again:
                seconds = job.delay(claim.attempts)
                transactional(operations.put_off)(db.session(), claim, repr(error), seconds)
            else:
                transactional(operations.finish)(db.session(), claim, repr(error), reason)
        except (Superseded, exc.SQLAlchemyError, Refusal):
            return _ABANDONED
        if not again:
            self._pings.send(job.name, "/fail")
        return WAITING if again else FAILED

    def _add(self, job: Job, claim: Claim) -> Run:
        run = Run(job, claim, Fence(claim, each=job.in_pieces))
        with self._changed:
            self._runs.append(run)
        return run

    def _leave(self, run: Run) -> None:
        with self._changed:
            if run in self._runs:
                self._runs.remove(run)
            self._changed.notify_all()

    def _work(self, run: Run | None) -> None:
        with suppress(TimedOut):
            while run is not None:
                following = None
                try:
                    self._carry_out(run)
                    following = self._next(run)
                finally:
                    self._leave(run)
                run = following

    def _next(self, run: Run) -> Run | None:
        if run.fence.is_cut:
            return None
        with suppress(exc.SQLAlchemyError, Refusal), self._app.app_context():
            claim = self._following(run.job)
            return None if claim is None else self._add(run.job, claim)
        return None

    def _carry_out(self, run: Run) -> None:
        token = provenance.actor.set(f"jobs/{run.job.name}")
        facts = {"job": run.job.name, "slot": run.claim.slot}
        log.info("job.started", **facts, attempt=run.claim.attempts)
        self._pings.send(run.job.name, "/start")
        status = _CUT
        try:
            with self._app.app_context():
                status = self._outcome(run)
        finally:
            log.info("job.finished", **facts, status=status)
            provenance.actor.reset(token)
        if status == DONE:
            self._pings.send(run.job.name)

    def _outcome(self, run: Run) -> str:
        try:
            _perform(run)
        except Superseded:
            return _CUT if run.fence.is_cut else _SUPERSEDED
        except Exception as error:
            if run.fence.is_cut:
                return _CUT
            log.exception("job.failed", job=run.job.name, slot=run.claim.slot)
            if is_away(error) or isinstance(error, Unavailable):
                # Not the job's fault. The run stays `running` without a heartbeat, and whoever is
                # able to takes it over.
                return _ABANDONED
            return self.record_failure(run.job, run.claim, error)
        return DONE


def _perform(run: Run) -> None:
    """The work and the record that it is done."""

    def work() -> None:
        run.job.work(db.session(), slot_time(run.claim.slot))
        crash_point("in-job")

    @transactional
    def finish() -> None:
        if not run.job.in_pieces:
            work()
        operations.finish(db.session(), run.claim)

    with run.fence:
        if run.job.in_pieces:
            work()
        else:
            finish()
    if run.job.in_pieces:
        finish()
