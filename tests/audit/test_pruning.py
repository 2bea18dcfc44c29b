"""DO-16: old entries are removed when everybody has them, and the rest still tells its story."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.orm import Session

from shop import clock
from shop.audit import jobs, sealing
from shop.audit.models import AuditEntry, AuditSink, ParkedEvent, Seal
from shop.audit.sealing import seal
from shop.audit.sequencer import stamp
from shop.audit.sinks.memory import MemorySink
from shop.db import db, writing
from shop.leases import Lease
from tests import factories
from tests.audit.running import RunningDrain, cursor, eventually, messages, rename

DAYS = 30
EVENTS = "/api/v1/audit/events"


@pytest.fixture
def old(app: Flask, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """Nine entries of a year ago under three seals; a sink `mqtt` has them all."""
    monkeypatch.setattr(sealing, "MOST", 3)
    for _ in range(3):
        rename(app, factories.create_user(app), times=2)
    with writing(engine) as connection:
        connection.execute(update(AuditEntry).values(created_at=clock.now() - timedelta(days=365)))
        acknowledged = {"name": "mqtt", "position": 9, "updated_at": clock.now()}
        connection.execute(insert(AuditSink).values(acknowledged))
    lease = Lease(engine, "drain", 60)
    assert lease.acquire()
    stamp(engine)
    while seal(engine, lease):
        pass
    return lease


def prune(app: Flask, *, days: int = DAYS, sinks: tuple[str, ...] = ("mqtt",)) -> int:
    with app.app_context():
        return jobs.prune(days, sinks, db.session(), clock.now())


def positions(engine: Engine) -> list[int | None]:
    with Session(engine) as session:
        return list(session.scalars(select(AuditEntry.position).order_by(AuditEntry.id)))


def verified(app: Flask) -> dict[str, Any]:
    result = app.test_cli_runner().invoke(args=["shop", "verify"])
    found = json.loads(result.stdout)["checks"]
    return {check["name"]: check["findings"] for check in found if check["findings"]}


@pytest.mark.usefixtures("old")
def test_what_every_sink_has_is_removed_and_the_log_is_still_sound(
    app: Flask, engine: Engine, session: Session
) -> None:
    factories.create_user(app)
    stamp(engine)

    assert prune(app) == 9

    assert positions(engine) == [10]
    assert verified(app) == {}
    assert jobs.reconcile(session, clock.now())["sound"]
    with Session(engine) as fresh:
        (anchor,) = fresh.scalars(select(Seal))
        assert (anchor.through, anchor.marks) == (9, "")
        assert anchor.pruned_at is not None
    assert prune(app) == 0


def test_the_chain_goes_on_from_where_the_log_begins(
    app: Flask, engine: Engine, old: Lease
) -> None:
    prune(app)
    for _ in range(4):
        factories.create_user(app)
    stamp(engine)
    assert [seal(engine, old) for _ in range(3)] == [3, 1, 0]
    assert verified(app) == {}

    with writing(engine) as connection:
        connection.execute(text("UPDATE audit_log SET actor = 'nobody' WHERE position = 11"))
        # What was removed may not come back either.
        connection.execute(text("UPDATE audit_log SET position = 2 WHERE position = 12"))

    found = verified(app)["audit-seals"]
    assert {"what": "changed", "position": 11} in found
    assert {"what": "missing", "position": 12} in found
    assert {"what": "slipped in", "position": 2} in found


@pytest.mark.usefixtures("old")
def test_what_is_young_or_kept_for_ever_stays(app: Flask, engine: Engine) -> None:
    assert prune(app, days=0) == 0
    assert prune(app, days=366) == 0
    with writing(engine) as connection:
        young = update(AuditEntry).where(AuditEntry.position == 5)
        connection.execute(young.values(created_at=clock.now()))

    assert prune(app) == 3, "a seal goes as a whole, and none before the one before it"
    assert positions(engine) == [4, 5, 6, 7, 8, 9]


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    ("cursors", "sinks", "left"),
    [
        ({"mqtt": 5}, ("mqtt",), 6),
        ({"mqtt": 9}, ("mqtt", "tape"), 9),
        ({"mqtt": 9, "tape": 4}, ("mqtt",), 6),
        ({"mqtt": 9, "tape": 9}, ("mqtt", "tape"), 0),
        ({}, (), 0),
        ({}, ("mqtt",), 9),
    ],
)
def test_what_some_sink_lacks_stays(
    app: Flask, engine: Engine, cursors: dict[str, int], sinks: tuple[str, ...], left: int
) -> None:
    """Of those configured, and of those that are known and not configured just now."""
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM audit_sinks"))
        for name, position in cursors.items():
            row = {"name": name, "position": position, "updated_at": clock.now()}
            connection.execute(insert(AuditSink).values(row))

    prune(app, sinks=sinks)

    assert len(positions(engine)) == left


@pytest.mark.usefixtures("old")
def test_what_is_to_be_sent_again_stays(app: Flask, engine: Engine) -> None:
    flask = app.test_cli_runner().invoke
    ordered = flask(args=["audit", "replay", "--sink", "mqtt", "--from", "5", "--to", "6"])
    assert ordered.exit_code == 0, ordered.output

    prune(app)

    assert positions(engine) == [4, 5, 6, 7, 8, 9]
    refused = flask(args=["audit", "replay", "--sink", "mqtt", "--from", "2"])
    assert "the log begins at 4" in refused.output


def park(engine: Engine, position: int, state: str, changed_at: datetime) -> None:
    with writing(engine) as connection:
        connection.execute(insert(ParkedEvent).values(
            sink="mqtt", position=position, event_id="x", table_name="users", row_id=1, sequence=1,
            reason="too large", attempts=1, announced=True, state=state, parked_at=changed_at,
            changed_at=changed_at,
        ))  # fmt: skip


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("state", ["parked", "requeued"])
def test_a_parked_entry_stays_alone_until_it_was_sent(
    app: Flask, engine: Engine, state: str
) -> None:
    park(engine, 2, state, clock.now())

    assert prune(app) == 8

    assert positions(engine) == [2]
    assert verified(app) == {}
    sink = MemorySink()
    sink.name = "mqtt"
    app.test_cli_runner().invoke(args=["audit", "requeue"])
    with writing(engine) as connection:
        connection.execute(text("UPDATE leases SET expires_ms = 0"))
    with RunningDrain(engine, sink):
        eventually(lambda: len(sink.messages) == 1)
    assert messages(sink)[0]["position"] == "2"


@pytest.mark.usefixtures("old")
def test_what_was_parked_and_sent_is_forgotten_later(
    app: Flask, engine: Engine, session: Session
) -> None:
    long_ago = clock.now() - timedelta(days=DAYS + 1)
    park(engine, 2, "sent", long_ago)
    park(engine, 3, "sent", clock.now())
    park(engine, 4, "parked", long_ago)

    assert jobs.forget_sent(DAYS, session, clock.now()) == 1
    assert jobs.forget_sent(0, session, clock.now()) == 0
    assert list(session.scalars(select(ParkedEvent.position))) == [3, 4]


def test_what_is_not_sealed_stays(app: Flask, engine: Engine) -> None:
    factories.create_user(app)
    stamp(engine)

    assert prune(app, days=1, sinks=()) == 0


@pytest.mark.usefixtures("old")
def test_readers_are_told_where_the_log_begins(
    app: Flask, engine: Engine, client: FlaskClient
) -> None:
    boss = factories.sign_in(app, "staff")
    stamp(engine)
    prune(app)

    gone = client.get(f"{EVENTS}?after=3", headers=boss)
    assert (gone.status_code, gone.get_json()["type"]) == (410, "/problems/gone")
    assert gone.get_json()["first"] == 10
    assert "begins at 10" in gone.get_json()["detail"]
    for url in (EVENTS, f"{EVENTS}?after=9"):
        shown = client.get(url, headers=boss).get_json()
        assert [item["position"] for item in shown["items"]] == ["10"]
        assert (shown["first"], shown["last"], shown["next_cursor"]) == (10, 10, None)


@pytest.mark.usefixtures("old")
def test_a_new_sink_begins_where_the_log_begins(app: Flask, engine: Engine) -> None:
    prune(app)
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM audit_sinks"))
        connection.execute(text("UPDATE leases SET expires_ms = 0"))
    sink = MemorySink()

    with RunningDrain(engine, sink):
        factories.create_user(app)
        eventually(lambda: cursor(engine) == 10)

    assert [message["position"] for message in messages(sink)] == ["10"]
