"""What staff is told: stock that runs out, once each time, and the digest of the day."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from shop import clock
from shop.admin import jobs as admin_jobs
from shop.db import db
from shop.jobs.slots import Every
from shop.notifications.jobs import forget_notifications
from shop.notifications.models import Notification
from shop.orders.models import Shipment
from shop.products.queries import how_many_low
from tests.jobs.running import runner
from tests.notifications.checks import Headers, inbox, kinds, mails, read_on
from tests.orders.checks import act, pay, placed, variant


def set_stock(client: FlaskClient, staff: Headers, oak: dict[str, Any], delta: int) -> None:
    """Move the stock of a variant."""
    body = {"delta": delta, "reason": "counted"}
    answer = client.post(f"/api/v1/variants/{oak['id']}/stock", json=body, headers=staff)
    assert answer.status_code == 200, answer.text


def test_stock_that_falls_to_the_mark_is_told_once_each_time(
    app: Flask, client: FlaskClient, staff: Headers, admin: Headers, anna: Headers
) -> None:
    oak = variant(client, staff, stock=8)
    for delta in (-2, -1, -1, -4, 5, -1, 1, -1):
        set_stock(client, staff, oak, delta)
        read_on(app)

    # 6, 5!, 4, 0, 5, 4, 5, 4: it rose to the mark and not above it.
    assert kinds(client, staff) == kinds(client, admin) == ["low-stock"]
    set_stock(client, staff, oak, 20)
    placed(client, anna, (oak["sku"], 19))
    set_stock(client, staff, oak, -1)
    read_on(app)
    assert kinds(client, staff) == kinds(client, admin) == ["low-stock"] * 2
    newest, first = inbox(client, staff)
    assert newest["data"]["on_hand"] == 5
    assert first["data"] == {
        "variant_id": oak["id"], "on_hand": 5, "threshold": 5, "name": first["data"]["name"],
    }  # fmt: skip
    assert oak["sku"] in first["title"]
    assert kinds(client, anna) == ["order-placed"]


def test_a_variant_with_a_threshold_of_its_own_is_low_below_it(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    oak = variant(client, staff, stock=22, low_stock_threshold=20)
    elm = variant(client, staff, stock=6, low_stock_threshold=2)
    set_stock(client, staff, oak, -2)
    set_stock(client, staff, elm, -4)
    read_on(app)
    assert inbox(client, staff) == []
    with engine.connect() as connection:
        assert connection.execute(how_many_low(5)).scalar_one() == 0

    set_stock(client, staff, oak, -1)
    set_stock(client, staff, elm, -1)
    read_on(app)

    told = [(it["data"]["variant_id"], it["data"]["threshold"]) for it in inbox(client, staff)]
    assert told == [(elm["id"], 1), (oak["id"], 19)]
    with engine.connect() as connection:
        assert connection.execute(how_many_low(5)).scalar_one() == 2


def test_what_is_new_and_few_is_no_news(app: Flask, client: FlaskClient, staff: Headers) -> None:
    oak = variant(client, staff, stock=2)
    set_stock(client, staff, oak, -1)
    read_on(app)

    assert inbox(client, staff) == []


class DayBefore(Every):
    """A day is what lies 24 hours before whatever slot."""

    def latest(self, moment: datetime) -> datetime:
        """The slot before."""
        return moment - timedelta(days=1)


def tell_the_day(app: Flask, slot: datetime | None = None) -> dict[str, Any]:
    """The digest of a slot; this moment is before it."""
    with app.app_context():
        slot = slot or clock.now() + timedelta(seconds=2)
        return admin_jobs.digest(DayBefore(86400), "EUR", 5, db.session(), slot)


def test_the_digest_is_a_job(app: Flask, client: FlaskClient, staff: Headers) -> None:
    run = runner(app, *app.extensions["shop"].jobs).run_now("digest", "cli")

    assert run is not None
    assert (run.status, run.error) == ("done", None)
    assert kinds(client, staff) == ["digest"]


def test_the_digest_tells_staff_of_the_day_and_asks_customers_for_reviews(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, engine: Engine
) -> None:
    oak, elm = variant(client, staff, stock=10), variant(client, staff, stock=4)
    arrived = placed(client, anna, (oak["sku"], 1))
    pay(client, anna, arrived)
    act(client, staff, arrived, "ship")
    act(client, staff, arrived, "deliver")
    money = {"amount": {"amount": 50, "currency": "EUR"}, "reason": "scratched"}
    act(client, staff, arrived, "refunds", **money)
    placed(client, anna, (elm["sku"], 1))
    tell_the_day(app)

    (told,) = inbox(client, staff)
    figures = told["data"] | {"from": None, "until": None}
    assert figures == {
        "from": None, "until": None, "orders": 2, "low_stock": 1, "parked": 0,
        "revenue": {"amount": 19900, "currency": "EUR"},
        "refunds": {"amount": 50, "currency": "EUR"},
    }  # fmt: skip
    assert "Paid: 199.00 EUR. Given back: 0.50 EUR." in told["text"]
    assert kinds(client, anna) == ["review-request"]
    owed = [kind for _, kind in mails(engine)]
    assert sorted(owed) == ["digest", "review-request"]


def test_a_digest_that_was_cut_off_is_told_once(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, engine: Engine
) -> None:
    """SC-05: its parts commit one by one, and it begins anew."""
    order = placed(client, anna, (variant(client, staff)["sku"], 1))
    pay(client, anna, order)
    act(client, staff, order, "ship")
    act(client, staff, order, "deliver")
    slot = clock.now() + timedelta(seconds=1)
    for _ in range(2):
        tell_the_day(app, slot)

    assert (kinds(client, staff), kinds(client, anna)) == (["digest"], ["review-request"])
    assert len(mails(engine)) == 2


def test_whoever_threw_the_request_away_or_reviewed_is_not_asked(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers
) -> None:
    oak = variant(client, staff)
    for _ in range(2):
        order = placed(client, anna, (oak["sku"], 1))
        pay(client, anna, order)
        act(client, staff, order, "ship")
        act(client, staff, order, "deliver")
    slot = clock.now() + timedelta(seconds=1)
    tell_the_day(app, slot)
    assert kinds(client, anna) == ["review-request"] * 2
    for item in inbox(client, anna):
        client.delete(f"/api/v1/notifications/{item['id']}", headers=anna)
    tell_the_day(app, slot + timedelta(days=1))
    assert kinds(client, anna) == []

    third = placed(client, anna, (oak["sku"], 1))
    pay(client, anna, third)
    act(client, staff, third, "ship")
    act(client, staff, third, "deliver")
    review = {"rating": 5}
    client.post(f"/api/v1/products/{oak['product_id']}/reviews", json=review, headers=anna)
    tell_the_day(app, slot + timedelta(days=1))
    assert kinds(client, anna) == []


def test_nobody_is_asked_about_what_arrived_long_ago(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, session: Session
) -> None:
    order = placed(client, anna, (variant(client, staff)["sku"], 1))
    pay(client, anna, order)
    act(client, staff, order, "ship")
    act(client, staff, order, "deliver")
    shipped = Shipment.__table__
    long_ago = clock.now() - timedelta(days=1)
    session.connection().execute(update(shipped).values(delivered_at=long_ago))
    session.commit()
    tell_the_day(app, clock.now())

    assert kinds(client, anna) == []


@pytest.mark.parametrize("days", [90, 91])
def test_old_notifications_are_forgotten(
    client: FlaskClient, staff: Headers, anna: Headers, session: Session, days: int
) -> None:
    oak = variant(client, staff, stock=10)
    message = {"title": "Welcome", "text": "Hello.", "user_id": 3}
    assert client.post("/api/v1/notifications", json=message | {"user_id": my_id(client, anna)},
                       headers=staff).status_code == 202  # fmt: skip
    placed(client, anna, (oak["sku"], 1))
    read_on(client.application)
    age = clock.now() - timedelta(days=days, seconds=-1)
    for table in ("notifications", "notification_messages"):
        session.execute(text(f"UPDATE {table} SET created_at = :age"), {"age": age.replace(
            tzinfo=None)})  # fmt: skip
    session.commit()
    placed(client, anna, (oak["sku"], 1))
    read_on(client.application)

    report = forget_notifications(session, clock.now(), 90)

    gone = days > 90
    assert report == {"notifications": 2 if gone else 0, "messages": 1 if gone else 0}
    left = session.scalars(select(Notification.kind).order_by(Notification.id)).all()
    assert left == ["order-placed"] if gone else ["message", "order-placed", "order-placed"]


def my_id(client: FlaskClient, headers: Headers) -> int:
    """The account behind the headers."""
    found: int = client.get("/api/v1/users/me", headers=headers).get_json()["id"]
    return found
