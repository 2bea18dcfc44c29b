"""The metrics: what workers count together, and what the database knows.

What is true of the shop (events, jobs, orders) comes from tables: it survives every restart, and
is the same whichever worker or host is asked. What is true of this server (requests, connections)
comes from memory that its workers share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy.exc import SQLAlchemyError

from shop import logs
from shop.audit import queries as audit_queries
from shop.audit.troubles import troubles
from shop.counters import counters
from shop.db import read, reason
from shop.jobs import queries as job_queries
from shop.monitoring.exposition import Kind, Metric, Sample, histogram, labels_of
from shop.monitoring.lag import Lag, lag_of
from shop.monitoring.readiness import Watch

log = logs.get(__name__)

#: Name: kind, help. All of them are named in each answer, whatever is away.
_OF_DATABASE: dict[str, tuple[Kind, str]] = {
    "shop_audit_backlog": ("gauge", "Events that some active sink has not acknowledged."),
    "shop_audit_oldest_seconds": ("gauge", "Age of the oldest of them; 0 when there is none."),
    "shop_audit_published_total": ("counter", "Events that a sink has acknowledged."),
    "shop_audit_failed_total": ("counter", "Failures of a sink: connections, silence, refusals."),
    "shop_audit_parked_total": ("counter", "Events that a sink has refused for good."),
    "shop_reader_backlog": ("gauge", "Events that an internal reader has not worked on."),
    "shop_reader_parked_total": ("counter", "Events that an internal reader gave up."),
    "shop_job_last_success_timestamp": ("gauge", "When a job was last done, in Unix seconds."),
    "shop_job_last_duration_seconds": ("gauge", "How long that took."),
    "shop_job_runs_total": ("counter", "Runs of a job that ended so."),
    "shop_orders_total": ("counter", "Orders that were placed."),
}  # fmt: skip


def exposed(watch: Watch) -> str:
    """Everything in the text format. What cannot be read is left without samples."""
    return "\n".join([*_of_server(), *_of_shop(watch)]) + "\n"


def _of_server() -> Iterator[str]:
    requests = counters.requests()
    yield from Metric(
        "shop_http_requests_total", "counter", "Requests that were answered.",
        [(labels_of(each), each.count) for each in requests],
    ).lines()  # fmt: skip
    yield from histogram(
        "shop_http_request_seconds", "Time from a request's arrival at a worker to its answer.",
        requests,
    )  # fmt: skip
    yield from Metric(
        "shop_db_pool_in_use", "gauge", "Database connections in use, in all workers.",
        [({}, counters.in_use())],
    ).lines()  # fmt: skip


def _of_shop(watch: Watch) -> Iterator[str]:
    samples: dict[str, Sequence[Sample]] = {}
    try:
        samples = dict(_samples(watch))
        answers = 1
    except SQLAlchemyError as error:
        log.warning("metrics.database-away", reason=reason(error))
        answers = 0
    yield from Metric(
        "shop_database_up", "gauge", "Whether the database answered just now.", [({}, answers)]
    ).lines()
    for name, (kind, help) in _OF_DATABASE.items():
        yield from Metric(name, kind, help, samples.get(name, ())).lines()


def _samples(watch: Watch) -> Iterator[tuple[str, Sequence[Sample]]]:
    yield from _of_log(lag_of(watch.sinks))
    yield from _of_readers()
    yield from _of_jobs(sorted(watch.plans))
    yield "shop_orders_total", [({}, watch.orders.total())]


def _of_log(lag: Lag) -> Iterable[tuple[str, Sequence[Sample]]]:
    sinks = [({"sink": sink.name}, sink) for sink in lag.sinks]
    return (
        ("shop_audit_backlog", [({}, lag.backlog)]),
        ("shop_audit_oldest_seconds", [({}, lag.oldest_seconds)]),
        # The cursor goes past what was parked, too.
        (
            "shop_audit_published_total",
            [(labels, sink.position - sink.parked) for labels, sink in sinks],
        ),
        ("shop_audit_failed_total", [(labels, sink.failures) for labels, sink in sinks]),
        ("shop_audit_parked_total", [(labels, sink.parked) for labels, sink in sinks]),
    )


def _of_readers() -> Iterable[tuple[str, Sequence[Sample]]]:
    readers = [({"reader": row.name}, row) for row in read(audit_queries.READERS)]
    parked = {row.sink: row.parked for row in read(troubles())}
    return (
        # One that has just begun may be ahead of the head: see its migration.
        (
            "shop_reader_backlog",
            [(labels, max(row.head - row.position, 0)) for labels, row in readers],
        ),
        (
            "shop_reader_parked_total",
            [(labels, parked.get(row.name, 0)) for labels, row in readers],
        ),
    )


def _of_jobs(jobs: Sequence[str]) -> Iterable[tuple[str, Sequence[Sample]]]:
    last = [row for row in read(job_queries.last_runs(jobs)) if row.ended]
    totals = read(job_queries.totals())
    return (
        (
            "shop_job_last_success_timestamp",
            [({"job": row.job}, row.ended.timestamp()) for row in last],
        ),
        (
            "shop_job_last_duration_seconds",
            [({"job": row.job}, (row.ended - row.began).total_seconds()) for row in last],
        ),
        (
            "shop_job_runs_total",
            [({"job": row.job, "status": row.status}, row.runs) for row in totals],
        ),
    )
