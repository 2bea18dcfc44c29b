"""Clocks that jump by an hour, the database's and the shop's: no event is lost or overtaken."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from shop.audit.events import Outgoing
from shop.audit.sinks.memory import MemorySink
from shop.db import db, transactional
from shop.users.models import User
from tests import factories
from tests.audit.running import RunningDrain, cursor, eventually
from tests.audit.test_oracle import entries
from tests.chaos.history import tell

_HOUR = 3600.0
_REAL_DAY = 86_400.0


class Clocks:
    """What the shop and its database think that the time is: so many seconds off."""

    def __init__(self) -> None:
        """Right for now."""
        self.off = 0.0

    def now(self) -> datetime:
        """Stands in for the shop's clock."""
        return datetime.now(UTC) + timedelta(seconds=self.off)

    def on_connect(self, connection: Any, _record: Any) -> None:
        """SQLite asks this function instead of its own, with a clock that we can set."""
        connection.create_function("julianday", 1, self._julian_day)

    def before_statement(self, _connection: Any, cursor: Any, *_rest: Any) -> None:
        """MariaDB's sessions have a clock each, which may be set; SYSDATE stays the real one."""
        cursor.execute(f"SET timestamp = UNIX_TIMESTAMP(SYSDATE(6)) + {self.off}")

    def _julian_day(self, _when: str) -> float:
        return (time.time() + self.off) / _REAL_DAY + 2440587.5


@pytest.fixture
def clocks(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    """Clocks that a test may set."""
    clocks = Clocks()
    monkeypatch.setattr("shop.clock.now", clocks.now)
    sqlite = engine.dialect.name == "sqlite"
    listener: Callable[..., None] = clocks.on_connect if sqlite else clocks.before_statement
    name = "connect" if sqlite else "before_cursor_execute"
    event.listen(engine, name, listener)
    engine.dispose()
    yield clocks
    event.remove(engine, name, listener)
    engine.dispose()


class SharedSink(MemorySink):
    """A sink of two drains; what both tell is kept in one order."""

    def __init__(self, heard: list[bytes]) -> None:
        super().__init__()
        self._heard = heard

    def publish(self, event: Outgoing, *, again: bool = False) -> None:
        super().publish(event, again=again)
        self._heard.append(event.message())


def write_on(app: Flask, users: list[int], ending: threading.Event) -> None:
    """Change one account after the other until told to end."""

    @transactional
    def rename(id_: int, name: str) -> None:
        user = db.session.get(User, id_, with_for_update=True)
        assert user is not None
        user.name = name

    count = 0
    with app.app_context():
        while not ending.wait(0.005):
            count += 1
            rename(users[count % len(users)], f"edition {count}")


@contextmanager
def writing(app: Flask, users: list[int]) -> Iterator[None]:
    """Three writers meanwhile, who share their accounts."""
    ending = threading.Event()
    threads = [threading.Thread(target=write_on, args=(app, users, ending)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def has_moved(engine: Engine, position: int) -> bool:
    """Whether the cursor is behind a position."""
    return cursor(engine) > position


@pytest.mark.parametrize(
    "jumps", [4, pytest.param(40, marks=[pytest.mark.full, pytest.mark.timeout(600)])]
)
def test_clocks_that_jump_lose_and_reorder_nothing(
    app: Flask, engine: Engine, clocks: Clocks, jumps: int
) -> None:
    """DO-19, DO-04: an hour on, an hour back, with two who may lead and writers at work."""
    users = [factories.create_user(app).id for _ in range(10)]
    heard: list[bytes] = []
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(
                RunningDrain(engine, SharedSink(heard), lease_seconds=2, window=50, batch=50)
            )
        eventually(lambda: cursor(engine) == entries(app))
        with writing(app, users):
            for number in range(jumps):
                clocks.off += _HOUR if number % 2 == 0 else -_HOUR
                time.sleep(0.3)
                eventually(partial(has_moved, engine, cursor(engine) + 20))
        eventually(lambda: cursor(engine) == entries(app))

    events = {event["id"]: event for event in map(orjson.loads, heard)}
    with Session(engine) as session:
        ids = set(session.scalars(text("SELECT event_id FROM audit_log")))
    assert set(events) == ids
    # A dictionary keeps the place of the first delivery.
    firsts = defaultdict(list)
    for event_ in events.values():
        firsts[event_["subject"]].append(int(event_["sequence"]))
    assert all(it == list(range(1, len(it) + 1)) for it in firsts.values())
    hours = {event_["time"][:13] for event_ in events.values()}
    assert len(hours) > 1, "the shop's clock has not jumped"
    tell(f"{engine.dialect.name}, {jumps} jumps of an hour: {len(events)} events,"
         f" {len(heard) - len(events)} duplicates, lost 0, out of order 0")  # fmt: skip
