"""Messages of staff: to one, or to all who have a role, each exactly once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from shop import clock
from shop.crashes import Crashed
from shop.db import db, transactional, writing
from shop.inserts import insert_rows
from shop.mail import letters
from shop.mail.models import OutgoingMail
from shop.notifications import operations
from shop.notifications.fanout import FanOut
from shop.notifications.mails import composers
from shop.notifications.models import Notification, NotificationMessage
from shop.users.models import User
from tests import factories
from tests.notifications.checks import (
    NOTIFICATIONS,
    Headers,
    choose,
    inbox,
    mails,
    read_on,
    unread,
)
from tests.orders.checks import key, placed, variant
from tests.users.checks import disable

SALE = {"title": "Sale", "text": "Oak is cheap.\nElm is not."}


@pytest.fixture
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "PIECE", 7)


def create_customers(engine: Engine, count: int, role: str = "customer") -> None:
    """So many accounts, without the API."""
    moment = clock.now()
    rows = [
        {
            "email": f"{role}-{number}@example.org", "name": "A crowd", "password_hash": "none",
            "role": role, "disabled": False, "version": 1, "created_at": moment,
            "updated_at": moment,
        }
        for number in range(count)
    ]  # fmt: skip
    with writing(engine) as connection:
        insert_rows(connection, User.__table__, rows)


def send(client: FlaskClient, staff: Headers, **to: Any) -> Any:
    """The answer to a message."""
    return client.post(NOTIFICATIONS, json=SALE | to, headers=staff)


def progress(client: FlaskClient, staff: Headers, message: Any) -> dict[str, Any]:
    """How far a message is."""
    answer = client.get(f"{NOTIFICATIONS}/messages/{message['id']}", headers=staff)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.get_json()
    return found


def holders(session: Session) -> list[int]:
    """Who has a message, as often as they have it."""
    session.rollback()
    found = select(Notification.user_id).where(Notification.kind == "message")
    return sorted(session.scalars(found))


def test_a_message_to_one_is_there_at_once(
    client: FlaskClient, staff: Headers, anna: Headers
) -> None:
    me = client.get("/api/v1/users/me", headers=anna).get_json()["id"]
    answer = send(client, staff, user_id=me)

    assert (answer.status_code, answer.get_json()["status"]) == (202, "sent")
    (item,) = inbox(client, anna)
    assert (item["kind"], item["title"], item["text"]) == ("message", SALE["title"], SALE["text"])
    assert unread(client, anna) == 1
    assert progress(client, staff, answer.get_json())["recipients"] == 1
    assert client.get(answer.headers["Location"], headers=staff).get_json() == answer.get_json()


def test_a_message_that_is_sent_again_is_the_same(
    client: FlaskClient, staff: Headers, anna: Headers
) -> None:
    me = client.get("/api/v1/users/me", headers=anna).get_json()["id"]
    headers = staff | key()
    first, again = (
        client.post(NOTIFICATIONS, json=SALE | {"user_id": me}, headers=headers) for _ in range(2)
    )

    assert again.get_json() == first.get_json()
    assert len(inbox(client, anna)) == 1


@pytest.mark.parametrize(
    "to", [{}, {"user_id": 1, "role": "staff"}, {"role": "everybody"}, {"user_id": 999_999}]
)
def test_a_message_to_nobody_is_refused(
    client: FlaskClient, staff: Headers, to: dict[str, Any]
) -> None:
    assert send(client, staff, **to).status_code == 422


def test_customers_write_no_messages(client: FlaskClient, anna: Headers) -> None:
    assert send(client, anna, role="staff").status_code == 403
    assert client.get(f"{NOTIFICATIONS}/messages/1", headers=anna).status_code == 403


@pytest.mark.usefixtures("_small_pieces")
def test_all_who_have_the_role_get_it_once_and_nobody_else(
    client: FlaskClient, staff: Headers, anna: Headers, engine: Engine,
    session: Session,
) -> None:  # fmt: skip
    create_customers(engine, 30)
    closed = factories.create_user(client.application)
    disable(client.application, closed)
    choose(client, anna, message={"email": True})
    wanted = sorted(session.scalars(
        select(User.id).where(User.role == "customer", User.disabled.is_(False))
    ))  # fmt: skip
    message = send(client, staff, role="customer").get_json()
    assert (message["status"], message["recipients"]) == ("sending", 0)
    late = factories.create_user(client.application)

    fan_out = FanOut(client.application)
    assert fan_out.work() == 1
    halfway = progress(client, staff, message)
    assert (halfway["status"], halfway["recipients"]) == ("sending", 7)
    while fan_out.work():
        pass

    assert holders(session) == wanted
    assert late.id not in wanted
    done = progress(client, staff, message)
    assert (done["status"], done["recipients"]) == ("sent", len(wanted))
    assert done["finished_at"] is not None
    assert mails(engine) == [("anna@example.com", "message")]
    assert inbox(client, anna)[0]["text"] == SALE["text"]


@pytest.mark.usefixtures("_small_pieces")
def test_pieces_that_die_or_meet_give_everybody_one(
    client: FlaskClient, staff: Headers, engine: Engine, session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    create_customers(engine, 60)
    deaths = iter([True, False, False, True, False, True] + [False] * 1000)
    lock = threading.Lock()

    def pass_point(name: str) -> None:
        with lock:
            if name == "in-fan-out" and next(deaths):
                raise Crashed(name)

    monkeypatch.setattr(operations, "crash_point", pass_point)
    message = send(client, staff, role="customer").get_json()

    def work() -> None:
        fan_out, idle = FanOut(client.application), 0
        while idle < 3:
            try:
                idle = 0 if fan_out.work() else idle + 1
            except Crashed:
                continue

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert progress(client, staff, message)["recipients"] == 60
    assert len(holders(session)) == len(set(holders(session))) == 60


def test_the_count_of_the_unread_is_right_while_all_are_read(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, engine: Engine
) -> None:
    """CC-12: notifications are made while others are marked as read."""
    me = client.get("/api/v1/users/me", headers=anna).get_json()["id"]
    sku = variant(client, staff, stock=1000)["sku"]
    ended = threading.Event()

    def read_all() -> None:
        reader = app.test_client()
        while not ended.is_set():
            reader.post(f"{NOTIFICATIONS}/read-all", headers=anna)

    threads = [threading.Thread(target=read_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20):
        placed(client, anna, (sku, 1))
        send(client, staff, user_id=me)
        read_on(app)
        if number == 10:
            client.delete(f"{NOTIFICATIONS}/{inbox(client, anna)[0]['id']}", headers=anna)
    ended.set()
    for thread in threads:
        thread.join()
    send(client, staff, user_id=me)

    with engine.connect() as connection:
        left = connection.execute(
            select(Notification.id).where(
                Notification.user_id == me, Notification.read_at.is_(None)
            )
        ).all()
    assert unread(client, anna) == len(left) == len(inbox(client, anna, unread="true")) >= 1
    assert len(inbox(client, anna)) == 40


def test_the_mail_says_what_the_notification_says(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, session: Session
) -> None:
    me = client.get("/api/v1/users/me", headers=anna).get_json()["id"]
    choose(client, anna, message={"email": True})
    placed(client, anna, (variant(client, staff)["sku"], 1))
    read_on(app)
    send(client, staff, user_id=me)
    title = inbox(client, anna)[1]["title"]

    owed = session.scalars(select(OutgoingMail).order_by(OutgoingMail.id)).all()
    compose = composers("https://shop.example")["notification"]
    about_order, message = (
        letters.write(mail, compose(session, mail) or {}, "shop.example") for mail in owed
    )
    assert about_order.subject == title
    assert (message.subject, message.recipient) == ("Sale", "anna@example.com")
    assert "Oak is cheap.\nElm is not.\n" in message.text
    assert "https://shop.example/account/notifications" in message.text
    assert "<p>Oak is cheap.</p>" in message.html


def test_no_mail_goes_to_an_address_that_was_left(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, session: Session
) -> None:
    placed(client, anna, (variant(client, staff)["sku"], 1))
    read_on(app)

    @transactional
    def move() -> None:
        user = db.session.scalars(select(User).where(User.email == "anna@example.com")).one()
        user.email = "elsewhere@example.com"

    with app.app_context():
        move()
    (mail,) = session.scalars(select(OutgoingMail)).all()
    assert composers("")["notification"](session, mail) is None


def test_a_message_has_one_recipient_or_one_role(engine: Engine) -> None:
    values = {"title": "x", "text": "", "status": "sent", "through": 0, "last": 0, "recipients": 0,
              "created_at": clock.now()}  # fmt: skip
    with pytest.raises(Exception, match="recipient"), writing(engine) as connection:
        connection.execute(insert(NotificationMessage).values(values))
