"""A message to everybody: how long until all have it, and what those who shop notice of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from bench import report, stage
from bench.load import Plan, Result, generate, request
from tests.servers import MariaDB

#: Seconds for a hundred thousand recipients, and how many times the quiet 99th percentile.
SECONDS_TARGET, P99_TARGET = 30.0, 2.0
_RATE = 100.0
_PIECE_SECONDS = 2.0
_PATIENCE_SECONDS = 300.0
_TITLE = "A message to everybody"


@dataclass
class FanOut:
    """Seconds that a message took, and reads at a steady rate before and meanwhile."""

    recipients: int
    seconds: float = 0.0
    quiet: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def measure(port: int, database: MariaDB, recipients: int, seconds: float) -> FanOut:
    """Make so many customers, write to all, and read products meanwhile."""
    _create_customers(database, recipients)
    token = stage.sign_in(port)
    reads = [request("GET", path) for path in stage.product_paths(port, pages=1)]
    found = FanOut(recipients)
    generate(Plan(port, reads, 1.0, rate=_RATE))
    _note(found, found.quiet, generate(Plan(port, reads, seconds, rate=_RATE)))
    begun = time.perf_counter()
    body = {"title": _TITLE, "text": "Everything is cheap today.", "role": "customer"}
    message = stage.call(port, "POST", "/api/v1/notifications", body, token)
    where = f"/api/v1/notifications/messages/{message['id']}"
    while True:
        _note(found, found.busy, generate(Plan(port, reads, _PIECE_SECONDS, rate=_RATE)))
        told = stage.call(port, "GET", where, token=token)
        if told["status"] == "sent" or time.perf_counter() - begun > _PATIENCE_SECONDS:
            break
    found.seconds = _seconds(database)
    if told["recipients"] != recipients:
        found.errors.append(f"{told['recipients']} of {recipients} have the message")
    return found


def _note(found: FanOut, latencies: list[float], result: Result) -> None:
    latencies += result.latencies
    found.errors += result.errors


def _create_customers(database: MariaDB, count: int) -> None:
    stage.query(
        database,
        "INSERT INTO users (email, name, password_hash, role, disabled, created_at, updated_at,"
        " version) SELECT CONCAT('fan', seq, '@example.com'), 'A fan', 'none', 'customer', 0,"
        f" NOW(6), NOW(6), 1 FROM seq_1_to_{count}",
    )


def _seconds(database: MariaDB) -> float:
    ((seconds,),) = stage.query(
        database,
        "SELECT TIMESTAMPDIFF(MICROSECOND, created_at, finished_at) / 1e6"
        f" FROM notification_messages WHERE title = '{_TITLE}'",
    )
    return float(seconds or _PATIENCE_SECONDS)


def table(found: FanOut) -> str:
    """As Markdown."""
    quiet, busy = (report.percentile(values, 99) for values in (found.quiet, found.busy))
    wanted = SECONDS_TARGET * found.recipients / 100_000
    return report.table(
        ("", "measured", "target"),
        [
            (
                f"until {found.recipients} have it",
                f"{found.seconds:.1f} s",
                report.verdict(found.seconds <= wanted, f"≤ {wanted:.0f} s"),
            ),
            (f"99th percentile of {len(found.quiet)} reads before", f"{quiet:.1f} ms", ""),
            (
                f"of {len(found.busy)} reads meanwhile",
                f"{busy:.1f} ms, {busy / quiet:.2f} times",
                report.verdict(busy <= P99_TARGET * quiet, f"≤ {P99_TARGET:.0f} times"),
            ),
        ],
    )
