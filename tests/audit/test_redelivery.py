"""DO-16: parked events are put back and ranges sent again, by whoever leads, with the same ids."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from shop.audit import publisher
from shop.audit.drain import Drain
from shop.audit.events import Event, Outgoing
from shop.audit.models import Replay
from shop.audit.sinks.memory import MemorySink
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


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "Backoff", lambda **_: Backoff(first=0.02, most=0.1))
    monkeypatch.setattr(publisher, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "_VAIN_SECONDS", 0.2)


def flask(app: Flask, *arguments: str, fails: bool = False) -> str:
    """What `flask audit ...` printed."""
    result = app.test_cli_runner().invoke(args=["audit", *arguments])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def too_large(*positions: int) -> Any:
    return lambda event: "too large" if event.position in positions and is_event(event) else None


def is_event(event: Outgoing) -> bool:
    return isinstance(event, Event)


def states(engine: Engine) -> list[tuple[int, str, int]]:
    return [(row.position, row.state, row.attempts) for row in parked(engine)]


def finished(engine: Engine) -> bool:
    with Session(engine) as session:
        return all(row.finished_at for row in session.scalars(select(Replay)))


def test_what_is_put_back_arrives_with_the_same_id_and_bytes(app: Flask, engine: Engine) -> None:
    """While a leader runs, and beside what is new; the cursor stays where it is."""
    user = factories.create_user(app)
    rename(app, user, times=4)
    sink = PickySink(too_large(2, 4))
    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 5)
        assert states(engine) == [(2, "parked", 1), (4, "parked", 1)]

        sink.refuses = too_large(4)
        assert "2 put back" in flask(app, "requeue")
        eventually(lambda: states(engine) == [(2, "sent", 2), (4, "parked", 2)])
        rename(app, user)
        eventually(lambda: cursor(engine) == 6)

    again = next(event for event in sink.taken if is_event(event) and event.position == 2)
    assert sink.again == [2]
    (row, _) = parked(engine)
    assert json.loads(again.message())["id"] == row.event_id
    assert "too large" in flask(app, "parked")
    (left,) = json.loads(flask(app, "parked", "--json"))
    assert (left["position"], left["sequence"], left["reason"]) == (4, 4, "too large")


def test_single_events_are_put_back_by_their_ids(app: Flask, engine: Engine) -> None:
    for _ in range(3):
        factories.create_user(app)
    with RunningDrain(engine, PickySink(too_large(1, 3))):
        eventually(lambda: cursor(engine) == 3)
    first = parked(engine)[0].event_id

    assert "Nobody leads" in flask(app, "requeue", first, "--sink", "memory")
    assert states(engine) == [(1, "requeued", 1), (3, "parked", 1)]
    assert "0 of 1 put back" in flask(app, "requeue", first, fails=True)
    assert "0 put back" in flask(app, "requeue", "--sink", "another")


def test_what_was_put_back_is_sent_by_the_next_leader(app: Flask, engine: Engine) -> None:
    factories.create_user(app)
    factories.create_user(app)
    with RunningDrain(engine, PickySink(too_large(1))):
        eventually(lambda: cursor(engine) == 2)
    flask(app, "requeue")

    sink = MemorySink()
    assert (
        Drain(engine, lambda: [sink], lease_seconds=5, window=5, batch=5, poll_seconds=1).backlog()
        == 1
    ), "a drain that runs once waits for it"
    with RunningDrain(engine, sink) as running:
        eventually(lambda: states(engine) == [(1, "sent", 2)])
        assert running.drain.backlog() == 0

    assert [message["position"] for message in messages(sink)] == ["1"]


def test_a_range_is_sent_again_with_the_same_bytes_while_a_leader_runs(
    app: Flask, engine: Engine
) -> None:
    user = factories.create_user(app)
    rename(app, user, times=119)
    sink = MemorySink()
    with RunningDrain(engine, sink, window=50, batch=50):
        eventually(lambda: cursor(engine) == 120)
        first = list(sink.messages)
        said = flask(app, "replay", "--sink", "memory", "--from", "5", "--to", "110")
        assert "5 to 110" in said
        rename(app, user, times=2)
        eventually(lambda: cursor(engine) == 122 and finished(engine))

    again = sink.messages[120:]
    assert [m for m in again if m in first] == first[4:110]
    fresh = [json.loads(message)["position"] for message in again if message not in first]
    assert fresh == ["121", "122"]


def test_a_replay_that_was_cut_off_goes_on_with_the_next_leader(app: Flask, engine: Engine) -> None:
    user = factories.create_user(app)
    rename(app, user, times=79)
    with RunningDrain(engine, MemorySink(), window=50, batch=50):
        eventually(lambda: cursor(engine) == 80)
    flask(app, "replay", "--sink", "memory", "--from", "1")

    taken = 0

    def breaks(event: Outgoing) -> str | None:
        nonlocal taken
        taken += 1
        return "gone" if taken > 60 else None

    sinks = CuttingSink(breaks), MemorySink()
    with RunningDrain(engine, sinks[0]):
        eventually(lambda: taken > 60)
    with RunningDrain(engine, sinks[1]):
        eventually(lambda: finished(engine))

    seen = {message["position"] for sink in sinks for message in messages(sink)}
    assert seen == {str(n) for n in range(1, 81)}
    assert len(sinks[1].messages) < 80, "what was recorded is not sent again"


def test_a_replay_says_again_what_is_missing(app: Flask, engine: Engine) -> None:
    for _ in range(3):
        factories.create_user(app)
    sink = PickySink(too_large(2))
    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 3)
        flask(app, "replay", "--sink", "memory", "--from", "1", "--to", "3")
        eventually(lambda: len(sink.messages) == 6 and finished(engine))

    types = [(message["position"], message["type"]) for message in messages(sink)[3:]]
    assert ("2", "shop.audit.gap") in types
    assert states(engine) == [(2, "parked", 1)]


def test_a_sink_that_is_out_of_order_gets_its_replay_later(app: Flask, engine: Engine) -> None:
    for _ in range(3):
        factories.create_user(app)
    sink = PickySink(lambda _event: None)
    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 3)
        sink.refuses = lambda _event: "not authorized"
        flask(app, "replay", "--sink", "memory", "--from", "1")
        eventually(lambda: bool(sink._refusals) or len(sink.taken) == 3)
        sink.refuses = lambda _event: None
        eventually(lambda: finished(engine))

    assert len(sink.messages) == 6
    assert parked(engine) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--from", "1", "--to", "9"), "is at position 2: what comes after it will arrive"),
        (("--from", "3"), "nothing from 3 to 2"),
        (("--sink", "tape", "--from", "1"), "ever sent to a sink 'tape'"),
    ],
)
def test_a_range_that_cannot_be_sent_again_is_refused(
    app: Flask, engine: Engine, arguments: tuple[str, ...], says: str
) -> None:
    factories.create_user(app)
    factories.create_user(app)
    with RunningDrain(engine, MemorySink()):
        eventually(lambda: cursor(engine) == 2)
    given = arguments if "--sink" in arguments else ("--sink", "memory", *arguments)

    assert says in flask(app, "replay", *given, fails=True)


def test_status_says_how_far_each_sink_is_and_who_leads(app: Flask, engine: Engine) -> None:
    for _ in range(3):
        factories.create_user(app)
    assert "nobody leads" in flask(app, "status")
    sink = PickySink(too_large(2))
    with RunningDrain(engine, sink):
        eventually(lambda: cursor(engine) == 3)
        eventually(lambda: json.loads(flask(app, "status", "--json"))["sealed_through"] == 3)
        leads = json.loads(flask(app, "status", "--json"))
        assert 0 < leads["leader"]["expires_in_seconds"] <= 5
        assert "led by" in flask(app, "status")
    factories.create_user(app)
    flask(app, "requeue")
    flask(app, "replay", "--sink", "memory", "--from", "1", "--to", "1")

    report = json.loads(flask(app, "status", "--json"))

    assert (report["head"], report["pending"], report["begins"]) == (3, 1, 1)
    assert report["leader"] is None
    assert len(report["seal"]) == 64
    (found,) = report["sinks"]
    assert (found["name"], found["position"], found["backlog"]) == ("memory", 3, 1)
    assert found["oldest_seconds"] >= 0
    assert found["last_acknowledged_at"].endswith("Z")
    assert (found["parked"], found["requeued"], found["configured"]) == (0, 1, False)
    assert found["replays"] == [{"from": 1, "to": 1, "next": 1}]
    assert "3 behind" not in flask(app, "status")
