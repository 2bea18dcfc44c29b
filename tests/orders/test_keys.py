"""Orders and their keys: what is sent again is done once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from shop.idempotency.models import IdempotencyKey
from shop.idempotency.operations import Claim
from shop.orders.models import Order
from shop.products.models import StockLevel
from tests import factories
from tests.orders.checks import (
    ORDERS,
    Headers,
    act,
    count,
    nothing_was_ordered,
    on_hand,
    pay,
    placed,
    variant,
    wish,
)
from tests.web.checks import assert_problem


@pytest.fixture
def oak(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """Five are there."""
    return variant(client, staff, sku="OAK", stock=5)


def send(client: FlaskClient, headers: Headers, key: str, *items: tuple[str, int]) -> Any:
    """An order with this key."""
    return client.post(ORDERS, json=wish(*items), headers=headers | {"Idempotency-Key": key})


def test_an_order_that_is_sent_again_is_placed_once(
    client: FlaskClient, customer: Headers, session: Session, engine: Engine, oak: Any
) -> None:
    """BL-15: after a success, after a lost response."""
    first = send(client, customer, "k", ("OAK", 2))
    again = send(client, customer, "k", ("OAK", 2))

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.data == first.data
    for name in ("ETag", "Location"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert count(engine, Order) == 1
    assert on_hand(session, oak["id"]) == 3


def test_an_order_that_was_refused_may_be_sent_again_after_a_restock(
    client: FlaskClient, staff: Headers, customer: Headers, oak: Any
) -> None:
    """BL-15, BL-19: what was refused is not kept."""
    assert send(client, customer, "k", ("OAK", 0)).status_code == 422
    assert_problem(send(client, customer, "k", ("OAK", 6)), "out-of-stock", "/items/0/quantity")
    more = {"delta": 1, "reason": "delivery"}
    client.post(f"/api/v1/variants/{oak['id']}/stock", json=more, headers=staff)

    assert send(client, customer, "k", ("OAK", 6)).status_code == 201


def test_a_key_belongs_to_one_request_of_one_buyer(
    app: Flask, client: FlaskClient, customer: Headers, engine: Engine, oak: Any
) -> None:
    """BL-16."""
    first = send(client, customer, "k", ("OAK", 1))
    assert_problem(send(client, customer, "k", ("OAK", 2)), "idempotency-mismatch")

    other = send(client, factories.sign_in(app, "customer"), "k", ("OAK", 1))

    assert other.status_code == 201
    assert other.get_json()["number"] != first.get_json()["number"]
    assert count(engine, Order) == 2


def test_an_order_whose_key_was_lost_meanwhile_is_not_placed(
    app: Flask, client: FlaskClient, customer: Headers, session: Session, oak: Any
) -> None:
    """BL-17: its answer is kept with the last of what it writes, and refuses all of it."""
    keys = app.extensions["idempotency"]
    keep = keys.keep

    def keep_for_another(claim: Claim, *rest: Any) -> None:
        keep(Claim(claim.id, claim.number + 1), *rest)

    keys.keep = keep_for_another
    try:
        answer = send(client, customer, "k", ("OAK", 2))
    finally:
        del keys.keep

    assert_problem(answer, "idempotency-in-progress")
    assert nothing_was_ordered(session)
    assert on_hand(session, oak["id"]) == 5


def test_money_is_not_moved_without_a_key(
    client: FlaskClient, staff: Headers, customer: Headers, session: Session, oak: Any
) -> None:
    """BL-19."""
    answer = client.post(ORDERS, json=wish(("OAK", 1)), headers=customer)
    assert_problem(answer, "idempotency-key-required")
    assert nothing_was_ordered(session)
    order = placed(client, customer, ("OAK", 1))
    url = f"{ORDERS}/{order['id']}"
    answer = client.post(f"{url}/payments", json={}, headers=customer)
    assert_problem(answer, "idempotency-key-required")
    pay(client, customer, order)
    answer = client.post(f"{url}/refunds", json={"reason": "x"}, headers=staff)
    assert_problem(answer, "idempotency-key-required")
    for key in ("", "x" * 256, "a\tb", "ä"):
        headers = customer | {"Idempotency-Key": key}
        answer = client.post(ORDERS, json=wish(("OAK", 1)), headers=headers)
        assert answer.status_code == 400


def test_a_cancellation_with_its_refund_is_answered_again_as_it_was(
    client: FlaskClient, customer: Headers, oak: Any
) -> None:
    """BL-15."""
    order = placed(client, customer, ("OAK", 1))
    pay(client, customer, order)
    url, headers = f"{ORDERS}/{order['id']}/cancel", customer | {"Idempotency-Key": "cancel"}

    first, again = (client.post(url, headers=headers) for _ in range(2))

    assert first.status_code == 200
    assert again.data == first.data
    assert first.get_json()["payment_status"] == "refunded"
    assert_problem(act(client, customer, order, "cancel"), "invalid-transition")


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
def test_while_an_order_is_being_placed_its_key_is_taken(
    *,
    app: Flask,
    client: FlaskClient,
    customer: Headers,
    session: Session,
    engine: Engine,
    oak: Any,
) -> None:
    """BL-17: the first one waits for a row that this test holds."""
    locked = select(StockLevel).where(StockLevel.variant_id == oak["id"]).with_for_update()
    session.execute(locked).all()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, app.test_client(), customer, "k", ("OAK", 1))
        deadline = time.monotonic() + 3
        while not count(engine, IdempotencyKey) and time.monotonic() < deadline:
            time.sleep(0.01)
        second = send(client, customer, "k", ("OAK", 1))
        session.rollback()

        assert_problem(second, "idempotency-in-progress")
        assert second.headers["Retry-After"]
        assert waiting.result().status_code == 201
    assert send(client, customer, "k", ("OAK", 1)).headers["Idempotency-Replayed"] == "true"
