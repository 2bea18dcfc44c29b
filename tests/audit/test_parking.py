"""DO-08: what a sink refuses for good is parked and announced, and everything else flows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from shop.audit import delivery, publisher
from shop.audit.events import Event, Gap, Outgoing, events_after
from shop.audit.models import AuditEntry
from shop.audit.sinks.mqtt import MqttSink
from shop.db import database_ms, writing
from shop.leases import LeaseRow
from shop.retry import Backoff
from tests import factories
from tests.audit.running import (
    CuttingSink,
    PickySink,
    RunningDrain,
    cursor,
    eventually,
    messages,
    parked,
    rename,
)
from tests.servers import Mosquitto, require


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before he tries again."""
    monkeypatch.setattr(publisher, "Backoff", lambda **_: Backoff(first=0.02, most=0.1))


def is_event_at(*positions: int) -> Callable[[Outgoing], str | None]:
    """Refuses these events, and no gap event."""
    return lambda event: (
        "too large" if isinstance(event, Event) and event.position in positions else None
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_a_poison_event_is_parked_and_the_others_arrive(
    app: Flask, engine: Engine, at_once: bool
) -> None:
    users = [factories.create_user(app) for _ in range(9)]
    sink = PickySink(is_event_at(4))
    sink.at_once = at_once

    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 9)

    (row,) = parked(engine)
    assert (row.sink, row.position, row.state, row.attempts) == ("memory", 4, "parked", 1)
    assert (row.table_name, row.row_id, row.sequence) == ("users", users[3].id, 1)
    assert (row.reason, row.announced) == ("too large", True)
    gap = next(message for message in messages(sink) if message["type"] == "shop.audit.gap")
    assert gap["id"] == f"{row.event_id}-gap"
    assert (gap["position"], gap["subject"]) == ("4", f"users/{users[3].id}")
    assert gap["data"] == {
        "event_id": row.event_id, "type": "shop.user.created", "table": "users",
        "id": users[3].id, "action": "insert", "sequence": 1, "position": 4, "reason": "too large",
    }  # fmt: skip
    assert sorted({int(message["position"]) for message in messages(sink)}) == list(range(1, 10))


def test_a_gap_event_is_the_same_bytes_each_time(app: Flask, engine: Engine) -> None:
    factories.create_user(app)
    with RunningDrain(engine, PickySink(is_event_at())):
        eventually(lambda: cursor(engine) == 1)
    with engine.connect() as connection:
        first, again = (events_after(connection, 0, 1)[0] for _ in range(2))

    assert Gap(first, "too large").message() == Gap(again, "too large").message()


def test_first_deliveries_of_a_row_keep_their_order_around_a_parked_one(
    app: Flask, engine: Engine
) -> None:
    user = factories.create_user(app)
    rename(app, user, times=8)
    sink = PickySink(is_event_at(4))
    sink.at_once = True

    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 9)

    assert [int(message["sequence"]) for message in messages(sink)] == list(range(1, 10))
    assert messages(sink)[3]["type"] == "shop.audit.gap"


def test_a_refusal_that_passes_parks_nothing(app: Flask, engine: Engine) -> None:
    """And what comes after it of the same row was not handed over before it."""
    left = [3]

    def twice(event: Outgoing) -> str | None:
        left[0] -= event.position == 2
        return "not just now" if event.position == 2 and left[0] > 0 else None

    for _ in range(4):
        factories.create_user(app)
    sink = PickySink(twice, lasting=False)

    with RunningDrain(engine, sink, window=1):
        eventually(lambda: cursor(engine) == 4)

    assert parked(engine) == []
    assert [int(message["position"]) for message in messages(sink)] == [1, 2, 3, 4]
    assert sink.opened == 3


def test_what_was_overtaken_by_a_later_event_of_its_row_is_not_sent_behind_it(
    app: Flask, engine: Engine
) -> None:
    """The broker refused one, and took the next that was in flight already."""
    rename(app, factories.create_user(app), times=5)
    left = [1]

    def once(event: Outgoing) -> str | None:
        if event.position != 2 or not left[0]:
            return None
        left[0] -= 1
        return "not just now"

    sink = PickySink(once, lasting=False)
    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 6)

    assert [row.position for row in parked(engine)] == [2]
    changes = [message for message in messages(sink) if message["type"] != "shop.audit.gap"]
    assert [int(message["sequence"]) for message in changes] == [1, 3, 4, 5, 6]


def test_what_is_refused_again_and_again_is_parked_although_it_might_pass(
    app: Flask, engine: Engine
) -> None:
    for _ in range(6):
        factories.create_user(app)

    def topic(event: Outgoing) -> str | None:
        # Its gap event has the same topic.
        return "not authorized" if event.position == 2 else None

    sink = PickySink(topic, lasting=False)
    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 6)

    (row,) = parked(engine)
    assert (row.position, row.announced) == (2, False)
    assert sink.opened == delivery.TRIES
    assert {int(message["position"]) for message in messages(sink)} == {1, 3, 4, 5, 6}


def test_refusals_of_one_kind_are_not_waited_for_each_time(app: Flask, engine: Engine) -> None:
    """Else a topic that is forbidden would hold up all the others for seconds at each event."""
    customer = factories.create_user(app)
    sink = PickySink(lambda event: "no" if event.table == "users" else None, lasting=False)
    client, boss = app.test_client(), factories.headers_of(app, customer)
    address = {
        "name": "Anna", "line1": "Elm Street 1", "city": "Uppsala", "postal_code": "75310",
        "country": "SE",
    }  # fmt: skip
    for _ in range(3):
        factories.create_user(app)
        added = client.post("/api/v1/users/me/addresses", json=address, headers=boss)
        assert added.status_code == 201

    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 7)

    assert [row.position for row in parked(engine)] == [1, 2, 4, 6]
    assert sink.opened == delivery.TRIES


@pytest.mark.parametrize("lasting", [True, False])
def test_a_sink_that_refuses_everything_is_out_of_order_and_nothing_is_parked(
    app: Flask, engine: Engine, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    monkeypatch.setattr(delivery, "TRIES", 2)
    events = delivery.DIFFERENT + 20
    for _ in range(events):
        factories.create_user(app)
    asked: set[int] = set()

    def refuse(event: Outgoing) -> str | None:
        if sink.opened == 5:
            return None
        asked.add(event.position)
        return "no"

    sink = PickySink(refuse, lasting=lasting)
    with RunningDrain(engine, sink, window=5):
        eventually(lambda: cursor(engine) == events)

    assert parked(engine) == []
    assert len(sink.messages) == events
    assert max(asked) <= delivery.DIFFERENT + 5, "it is seen long before everything was tried"


def test_a_single_event_that_is_refused_waits_for_another_to_compare_with(
    app: Flask, engine: Engine
) -> None:
    factories.create_user(app)
    sink = PickySink(lambda event: "no" if event.position == 1 else None)
    with RunningDrain(engine, sink):
        eventually(lambda: sink.opened >= 3)
        assert (cursor(engine), parked(engine)) == (0, [])
        factories.create_user(app)
        eventually(lambda: cursor(engine) == 2)

    assert [(row.position, row.announced) for row in parked(engine)] == [(1, False)]


def test_a_sink_that_hangs_up_is_asked_one_by_one_which_event_it_means(
    app: Flask, engine: Engine
) -> None:
    for _ in range(8):
        factories.create_user(app)
    sink = CuttingSink(is_event_at(3))

    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 8)

    assert [row.position for row in parked(engine)] == [3]
    assert {int(message["position"]) for message in messages(sink)} == set(range(1, 9))


def test_a_leader_whose_lease_was_taken_parks_nothing(app: Flask, engine: Engine) -> None:
    factories.create_user(app)
    held = [True]
    sink = PickySink(is_event_at(1))
    silent = sink.acknowledged
    sink.acknowledged = lambda timeout: [] if held[0] else silent(timeout)  # type: ignore[method-assign]
    running = RunningDrain(engine, sink, lease_seconds=60)
    running.drain.keep_alive()
    eventually(lambda: sink.opened == 1 and bool(sink._refusals))
    with writing(engine) as connection:
        usurped = {"owner": "another", "token": 999, "expires_ms": database_ms() + 60_000}
        connection.execute(update(LeaseRow).values(usurped))

    held[0] = False
    time.sleep(0.5)

    assert (cursor(engine), parked(engine)) == (0, [])
    running.drain.stop()


def test_what_cannot_be_encoded_is_parked(app: Flask, engine: Engine, mosquitto: Mosquitto) -> None:
    """It never gets as far as the broker."""
    for _ in range(3):
        factories.create_user(app)
    sink = MqttSink(lambda: mosquitto.url, "shop")
    encode = Event.message

    def spoil(event: Event) -> bytes:
        if event.position == 2:
            raise TypeError("not JSON")
        return encode(event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Event, "message", spoil)
        with RunningDrain(engine, sink):
            eventually(lambda: cursor(engine) == 3)

    assert [row.reason for row in parked(engine)] == ["cannot be encoded: not JSON"]


@pytest.mark.parametrize("limit", ["max_packet_size", "message_size_limit"])
def test_what_is_too_large_for_the_broker_is_parked_and_the_others_arrive(
    app: Flask, engine: Engine, tmp_path: Path, limit: str
) -> None:
    require("mosquitto", "a broker with a limit", private=True)
    client, staff = app.test_client(), factories.sign_in(app, "staff")
    for text in ("short", "long " * 1000, "short"):
        factories.create_product(client, staff, description=text)
    with Session(engine) as session:
        events = len(session.scalars(select(AuditEntry.id)).all())
        large = session.scalars(
            select(AuditEntry.id).where(AuditEntry.data.contains("long long"))
        ).one()

    with (
        Mosquitto(tmp_path, **{limit: 4000}) as broker,
        RunningDrain(engine, MqttSink(lambda: broker.url, "shop")),
    ):
        eventually(lambda: cursor(engine) == events)

    (row,) = parked(engine)
    with Session(engine) as session:
        assert session.get_one(AuditEntry, large).event_id == row.event_id
    assert (row.announced, row.table_name) == (True, "products")
    # The one is asked, the other hangs up with an answer that there is not.
    assert row.reason.startswith("too large" if limit == "max_packet_size" else "Protocol error")


def test_a_broker_that_forbids_everything_parks_nothing(
    app: Flask, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("mosquitto", "a broker with access rules", private=True)
    monkeypatch.setattr(delivery, "TRIES", 2)
    for _ in range(delivery.DIFFERENT + 2):
        factories.create_user(app)
    rules = tmp_path / "rules"
    rules.write_text("topic read shop/#\n")
    rules.chmod(0o600)
    with Mosquitto(tmp_path / "broker", acl_file=str(rules)) as broker:
        sink = MqttSink(lambda: broker.url, "shop")
        with RunningDrain(engine, sink):
            time.sleep(1.5)
            assert (cursor(engine), parked(engine)) == (0, [])
            rules.write_text("topic readwrite shop/#\n")
            broker.restart()
            eventually(lambda: cursor(engine) == delivery.DIFFERENT + 2)

    assert parked(engine) == []
