"""The reader of the log: each event has its effect once, and none stops the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from shop.audit.events import Event
from shop.audit.models import AuditEntry, AuditReader, ParkedEvent
from shop.audit.readers import MOST_ATTEMPTS, Reader, Readers
from shop.audit.sequencer import stamp
from shop.audit.troubles import SinkTrouble
from shop.checks import verify
from shop.db import db
from shop.mail.models import OutgoingMail
from shop.mail.operations import enqueue
from shop.notifications.checks import CHECKS
from shop.notifications.models import Notification
from tests import factories
from tests.notifications.checks import Headers, begin, inbox, kinds, mails, read_on
from tests.orders.checks import placed, variant


def cursor(engine: Engine) -> int:
    """Where the reader of notifications is."""
    with engine.connect() as connection:
        return connection.execute(select(AuditReader.position)).scalar_one()


def test_nobody_is_told_of_what_was_there_before(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, engine: Engine
) -> None:
    sku = variant(client, staff)["sku"]
    placed(client, anna, (sku, 1))
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("DELETE FROM audit_readers"))
    begin(engine)
    placed(client, anna, (sku, 1))
    read_on(app)

    assert kinds(client, anna) == ["order-placed"]


def test_a_reader_without_a_cursor_begins_at_the_end_of_the_log(
    app: Flask, engine: Engine, session: Session
) -> None:
    heard: list[int] = []
    reader = Reader("new", frozenset({"users"}), lambda _s, events: heard.extend(
        event.row_id for event in events))  # fmt: skip
    factories.create_user(app)
    stamp(engine)
    readers = Readers(app, [reader])
    readers.work()
    late = factories.create_user(app)
    stamp(engine)
    while readers.work():
        pass

    assert heard == [late.id]


def test_readers_at_the_same_time_do_everything_once(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, engine: Engine
) -> None:
    sku = variant(client, staff, stock=1000)["sku"]
    ended = threading.Event()

    def read_as_a_worker_does() -> None:
        readers = app.extensions["shop"].readers(app)
        while not ended.is_set():
            if not readers.work():
                time.sleep(0.001)

    threads = [threading.Thread(target=read_as_a_worker_does) for _ in range(3)]
    for thread in threads:
        thread.start()
    numbers = []
    for _ in range(25):
        numbers.append(placed(client, anna, (sku, 1))["number"])
        stamp(engine)
    read_on(app)
    ended.set()
    for thread in threads:
        thread.join()

    told = [item["data"]["number"] for item in reversed(inbox(client, anna))]
    assert told == numbers
    assert len(mails(engine)) == 25


def test_the_cursor_alone_keeps_readers_from_doing_anything_twice(
    app: Flask, engine: Engine, session: Session
) -> None:
    """What this work writes has no key that could be there already."""

    def owe_a_mail(session: Session, events: Sequence[Event]) -> None:
        time.sleep(0.002)
        for event in events:
            enqueue(session, "welcome", f"{event.row_id}@example.com")

    reader = Reader("greeting", frozenset({"users"}), owe_a_mail)
    Readers(app, [reader]).work()
    ended = threading.Event()

    def read_as_a_worker_does() -> None:
        readers = Readers(app, [reader])
        while not ended.is_set():
            readers.work()

    threads = [threading.Thread(target=read_as_a_worker_does) for _ in range(4)]
    for thread in threads:
        thread.start()
    users = []
    for _ in range(25):
        users.append(f"{factories.create_user(app).id}@example.com")
        stamp(engine)
    while Readers(app, [reader]).work():
        pass
    ended.set()
    for thread in threads:
        thread.join()

    owed = session.scalars(select(OutgoingMail.recipient).order_by(OutgoingMail.id)).all()
    assert owed == users


class Picky:
    """Work that fails for the accounts that are named so."""

    def __init__(self, fails_for: str) -> None:
        self.fails_for: str | None = fails_for
        self.done: list[int] = []
        self.tries = 0

    def __call__(self, session: Session, events: Sequence[Event]) -> None:
        for event in events:
            if self.fails_for is not None and f'"email":"{self.fails_for}' in event.data:
                self.tries += 1
                raise RuntimeError("cannot digest this")
        self.done += [event.row_id for event in events]


def test_an_event_that_fails_is_parked_and_can_be_put_back(
    app: Flask, engine: Engine, session: Session
) -> None:
    """The others neither wait for it for ever nor are undone by it."""
    picky = Picky("p***")
    readers = Readers(app, [Reader("picky", frozenset({"users"}), picky)])
    readers.work()
    made = [factories.create_user(app, email=f"{name}@example.com").id
            for name in ("anna", "poison", "carl", "dora")]  # fmt: skip
    stamp(engine)
    deadline = time.monotonic() + 30
    while cursor_of(session, "picky") < len(made):
        assert time.monotonic() < deadline
        readers.work()
        time.sleep(0.01)

    assert picky.done == [made[0], made[2], made[3]]
    # Twice among others, then alone.
    assert picky.tries == MOST_ATTEMPTS + 2
    (parked,) = session.scalars(select(ParkedEvent)).all()
    assert (parked.sink, parked.row_id, parked.state) == ("picky", made[1], "parked")
    assert parked.reason == "RuntimeError: cannot digest this"
    trouble = session.get_one(SinkTrouble, "picky")
    assert (trouble.parked, trouble.failures) == (1, MOST_ATTEMPTS)
    listed = app.test_cli_runner().invoke(args=["audit", "parked"]).output
    assert f"users/{made[1]}" in listed

    def put_back_and_look() -> str:
        session.rollback()
        app.test_cli_runner().invoke(args=["audit", "requeue", "--sink", "picky"])
        Readers(app, [Reader("picky", frozenset({"users"}), picky)]).work()
        return session.scalars(select(ParkedEvent.state)).one()

    assert put_back_and_look() == "parked"
    picky.fails_for = None
    assert put_back_and_look() == "sent"
    assert picky.done == [made[0], made[2], made[3], made[1]]


def cursor_of(session: Session, name: str) -> int:
    """Where a reader is."""
    session.rollback()
    found = session.execute(select(AuditReader.position).where(AuditReader.name == name))
    return found.scalar_one_or_none() or 0


def test_what_a_reader_wrote_is_undone_with_the_move_of_its_cursor(
    app: Flask, engine: Engine, session: Session
) -> None:
    def write_and_fail(session: Session, _events: Sequence[Event]) -> None:
        row = {"user_id": user.id, "kind": "message", "key": "x", "data": {}, "hidden": False}
        session.add(Notification(**row))
        session.flush()
        raise RuntimeError

    user = factories.create_user(app)
    readers = Readers(app, [Reader("fails", frozenset({"users"}), write_and_fail)])
    readers.work()
    before = cursor_of(session, "fails")
    factories.create_user(app)
    stamp(engine)
    readers.work()

    assert cursor_of(session, "fails") == before
    assert session.scalar(select(func.count()).select_from(Notification)) == 0


def test_events_that_no_reader_has_are_not_pruned(app: Flask, engine: Engine) -> None:
    from shop.audit import pruning

    factories.create_user(app)
    stamp(engine)
    with app.app_context():
        behind = pruning._everybody_has(db.session(), ())
        read_on(app)
        db.session.rollback()
        assert (behind, pruning._everybody_has(db.session(), ())) == (0, 1)


@pytest.mark.parametrize("lost", [False, True])
def test_verify_finds_an_order_that_was_not_told(
    client: FlaskClient, staff: Headers, anna: Headers, session: Session, lost: bool
) -> None:
    sku = variant(client, staff, stock=100)["sku"]
    orders = [placed(client, anna, (sku, 1)) for _ in range(2)]
    read_on(client.application)
    if lost:
        session.execute(
            text("DELETE FROM notifications WHERE id = (SELECT * FROM"
                 " (SELECT MAX(id) FROM notifications) AS newest)")
        )  # fmt: skip
        session.commit()
    report = verify(session, CHECKS)["checks"][0]

    assert report["looked_at"] == 2
    assert [it["order_id"] for it in report["findings"]] == ([orders[1]["id"]] if lost else [])


def test_notifications_leave_no_trace_in_the_log(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, session: Session
) -> None:
    """Their text never leaves by a broker, and a reader never reads what it causes."""
    placed(client, anna, (variant(client, staff)["sku"], 1))
    read_on(app)

    tables = set(session.scalars(select(AuditEntry.table_name)))
    assert not {name for name in tables if name.startswith("notification")}
