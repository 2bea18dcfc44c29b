"""The scheduler: the table of jobs, and the timer embedded in every worker.

APScheduler is only the timer. The truth is `job_runs`: inserting (job, slot) claims a slot, so
that any number of workers, hosts and clocks runs each planned time once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask
from sqlalchemy import exc
from sqlalchemy.orm import Session

from config import Config
from shop import clock, logs, provenance
from shop.admin import jobs as admin_jobs
from shop.audit import jobs as audit_jobs
from shop.audit.drain import Drain
from shop.crashes import crash_point
from shop.db import db, is_away, reason, transactional
from shop.errors import Refusal, Unavailable
from shop.idempotency.jobs import forget_keys
from shop.jobs import operations, queries
from shop.jobs.jobs import forget_runs
from shop.jobs.models import JobRun
from shop.jobs.operations import Claim
from shop.jobs.slots import Daily, Every, Trigger, due, slot_name, slot_time
from shop.leases import process_name
from shop.limits.jobs import forget_counters
from shop.mail.delivery import Delivery
from shop.mail.jobs import forget_mail
from shop.notifications.jobs import forget_notifications
from shop.orders.jobs import expire_unpaid, finish_refunds
from shop.orders.payments.base import Providers
from shop.products.jobs import publish, refresh_stale
from shop.transfers.files import Folder
from shop.transfers.jobs import forget_transfers
from shop.transfers.work import Transfers
from shop.users.jobs import forget_sessions

log = logs.get(__name__)

_TICK_SECONDS = 1.0
#: What APScheduler must be told so that a late tick is made up for by one tick, never dropped.
_TIMER_DEFAULTS = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}


@dataclass(frozen=True, slots=True)
class Job:
    """A job: what runs when.

    `work(session, slot)` runs inside one transaction together with the record that it is done,
    so that what it changes in the database happens exactly once. After a time in which nobody
    ran it, slots of the last `grace` are caught up: the latest only, or `every` one.
    """

    name: str
    trigger: Trigger
    work: Callable[[Session, datetime], Any]
    grace: timedelta = timedelta(hours=12)
    every: bool = False
    attempts: int = 3
    #: Its work opens transactions of its own, and is begun anew when it was cut off between them.
    in_pieces: bool = False


class Thread(Protocol):
    """Something that works in a thread of its own as long as the scheduler runs."""

    def start(self) -> None:
        """Start the thread, in this process."""

    def stop(self) -> None:
        """Let what is in hand end."""


def jobs_of(config: Config, providers: Providers) -> tuple[Job, ...]:
    """The jobs of this shop, which takes payments by these providers."""
    afternoon = Daily(14, 0, ZoneInfo(config.timezone))
    digest = partial(admin_jobs.digest, afternoon, config.currency, config.low_stock)
    return (
        Job("digest", afternoon, digest, in_pieces=True),
        Job("reconcile", Every(20 * 60), audit_jobs.reconcile),
        Job("forget", Every(20 * 60), partial(_forget, config)),
        Job("orders", Every(20 * 60), partial(_see_to_orders, providers), in_pieces=True),
        Job("prune", Every(20 * 60), partial(_prune, config), in_pieces=True),
        Job("publish", Every(60), publish),
        Job("refresh-listings", Every(60), refresh_stale),
    )


def _forget(config: Config, session: Session, slot: datetime) -> None:
    """Delete what has expired, a bounded number of rows of each kind."""
    forget_sessions(session, slot)
    forget_mail(session, slot)
    forget_counters(session, slot)
    forget_keys(session, slot)
    forget_runs(session, slot)
    audit_jobs.forget_sent(config.audit_retention_days, session, slot)
    forget_notifications(session, slot, config.keep_notifications_days)
    folder = Folder(config.var, config.max_import_bytes)
    forget_transfers(session, slot, folder, config.keep_transfers_days)


def _prune(config: Config, session: Session, slot: datetime) -> None:
    """Remove old entries of the audit log that every sink has."""
    audit_jobs.prune(config.audit_retention_days, config.active_sinks, session, slot)


def _see_to_orders(providers: Providers, _session: Session, _slot: datetime) -> None:
    """Cancel orders that were not paid in time, and see refunds through."""
    expire_unpaid()
    finish_refunds(providers)


class Scheduler:
    """Claims and runs due slots. Several per database are fine; each must be started after fork."""

    def __init__(
        self,
        app: Flask,
        jobs: Sequence[Job],
        drain: Drain | None,
        *,
        silence_seconds: float,
        delivery: Delivery | None = None,
        transfers: Transfers | None = None,
        threads: Sequence[Thread] = (),
    ) -> None:
        self.jobs = {job.name: job for job in jobs}
        self._app = app
        self._drain = drain
        self._delivery = delivery
        self._transfers = transfers
        self._threads = threads
        self._silence_ms = int(silence_seconds * 1000)
        self._owner = process_name()
        self._seen: dict[str, datetime] = {}
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._tick_lock = threading.Lock()
        self._timer: BackgroundScheduler | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._rounds = 0

    def start(self) -> None:
        """Start the threads of the timer, in this process."""
        timer = BackgroundScheduler(timezone=UTC, job_defaults=_TIMER_DEFAULTS)
        timer.add_job(self._tick, "interval", seconds=_TICK_SECONDS, next_run_time=clock.now())
        if self._drain is not None:
            timer.add_job(
                self._keep_draining, "interval", seconds=1,
                next_run_time=clock.now(),
            )  # fmt: skip
        if self._delivery is not None:
            timer.add_job(
                self._deliver_mail, "interval", seconds=1,
                next_run_time=clock.now(),
            )  # fmt: skip
        if self._transfers is not None:
            self._transfers.start()
        for thread in self._threads:
            thread.start()
        # Runs get threads of their own: a tick that adds work to the timer would wait for a lock
        # that `shutdown` holds while it waits for the tick.
        self._pool = ThreadPoolExecutor(max(4, len(self.jobs)), thread_name_prefix="job")
        timer.start()
        self._timer = timer

    def stop(self) -> None:
        """Let running jobs and what is in hand end, and hand the drain's lead back."""
        if self._delivery is not None:
            self._delivery.stop()
        if self._transfers is not None:
            self._transfers.stop()
        for thread in self._threads:
            thread.stop()
        # The timer goes on to tick, without claiming, until the last run has ended: a run without
        # heartbeats would be taken over elsewhere.
        with self._tick_lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
        if self._timer is not None:
            self._timer.shutdown(wait=True)
            self._timer = None
        if self._drain is not None:
            self._drain.stop()

    def run_now(self, name: str) -> JobRun | None:
        """Run a job at once, outside its plan, under the present second as its slot."""
        with self._app.app_context():
            slot = slot_name(clock.now())
            run = self._claim(self.jobs[name], slot)
            if run is not None:
                self._execute(self.jobs[name], run)
                return db.session.get(JobRun, run.id, populate_existing=True)
        return None

    def _keep_draining(self) -> None:
        assert self._drain is not None
        try:
            self._drain.keep_alive()
        except exc.SQLAlchemyError as error:
            log.warning("drain.cannot-lead", reason=reason(error))

    def _deliver_mail(self) -> None:
        assert self._delivery is not None
        try:
            self._delivery.deliver_due()
        except (exc.SQLAlchemyError, Refusal) as error:
            log.warning("mail.cannot-deliver", reason=reason(error))
        except Exception:
            log.exception("mail.delivery-failed")

    def _tick(self) -> None:
        try:
            with self._tick_lock, self._app.app_context():
                if self._running:
                    self._keep_runs()
                if self._pool is None:
                    return
                for job in self.jobs.values():
                    self._claim_due(job)
                self._rounds += 1
                if self._rounds % 5 == 0:
                    self._rescue()
        except (exc.SQLAlchemyError, Refusal) as error:
            log.warning("scheduler.tick-failed", reason=reason(error))

    def _claim_due(self, job: Job) -> None:
        if job.name not in self._seen:
            self._seen[job.name] = self._last_slot(job)
        moment = clock.now()
        since = max(self._seen[job.name], moment - job.grace)
        for slot in due(job.trigger, since, moment, every=job.every):
            run = self._claim(job, slot_name(slot))
            self._seen[job.name] = slot
            if run is not None:
                self._begin(job, run)

    def _last_slot(self, job: Job) -> datetime:
        # A new job has no past to catch up; its first slot is the next one.
        last = db.session.execute(queries.latest_slot(job.name)).scalar_one()
        return clock.now() if last is None else slot_time(last)

    @transactional
    def _claim(self, job: Job, slot: str) -> Claim | None:
        return operations.claim(db.session(), job.name, slot, self._owner)

    def _begin(self, job: Job, run: Claim) -> None:
        with self._lock:
            self._running.add(run.id)
        assert self._pool is not None
        self._pool.submit(self._execute, job, run)

    def _execute(self, job: Job, run: Claim) -> None:
        token = provenance.actor.set(f"jobs/{job.name}")
        log.info("job.started", job=job.name, slot=run.slot, attempt=run.attempts)
        status = "failed"
        try:
            with self._app.app_context():
                status = self._work(job, run)
        finally:
            with self._lock:
                self._running.discard(run.id)
            log.info("job.finished", job=job.name, slot=run.slot, status=status)
            provenance.actor.reset(token)

    def _work(self, job: Job, run: Claim) -> str:
        def work() -> None:
            job.work(db.session(), slot_time(run.slot))
            crash_point("in-job")

        @transactional
        def finish() -> None:
            if not job.in_pieces:
                work()
            operations.finish(db.session(), run)

        try:
            if job.in_pieces:
                work()
            finish()
        except operations.Superseded:
            return "superseded"
        except Exception as error:
            log.exception("job.failed", job=job.name, slot=run.slot)
            if is_away(error) or isinstance(error, Unavailable):
                # Not the job's fault. The run stays `running` without a heartbeat, and whoever is
                # able to takes it over.
                return "abandoned"
            return self._record_failure(run, error)
        return "done"

    def _record_failure(self, run: Claim, error: Exception) -> str:
        try:
            transactional(operations.finish)(db.session(), run, repr(error))
        except (operations.Superseded, exc.SQLAlchemyError, Refusal):
            return "abandoned"
        return "failed"

    def _keep_runs(self) -> None:
        with self._lock:
            ids = sorted(self._running)
        transactional(operations.keep)(db.session(), ids, self._owner)

    def _rescue(self) -> None:
        # Asked without a lock first: mostly there is nothing to rescue.
        silent = set(db.session.scalars(queries.silent(self._silence_ms)))
        take_over = transactional(operations.take_over)
        for job in [self.jobs[name] for name in silent if name in self.jobs]:
            run = take_over(db.session(), job.name, self._owner, self._silence_ms)
            if run is not None and run.attempts > job.attempts:
                self._record_failure(run, RuntimeError("given up: every attempt was cut off"))
            elif run is not None:
                log.warning("job.taken-over", job=job.name, slot=run.slot, attempt=run.attempts)
                self._begin(job, run)
