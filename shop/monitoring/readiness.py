"""Whether the shop can serve, and what of it does not work as it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shop import clock, leases
from shop.db import read
from shop.jobs import queries as job_queries
from shop.jobs.slots import Trigger, slot_name
from shop.monitoring.lag import Lag, lag_of
from shop.monitoring.orders import OrderCount

#: An older event that is still not published is news.
LATE_SECONDS = 60.0
#: A job has so long after its slot until it is late: it may be taken over once, and work a while.
_JOB_PATIENCE = timedelta(seconds=120)


@dataclass(slots=True)
class Watch:
    """What is watched: the sinks that events go to, and when the jobs are due."""

    sinks: Sequence[str]
    plans: Mapping[str, Trigger]
    orders: OrderCount = field(default_factory=OrderCount)


def readiness(watch: Watch) -> dict[str, Any]:
    """The state as it is shown; `status` is ready, degraded or unavailable."""
    try:
        read(text("SELECT 1"))
        return _in_detail(watch)
    except SQLAlchemyError:
        return {"status": "unavailable", "dependencies": {"database": "down"}}


def _in_detail(watch: Watch) -> dict[str, Any]:
    dependencies = {"database": "up"}
    late = late_jobs(watch.plans)
    body = {"status": "ready", "dependencies": dependencies, "jobs": {"late": late}}
    sound = not late
    if watch.sinks:
        lag, led = lag_of(watch.sinks), bool(read(leases.holder("drain")))
        dependencies |= {name: _state(name, lag, led) for name in watch.sinks}
        body["drain"] = {
            "leader": led,
            "backlog": lag.backlog,
            "oldest_seconds": round(lag.oldest_seconds, 3),
        }
        late_events = lag.oldest_seconds > LATE_SECONDS
        sound = sound and led and not late_events and not lag.failing & set(watch.sinks)
    return body | {"status": "ready" if sound else "degraded"}


def _state(name: str, lag: Lag, led: bool) -> str:
    if not led:
        return "unknown"
    return "down" if name in lag.failing else "up"


def late_jobs(plans: Mapping[str, Trigger]) -> list[str]:
    """Jobs whose last slot is over and was neither done nor skipped, by name.

    A job that never ran is new, and one that is disabled is never late.
    """
    due = clock.now() - _JOB_PATIENCE
    late = []
    for last in read(job_queries.last_runs(sorted(plans))):
        if last.disabled or not last.claimed:
            continue
        expected = slot_name(plans[last.job].latest(due))
        settled = last.settled >= expected if last.settled else last.claimed > expected
        if not settled:
            late.append(last.job)
    return late
