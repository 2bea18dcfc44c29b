"""The drain publishes what was stamped, in order, and moves its cursor behind the broker."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from shop.audit import queries
from shop.audit.events import Outgoing
from shop.audit.models import AuditSink
from shop.audit.sinks.base import SinkDown, SinkRefused
from shop.audit.sinks.memory import MemorySink
from shop.audit.wake import bell
from shop.db import database_ms, writing
from shop.leases import LeaseRow
from tests import factories
from tests.audit.running import RunningDrain, cursor, eventually


class MoodySink(MemorySink):
    """Acknowledges when it is told to, in the order it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.down = False
        self.refuse = False
        self.silent = False

    def open(self) -> None:
        if self.down:
            raise SinkDown("switched off")
        self.opened += 1
        super().open()

    def publish(self, event: Outgoing, *, again: bool = False) -> None:
        if self.down:
            raise SinkDown("switched off")
        super().publish(event, again=again)

    def acknowledged(self, timeout: float) -> Sequence[int]:
        if self.refuse:
            raise SinkRefused("not that one")
        if self.silent:
            time.sleep(timeout)
            return []
        return super().acknowledged(timeout)


def sequences(sink: MemorySink) -> list[tuple[str, int]]:
    loaded = [json.loads(message) for message in sink.messages]
    return [(message["subject"], int(message["position"])) for message in loaded]


def test_a_committed_change_arrives_and_the_cursor_follows(app: Flask, engine: Engine) -> None:
    sink = MemorySink()
    with RunningDrain(engine, sink) as running:
        user = factories.create_user(app)
        eventually(lambda: cursor(engine) == 1)
        assert running.drain.backlog() == 0

    (message,) = sink.messages
    envelope = json.loads(message)
    assert envelope["specversion"] == "1.0"
    assert envelope["subject"] == f"users/{user.id}"
    assert (envelope["sequence"], envelope["position"]) == ("1", "1")
    assert envelope["data"]["after"]["role"] == "customer"
    assert envelope["time"].endswith("Z")


def test_a_backlog_is_published_in_the_order_of_positions(app: Flask, engine: Engine) -> None:
    users = [factories.create_user(app) for _ in range(30)]
    sink = MemorySink()

    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 30)

    assert sequences(sink) == [(f"users/{user.id}", n) for n, user in enumerate(users, start=1)]


def test_nothing_counts_as_processed_before_it_is_acknowledged(app: Flask, engine: Engine) -> None:
    sink = MoodySink()
    sink.silent = True
    for _ in range(12):
        factories.create_user(app)

    with RunningDrain(engine, sink, window=5):
        eventually(lambda: len(sink.messages) == 5)
        time.sleep(0.2)
        assert len(sink.messages) == 5, "the window lets no more in flight"
        assert cursor(engine) == 0
        sink.silent = False
        eventually(lambda: cursor(engine) == 12)

    assert len(sink.messages) == 12


def test_a_sink_that_was_away_gets_everything_when_it_is_back(app: Flask, engine: Engine) -> None:
    sink = MoodySink()
    sink.down = True
    with RunningDrain(engine, sink):
        for _ in range(10):
            factories.create_user(app)
        time.sleep(0.2)
        assert sink.messages == []
        sink.down = False
        eventually(lambda: cursor(engine) == 10)

    assert [position for _, position in sequences(sink)] == list(range(1, 11))


def test_a_refused_event_is_not_passed_over(app: Flask, engine: Engine) -> None:
    sink = MoodySink()
    sink.refuse = True
    factories.create_user(app)
    with RunningDrain(engine, sink):
        eventually(lambda: sink.opened >= 2)
        assert cursor(engine) == 0
        sink.refuse = False
        eventually(lambda: cursor(engine) == 1)

    assert len(set(sink.messages)) == 1, "redelivered with the same bytes"


def test_a_leader_whose_lease_was_taken_moves_no_cursor(app: Flask, engine: Engine) -> None:
    sink = MoodySink()
    sink.silent = True
    factories.create_user(app)
    running = RunningDrain(engine, sink, lease_seconds=60)
    running.drain.keep_alive()
    eventually(lambda: len(sink.messages) == 1)
    with writing(engine) as connection:
        usurped = {"owner": "another", "token": 999, "expires_ms": database_ms() + 60_000}
        connection.execute(update(LeaseRow).values(usurped))

    sink.silent = False
    time.sleep(0.5)

    assert cursor(engine) == 0
    running.drain.stop()


def test_of_two_drains_one_leads_and_the_other_takes_over(app: Flask, engine: Engine) -> None:
    first_sink, second_sink = MemorySink(), MemorySink()
    factories.create_user(app)
    with RunningDrain(engine, second_sink) as second:
        eventually(lambda: len(second_sink.messages) == 1)
        with RunningDrain(engine, first_sink):
            factories.create_user(app)
            eventually(lambda: cursor(engine) == 2)
            assert first_sink.messages == []
            second.drain.stop()
            factories.create_user(app)
            eventually(lambda: cursor(engine) == 3)

    assert [position for _, position in sequences(second_sink)] == [1, 2]
    assert [position for _, position in sequences(first_sink)] == [3]


def test_a_commit_wakes_the_drain_long_before_it_polls(
    app: Flask, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bell.hang(tmp_path)
    sink = MemorySink()
    with RunningDrain(engine, sink, lease_seconds=300, poll_seconds=60):
        eventually((tmp_path / "drain.sock").exists)
        factories.create_user(app)
        eventually(lambda: len(sink.messages) == 1)
        factories.create_user(app)
        eventually(lambda: len(sink.messages) == 2)


def test_the_backlog_counts_what_the_slowest_sink_has_not(app: Flask, session: Session) -> None:
    for _ in range(3):
        factories.create_user(app)

    assert session.execute(queries.backlog(["mqtt"])).scalar_one() == 3
    assert session.execute(queries.backlog([])).scalar_one() == 3


def test_the_bytes_of_a_message_never_change(app: Flask, engine: Engine) -> None:
    factories.create_user(app)
    first, again = MemorySink(), MemorySink()
    with RunningDrain(engine, first):
        eventually(lambda: cursor(engine) == 1)
    with writing(engine) as connection:
        connection.execute(update(AuditSink).values(position=0))

    with RunningDrain(engine, again):
        eventually(lambda: cursor(engine) == 1)

    assert first.messages == again.messages
