"""What the clients were told, what the log says and what the subscriber heard: do they agree?"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, create_engine, exc, text
from sqlalchemy.engine import Row
from sqlalchemy.pool import NullPool

from tests.running import Arrival

_AUDITED_TABLES = {"products": "id", "variants": "id", "stock_levels": "variant_id"}


class Change(NamedTuple):
    """One change of one row: what the contract promises exactly one event for."""

    table: str
    row_id: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended; without a status nobody knows whether it did anything."""

    at: float
    method: str
    status: int | None
    problem: str | None = None
    seconds: float = 0.0

    @property
    def known(self) -> bool:
        """Whether an answer came."""
        return self.status is not None


@dataclass(slots=True)
class Ledger:
    """What the clients of the shop were told; filled by several threads."""

    outcomes: list[Outcome] = field(default_factory=list)
    acknowledged: list[Change] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, outcome: Outcome, changes: Sequence[Change] = ()) -> None:
        """Write down one request, and the changes that its answer vouches for."""
        with self.lock:
            self.outcomes.append(outcome)
            self.acknowledged.extend(changes)

    def between(self, start: float, end: float) -> list[Outcome]:
        """The outcomes of a time."""
        return [outcome for outcome in list(self.outcomes) if start <= outcome.at <= end]

    def first_success(self, since: float) -> Outcome | None:
        """The first answer of the kind 2xx after a moment."""
        good = (o for o in list(self.outcomes) if o.at > since and (o.status or 500) < 300)
        return next(good, None)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a checked history amounted to."""

    requests: int
    acknowledged: int
    unknown: int
    events: int
    duplicates: int

    def __str__(self) -> str:
        """One line for the reader of the test's output."""
        return (
            f"{self.requests} requests ({self.unknown} with unknown end), "
            f"{self.acknowledged} acknowledged changes, {self.events} events, "
            f"{self.duplicates} duplicates"
        )


def tell(line: str) -> None:
    """Show a figure or a seed to those who run the tests with ``-s`` or see them fail."""
    sys.stdout.write(f"{line}\n")


@contextmanager
def connected(database_url: str) -> Iterator[Connection]:
    """A connection of the test's own, which a restart of the server cannot have spoilt."""
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def wait_until(what: str, happened: Callable[[], bool], seconds: float) -> float:
    """Wait for something and answer how long it took; a database that is away means: not yet."""
    started = time.monotonic()
    while True:
        try:
            if happened():
                return time.monotonic() - started
        except exc.OperationalError:
            pass
        if time.monotonic() - started > seconds:
            raise AssertionError(f"after {seconds:g} s still not true: {what}")
        time.sleep(0.05)


def standing(database_url: str) -> dict[str, int]:
    """Where the sequencer and the sink are."""
    question = text(
        "SELECT (SELECT COUNT(*) FROM audit_log WHERE position IS NULL) AS pending,"
        " (SELECT COALESCE(MAX(position), 0) FROM audit_log) AS highest,"
        " (SELECT position FROM audit_head) AS head,"
        " (SELECT COALESCE(MAX(position), 0) FROM audit_sinks WHERE name = 'mqtt') AS sink"
    )
    with connected(database_url) as connection:
        return dict(connection.execute(question).mappings().one())


def wait_until_drained(database_url: str, seconds: float = 60) -> float:
    """Wait until the sink has acknowledged whatever was committed; answers how long it took."""

    def is_drained() -> bool:
        now = standing(database_url)
        return now["pending"] == 0 and now["highest"] == now["head"] == now["sink"]

    try:
        return wait_until("the backlog is empty", is_drained, seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {standing(database_url)}") from None


def check(
    database_url: str,
    ledger: Ledger,
    arrivals: Sequence[Arrival],
    *,
    prefix: str,
    most_duplicates: int | None = None,
    patience: float = 30,
) -> Figures:
    """Compare the three tellings of one history, after the backlog was drained."""
    with connected(database_url) as connection:
        log = connection.execute(text("SELECT * FROM audit_log ORDER BY position")).all()
    committed = {row.event_id for row in log}
    wait_until(
        "the subscriber has heard of every committed change",
        lambda: len(committed) <= len({_event(a.payload)["id"] for a in list(arrivals)}),
        patience,
    )
    heard = list(arrivals)
    _check_log(database_url, log)
    _check_promises(ledger, log)
    _check_deliveries(log, heard, prefix)
    duplicates = len(heard) - len(log)
    if most_duplicates is not None:
        assert duplicates <= most_duplicates, f"{duplicates} duplicates, {most_duplicates} allowed"
    unknown = sum(not outcome.known for outcome in ledger.outcomes)
    return Figures(len(ledger.outcomes), len(ledger.acknowledged), unknown, len(log), duplicates)


def _event(payload: bytes) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(payload)
    return event


def _change(row: Row[Any]) -> Change:
    return Change(row.table_name, row.row_id, row.sequence)


def _check_log(database_url: str, log: Sequence[Row[Any]]) -> None:
    """Positions are dense, sequences have no gaps, and the rows are what the log says."""
    assert [row.position for row in log] == list(range(1, len(log) + 1)), "positions have holes"
    sequences: dict[tuple[str, int], list[int]] = defaultdict(list)
    gone: set[tuple[str, int]] = set()
    for row in log:
        sequences[row.table_name, row.row_id].append(row.sequence)
        if row.action == "delete":
            gone.add((row.table_name, row.row_id))
    for name, numbers in sequences.items():
        assert numbers == list(range(1, len(numbers) + 1)), f"{name} has sequences {numbers}"
    for table, key in _AUDITED_TABLES.items():
        with connected(database_url) as connection:
            rows = connection.execute(text(f"SELECT {key}, version FROM {table}")).all()
        expected = {
            row_id: numbers[-1]
            for (name, row_id), numbers in sequences.items()
            if name == table and (name, row_id) not in gone
        }
        versions = {row[0]: row[1] for row in rows}
        assert versions == expected, f"{table} and log differ"


def _check_promises(ledger: Ledger, log: Sequence[Row[Any]]) -> None:
    """Every change that a client was told of is in the log."""
    missing = set(ledger.acknowledged) - {_change(row) for row in log}
    assert not missing, f"{len(missing)} acknowledged changes left no entry: {sorted(missing)[:5]}"
    twice = [change for change, count in Counter(ledger.acknowledged).items() if count > 1]
    assert not twice, f"acknowledged to two clients: {twice[:5]}"


def _check_deliveries(log: Sequence[Row[Any]], heard: Sequence[Arrival], prefix: str) -> None:
    """Nothing missed, nothing invented, each row in order, repetitions to the byte."""
    first: dict[str, bytes] = {}
    delivered: list[Row[Any]] = []
    entries = {row.event_id: row for row in log}
    for arrival in heard:
        event = _event(arrival.payload)
        assert event["id"] in entries, f"never committed, and yet delivered: {event}"
        row = entries[event["id"]]
        if event["id"] not in first:
            first[event["id"]] = arrival.payload
            delivered.append(row)
        assert arrival.payload == first[event["id"]], "a repetition differs from the first delivery"
        assert arrival.topic == f"{prefix}/{row.table_name}/{row.row_id}"
        told = (event["data"]["table"], event["data"]["id"], int(event["sequence"]))
        assert (*told, int(event["position"])) == (*_change(row), row.position)
    assert set(first) == set(entries), f"{len(entries) - len(first)} events are missing"
    by_row = sorted(delivered, key=lambda row: (row.table_name, row.row_id))
    for name, rows in itertools.groupby(by_row, key=lambda row: (row.table_name, row.row_id)):
        numbers = [row.sequence for row in rows]
        assert numbers == sorted(numbers), f"first deliveries of {name} came as {numbers}"
