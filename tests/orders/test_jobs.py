"""Orders that nobody pays end by themselves, and their stock comes back once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from shop import clock
from shop.db import writing
from shop.orders.jobs import expire_unpaid, finish_refunds
from shop.orders.models import Order, Refund
from shop.orders.payments.base import ProviderAway
from tests.jobs.running import runner
from tests.orders.checks import (
    Headers,
    act,
    message,
    on_hand,
    pay,
    place,
    placed,
    read,
    send_message,
    states,
    terms_of,
    variant,
)
from tests.web.checks import assert_problem


@pytest.fixture
def oak(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """Five are there."""
    return variant(client, staff, stock=5)


def expire(app: Flask) -> int:
    """Run the job as the scheduler does."""
    with app.app_context():
        return expire_unpaid()


def let_time_pass(session: Session, *orders: dict[str, Any]) -> None:
    """Make these orders due a moment ago."""
    past = clock.now() - timedelta(seconds=1)
    change = update(Order.__table__).where(Order.id.in_([order["id"] for order in orders]))
    session.rollback()
    with writing(cast(Engine, session.get_bind())) as connection:
        connection.execute(change.values(expires_at=past))


def test_who_reserves_everything_and_does_not_pay_gives_it_back_once(
    *,
    app: Flask,
    client: FlaskClient,
    staff: Headers,
    customer: Headers,
    session: Session,
    oak: Any,
) -> None:
    """BL-22."""
    orders = [placed(client, customer, (oak["sku"], 1)) for _ in range(5)]
    assert_problem(place(client, staff, (oak["sku"], 1)), "out-of-stock", "/items/0/quantity")
    assert expire(app) == 0
    pay(client, customer, orders[0])
    pay(client, customer, orders[1], token="tok_decline")
    pay(client, customer, orders[2], token="tok_later")
    act(client, customer, orders[3], "cancel")
    let_time_pass(session, *orders)

    assert (expire(app), expire(app)) == (3, 0)

    assert on_hand(session, oak["id"]) == 4
    found = [read(client, customer, order) for order in orders]
    assert [order["status"] for order in found] == ["placed"] + ["cancelled"] * 4
    assert [line["action"] for line in found[4]["history"]] == ["place", "expire"]
    assert found[4]["expires_at"] is None
    assert_problem(pay(client, customer, orders[4]), "invalid-transition")


def test_a_payment_that_comes_after_the_end_goes_back(
    app: Flask,
    client: FlaskClient,
    customer: Headers,
    session: Session,
    oak: Any,
) -> None:
    """BL-22: late payment honoured or given back, never both."""
    order = placed(client, customer, (oak["sku"], 1))
    payment = pay(client, customer, order, token="tok_later").get_json()
    let_time_pass(session, order)
    assert expire(app) == 1

    assert send_message(app, message(payment, "payment.succeeded")).status_code == 200

    found = read(client, customer, order)
    assert states(found) == ("cancelled", "refunded", "unfulfilled")
    assert found["refunded_total"] == order["total"]
    assert on_hand(session, oak["id"]) == 5


def test_paying_at_the_very_end_is_either_in_time_or_too_late(
    app: Flask,
    client: FlaskClient,
    customer: Headers,
    session: Session,
    oak: Any,
) -> None:
    """BL-22: pay at the very expiry."""
    ends = set()
    for _ in range(20):
        order = placed(client, customer, (oak["sku"], 1))
        let_time_pass(session, order)
        with ThreadPoolExecutor(3) as pool:
            paying = pool.submit(pay, app.test_client(), customer, order)
            ending = [pool.submit(expire, app) for _ in range(2)]
        found = read(client, customer, order)
        ended = sum(it.result() for it in ending)
        if found["status"] == "cancelled":
            assert ended == 1
            assert states(found)[1] in ("unpaid", "refunded"), paying.result().text
            assert found["refunded_total"] == found["paid_total"]
            assert on_hand(session, oak["id"]) == 5
        else:
            assert (ended, states(found)[1]) == (0, "paid")
            assert paying.result().status_code == 201
            assert on_hand(session, oak["id"]) == 4
            assert act(client, customer, order, "cancel").status_code == 200
        ends.add(found["status"])
    assert on_hand(session, oak["id"]) == 5


def test_the_scheduler_ends_orders_and_sees_refunds_through(
    *, app: Flask, client: FlaskClient, staff: Headers, customer: Headers, session: Session,
    oak: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    unpaid, paid = (placed(client, customer, (oak["sku"], 1)) for _ in range(2))
    pay(client, customer, paid)
    let_time_pass(session, unpaid)
    provider = terms_of(app).providers["test"]

    def away(_back: Any) -> None:
        raise ProviderAway("Away.")

    with monkeypatch.context() as patch:
        patch.setattr(provider, "give_back", away)
        assert act(client, staff, paid, "refunds", reason="x").get_json()["status"] == "pending"
        with app.app_context():
            assert finish_refunds(terms_of(app).providers) == 0, "it is too young"
        long_ago = clock.now() - timedelta(minutes=5)
        session.connection().execute(update(Refund.__table__).values(created_at=long_ago))
        session.commit()
        with app.app_context():
            assert finish_refunds(terms_of(app).providers) == 0, "the provider is away"

    run = runner(app, *app.extensions["jobs"].values()).run_now("orders", "cli")

    assert run.status == "done"
    assert states(read(client, customer, unpaid))[0] == "cancelled"
    assert states(read(client, customer, paid))[1] == "refunded"
    assert read(client, staff, unpaid)["history"][-1]["actor"] == "jobs/orders"
