"""Decides what this process runs: what is due, what waits, and what a dead process left behind.

The truth is `job_runs`: inserting (job, slot) claims a slot, so that any number of workers, hosts
and clocks runs each planned time once.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from flask import Flask
from sqlalchemy import exc

from shop import logs
from shop.db import db, read, reason, transactional
from shop.errors import Refusal, Unavailable
from shop.jobs import operations, queries
from shop.jobs.crew import Crew
from shop.jobs.models import CUT_OFF, RUNNING, JobRun
from shop.jobs.operations import Claim
from shop.jobs.pings import Pings
from shop.jobs.plan import Due, Job
from shop.jobs.slots import slot_name, slot_time
from shop.jobs.timing import DatabaseClock
from shop.leases import process_name

log = logs.get(__name__)

#: While no run is open anywhere, they are looked for in each third round only.
_IDLE_ROUNDS = 3
#: More due slots than these are not asked for beforehand: everything was away for long.
_MANY_SLOTS = 200


class Runner:
    """Any number of them may share a database. Call `tick` and `keep` once a second each, after the
    fork, and in threads of their own: hearts must beat while many jobs are claimed.
    """

    def __init__(
        self, app: Flask, jobs: Iterable[Job], *, silence_seconds: float, pings: Pings
    ) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.rounds = 0
        self._app = app
        self._silence_ms = int(silence_seconds * 1000)
        self._owner = process_name()
        self._clock = DatabaseClock()
        self._seen: dict[str, datetime] = {}
        self._something_open = True
        self._stopping = False
        self._tick_lock = threading.Lock()
        self._crew = Crew(app, self._owner, pings, self._resume_next)

    def tick(self) -> None:
        """End what takes too long, begin what is due."""
        try:
            with self._tick_lock, self._app.app_context():
                self._crew.cut_off()
                if self._stopping:
                    return
                if self._something_open or self.rounds % _IDLE_ROUNDS == 0:
                    self._look()
                self._claim_due()
                self.rounds += 1
        except (exc.SQLAlchemyError, Refusal) as error:
            log.warning("scheduler.tick-failed", reason=reason(error))

    def keep(self) -> None:
        """Say that what runs here is alive."""
        try:
            with self._app.app_context():
                self._crew.keep()
        except (exc.SQLAlchemyError, Refusal) as error:
            log.warning("scheduler.no-heartbeat", reason=reason(error))

    def stop(self) -> None:
        """Claim nothing more, and wait for what runs. Go on with `tick` and `keep` meanwhile, else
        others take the runs over.
        """
        with self._tick_lock:
            self._stopping = True
        self._crew.wait()

    def run_now(self, name: str, who: str) -> JobRun:
        """Run a job at once, outside its plan, and nothing else; answers when it is over.

        If a process died in a run of it, that one is run again instead.

        Raises:
            StillRuns: it runs already.
        """
        self._stopping = True
        job = self.jobs[name]

        @transactional
        def begin() -> Claim | None:
            session = db.session()
            left = operations.take_over(session, name, self._owner, self._silence_ms)
            if left is not None:
                return left
            run = operations.order(session, name, who)
            return operations.resume(session, job, run.id, self._owner)

        with self._app.app_context():
            claim = begin()
            if claim is None:
                raise operations.StillRuns(f"{name} was begun elsewhere just now.")
            self._crew.begin(job, claim)
            while not self._crew.wait(1.0):
                self.keep()
                self.tick()
            return db.session.get_one(JobRun, claim.id, populate_existing=True)

    def _look(self) -> None:
        """Take over runs whose process is silent, and begin those that wait."""
        asked = time.monotonic()
        found = read(queries.open_runs())
        now = found[0].now
        self._clock.set(now, asked)
        runs = [run for run in found if run.job in self.jobs]
        self._something_open = bool(runs)
        under_way = [run for run in runs if run.status == RUNNING]
        silent = {
            run.job for run in under_way
            if run.heartbeat_ms < now - self._silence_ms and not self._crew.holds(run.id)
        }  # fmt: skip
        for name in silent:
            self._take_over(self.jobs[name])
        waiting = [run for run in runs if run.status != RUNNING and run.due_ms <= now]
        self._begin_waiting(waiting, {run.job for run in under_way})

    def _begin_waiting(self, waiting: Iterable[Any], busy: set[str]) -> None:
        for run in waiting:
            job = self.jobs[run.job]
            if job.overlap == "allow" or job.name not in busy:
                busy.add(job.name)
                self._begin(job, transactional(operations.resume)(
                    db.session(), job, run.id, self._owner
                ))  # fmt: skip

    def _resume_next(self, job: Job) -> Claim | None:
        """Claim the run of a job that waits longest."""
        waiting = [] if self._stopping else read(queries.waiting(job.name))
        if not waiting:
            return None
        resumed = transactional(operations.resume)
        return resumed(db.session(), job, waiting[0].id, self._owner)

    def _take_over(self, job: Job) -> None:
        taken = transactional(operations.take_over)
        claim = taken(db.session(), job.name, self._owner, self._silence_ms)
        if claim is None:
            return
        why = None
        if job.on_crash == "skip":
            why = RuntimeError("its process died, and it is not run again")
        elif claim.attempts > job.attempts:
            why = RuntimeError("given up: every attempt was cut off")
        if why is None:
            log.warning("job.taken-over", job=job.name, slot=claim.slot, attempt=claim.attempts)
            self._begin(job, claim)
        else:
            self._crew.record_failure(job, claim, why, CUT_OFF, for_good=True)

    def _begin(self, job: Job, claim: Claim | None) -> None:
        if claim is not None:
            self._something_open = True
            self._crew.begin(job, claim)

    def _claim_due(self) -> None:
        moment = self._clock.now()
        plans = [(job, job.due(self._since(job), moment)) for job in self.jobs.values()]
        plans = [(job, due) for job, due in plans if due.slots]
        # Workers look at the same time: each begins with another job, so that they share the work.
        random.shuffle(plans)
        for job, due in plans:
            try:
                self._claim(job, due)
            except Unavailable as error:
                # Somebody holds this job's row for long. The others need not wait for that.
                log.warning("scheduler.job-is-locked", job=job.name, reason=reason(error))

    def _claim(self, job: Job, due: Due) -> None:
        slots = [slot_name(slot) for slot in due.slots]
        # Asked without a lock first: mostly another worker was faster.
        if len(slots) > _MANY_SLOTS or len(read(queries.taken(job.name, slots))) < len(slots):
            for claim in transactional(operations.take)(db.session(), job, due, self._owner):
                self._begin(job, claim)
            self._something_open = True
        self._seen[job.name] = due.slots[-1]

    def _since(self, job: Job) -> datetime:
        """Slots up to this one were seen to."""
        if job.name not in self._seen:
            last = read(queries.latest_slot(job.name))
            self._seen[job.name] = slot_time(last[0].slot) if last else _known_since(job.name)
        return self._seen[job.name]


def _known_since(name: str) -> datetime:
    # A new job has no past to catch up; its first slot is the next one.
    return transactional(lambda: operations.lock(db.session(), name).known_since)()
