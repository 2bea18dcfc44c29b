"""Ads: events counted a second over HTTP, and how long sums over many events take."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import psutil
from sqlalchemy import text

from bench.load import NUMBER, Plan, Result, generate, request
from bench.report import percentile, table, verdict
from bench.stage import Gunicorn, Shop, call, sign_in
from config import Config
from shop.ads import sums
from shop.ads.days import HOUR
from shop.app import create_app
from shop.db import db, transactional, writing
from tests.servers import MariaDB

#: Events a second in batches; seconds for a million events, by engine.
TARGET_RATE = 10_000
TARGET_SECONDS = {"MariaDB": 5.0, "SQLite": 10.0}
_BATCH = 100
_ADS = 200
#: What a public sender may count, so that the limit is asked and never met.
SETTINGS = {"SHOP_LIMIT_AD_EVENTS": "900000000 per 1 minute"}
_INTO = "INSERT INTO ad_events (ad_id, kind, state, occurred_at, event_key, claim)"
#: Events spread over an hour: a click in twenty, one in fifty kept apart, each with its key.
_FILL = {
    "MariaDB": (
        f"{_INTO} SELECT 1 + seq % {_ADS}, IF(seq % 20, 1, 2), IF(seq % 50, 0, 1),"
        " :begin + INTERVAL seq * :step MICROSECOND, UNHEX(LPAD(HEX(:first + seq), 24, '0')),"
        " IF(seq % 20, NULL, UNHEX(LPAD(HEX(:first + seq), 24, '0'))) FROM seq_1_to_{count}"
    ),
    "SQLite": (
        "WITH RECURSIVE seqs(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM seqs"
        f" WHERE seq < {{count}}) {_INTO} SELECT 1 + seq % {_ADS}, 1 + (seq % 20 = 0),"
        " seq % 50 = 0, strftime('%Y-%m-%d %H:%M:', :begin, (seq * :step / 1000000) || ' seconds')"
        " || printf('%02d.%06d', seq * :step / 1000000 % 60, seq * :step % 1000000),"
        " CAST(printf('%012d', :first + seq) AS BLOB),"
        " CASE WHEN seq % 20 = 0 THEN CAST(printf('%012d', :first + seq) AS BLOB) END FROM seqs"
    ),
}


@dataclass(frozen=True)
class Counted:
    """Requests of some events each; `busy` are processor seconds of the shop, of the database."""

    name: str
    events: int
    result: Result
    busy: tuple[float, float]
    load: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.result.rate * self.events


@dataclass(frozen=True)
class RollUp:
    """One hour of so many events, summed up."""

    engine: str
    events: int
    seconds: float
    load: float


def count(server: Gunicorn, database: MariaDB, seconds: float) -> list[Counted]:
    """Impressions and clicks, a hundred at a time and one by one, as anybody sends them."""
    port = server.port
    token = sign_in(port)
    ad = {"name": "Oak week", "target_url": "https://example.com/"}
    where = f"/api/v1/ads/{call(port, 'POST', '/api/v1/ads', ad, token)['id']}"
    generate(Plan(port, [request("POST", f"{where}/clicks", body=_body(_BATCH))], 1.0))
    found = []
    for name, path, events in (
        ("impressions", "impressions", _BATCH),
        ("clicks, each of another visitor", "clicks", _BATCH),
        ("impressions", "impressions", 1),
        ("clicks, each of another visitor", "clicks", 1),
    ):
        before, busy = os.getloadavg()[0], _busy(server, database)
        plan = Plan(port, [request("POST", f"{where}/{path}", body=_body(events))], seconds)
        result = generate(plan)
        shop, stored = (now - then for now, then in zip(_busy(server, database), busy, strict=True))
        found.append(Counted(name, events, result, (shop, stored), before))
    return found


def _busy(server: Gunicorn, database: MariaDB) -> tuple[float, float]:
    """Processor seconds so far, which other work on the machine hardly changes."""
    times = [process.cpu_times() for process in server.processes()]
    own = psutil.Process(database.pid).cpu_times()
    return sum(it.user + it.system for it in times), own.user + own.system


def _body(events: int) -> str:
    told = [{"id": f"{NUMBER}-{n:02}", "visitor": f"{NUMBER}-{n:02}"} for n in range(events)]
    return orjson.dumps(told[0] if events == 1 else {"events": told}).decode()


def roll_up(engine: str, shop: Shop, sizes: Sequence[int]) -> list[RollUp]:
    """Sum up an hour of each size, after the hour was filled."""
    app = create_app(Config(var=Path(shop.var), database_url=shop.database_url, sinks=()))
    found, first, hour = [], 0, datetime(2025, 5, 5, 9)  # noqa: DTZ001 (as the tables have it)
    with app.app_context():
        for size in sizes:
            _fill(engine, size, first, hour)
            before, started = os.getloadavg()[0], time.perf_counter()
            _sum_up(hour)
            found.append(RollUp(engine, size, time.perf_counter() - started, before))
            first, hour = first + size, hour + HOUR
    app.extensions["shop"].engine.dispose()
    app.extensions["shop"].reader.dispose()
    return found


def _fill(engine: str, size: int, first: int, hour: datetime) -> None:
    # In parts: one statement may not take longer than an answer of the database.
    part = 100_000
    step = int(HOUR / timedelta(microseconds=1)) // size
    for done in range(0, size, part):
        number = min(part, size - done)
        begin = hour + done * step * timedelta(microseconds=1)
        values = {
            "begin": begin.isoformat(" ", "microseconds"),
            "step": step,
            "first": first + done,
        }
        if engine == "SQLite":
            # Whole seconds to begin with: its clock knows no more than thousandths.
            values["begin"] = begin.replace(microsecond=0).isoformat(" ")
        with writing(db.engine) as connection:
            connection.execute(text(_FILL[engine].format(count=number)), values)


def _sum_up(hour: datetime) -> None:
    transactional(sums.sum_up_hour)(db.session(), hour.replace(tzinfo=UTC))


def of_counted(found: Sequence[Counted]) -> str:
    """Counting, as Markdown."""
    headers = (
        "counted", "at a time", "events/s", "target", "requests/s", "p50 / p99 ms",
        "processor ms a request: shop / database", "n requests", "errors", "load before",
    )  # fmt: skip
    latencies = [it.result.latencies for it in found]
    rows = [
        (
            it.name, str(it.events), f"{it.rate:.0f}",
            verdict(it.rate >= TARGET_RATE, f"≥ {TARGET_RATE}") if it.events > 1 else "",
            f"{it.result.rate:.0f}",
            f"{percentile(times, 50):.1f} / {percentile(times, 99):.1f}",
            " / ".join(f"{1000 * busy / len(times):.2f}" for busy in it.busy), str(len(times)),
            str(len(it.result.errors)), f"{it.load:.1f}",
        )
        for it, times in zip(found, latencies, strict=True)
    ]  # fmt: skip
    return table(headers, rows)


def of_roll_ups(found: Sequence[RollUp]) -> str:
    """Sums, as Markdown."""
    headers = ("summed up", "seconds", "target", "events/s", "load before")
    rows = [
        (
            f"an hour of {it.events} events, {it.engine}", f"{it.seconds:.2f}",
            _verdict(it), f"{it.events / it.seconds:.0f}", f"{it.load:.1f}",
        )
        for it in found
    ]  # fmt: skip
    return table(headers, rows)


def _verdict(found: RollUp) -> str:
    target = TARGET_SECONDS[found.engine] * found.events / 1_000_000
    return verdict(found.seconds <= target, f"≤ {target:g}") if found.events >= 10**6 else ""
