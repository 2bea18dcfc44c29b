"""The scheduler: the table of jobs, and the timer embedded in every worker.

APScheduler is only the timer; see `shop.jobs.runner` for who runs what.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask
from sqlalchemy import exc
from sqlalchemy.orm import Session

from config import Config
from shop import clock, logs
from shop.admin import jobs as admin_jobs
from shop.ads import jobs as ad_jobs
from shop.audit import jobs as audit_jobs
from shop.audit.drain import Drain
from shop.db import reason
from shop.errors import Refusal
from shop.idempotency.jobs import forget_keys
from shop.jobs.jobs import forget_runs
from shop.jobs.pings import Pings
from shop.jobs.plan import Job
from shop.jobs.runner import Runner
from shop.jobs.slots import Daily, Every
from shop.limits.jobs import forget_counters
from shop.loops import Loop
from shop.mail.delivery import Delivery
from shop.mail.jobs import forget_mail
from shop.notifications.jobs import forget_notifications
from shop.orders.jobs import expire_unpaid, finish_refunds
from shop.orders.payments.base import Providers
from shop.products.jobs import publish, refresh_stale
from shop.transfers.files import Folder
from shop.transfers.jobs import forget_transfers
from shop.users.jobs import forget_sessions

log = logs.get(__name__)

#: What APScheduler must be told so that a late tick is made up for by one tick, never dropped.
_TIMER_DEFAULTS = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}


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
        *_ad_jobs(config, ZoneInfo(config.timezone)),
    )


def _ad_jobs(config: Config, zone: ZoneInfo) -> tuple[Job, ...]:
    """Ads are summed up for every hour and day, however long nobody was there to do it."""
    days = config.ad_events_days
    each = partial(Job, grace=timedelta(days=days), catch_up="all", in_pieces=True)
    return (
        each("ads-hourly", Every(3600), ad_jobs.hourly, most=24 * days),
        each("ads-daily", Daily(0, 10, zone), partial(ad_jobs.daily, zone), most=days),
        Job("ads-remove", Every(3600), partial(ad_jobs.remove, days, zone), in_pieces=True),
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
    """The timer of the jobs, the drain and the mail, and the loops beside them.

    Several per database are fine; each must be started after the fork.
    """

    def __init__(
        self,
        app: Flask,
        jobs: Sequence[Job],
        drain: Drain | None,
        *,
        silence_seconds: float,
        delivery: Delivery | None = None,
        ping_url: str = "",
        loops: Sequence[Loop] = (),
    ) -> None:
        self._pings = Pings(ping_url)
        self.runner = Runner(app, jobs, silence_seconds=silence_seconds, pings=self._pings)
        self._drain = drain
        self._delivery = delivery
        self._loops = loops
        self._timer: BackgroundScheduler | None = None

    def start(self) -> None:
        """Start the threads of the timer, in this process."""
        timer = BackgroundScheduler(timezone=UTC, job_defaults=_TIMER_DEFAULTS)
        each_second = [self.runner.keep, self.runner.tick]
        if self._drain is not None:
            each_second.append(self._keep_draining)
        if self._delivery is not None:
            each_second.append(self._deliver_mail)
        for work in each_second:
            timer.add_job(work, "interval", seconds=1, next_run_time=clock.now())
        for loop in self._loops:
            loop.start()
        self._pings.start()
        timer.start()
        self._timer = timer

    def stop(self) -> None:
        """Let running jobs and what is in hand end, and hand the drain's lead back."""
        if self._delivery is not None:
            self._delivery.stop()
        for loop in self._loops:
            # All of them, so that none waits for the piece of another.
            loop.stopping.set()
        for loop in self._loops:
            loop.stop()
        # The timer ticks on until the last run has ended: one without heartbeats is taken over.
        self.runner.stop()
        if self._timer is not None:
            self._timer.shutdown(wait=True)
            self._timer = None
        if self._drain is not None:
            self._drain.stop()
        self._pings.stop()

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
