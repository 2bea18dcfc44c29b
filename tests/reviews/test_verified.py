"""Verified reviews: their author had the product delivered, whichever came first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from tests import factories
from tests.orders.checks import Headers, act, pay, placed, variant


@pytest.fixture
def oak(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """What is bought and reviewed here."""
    return variant(client, staff, stock=500)


def on_its_way(client: FlaskClient, staff: Headers, customer: Headers, oak: Any) -> dict[str, Any]:
    """An order that was sent."""
    order = placed(client, customer, (oak["sku"], 1))
    pay(client, customer, order)
    assert act(client, staff, order, "ship").status_code == 200
    return order


def write(client: FlaskClient, headers: Headers, oak: Any) -> Any:
    """A review."""
    url = f"/api/v1/products/{oak['product_id']}/reviews"
    answer = client.post(url, json={"rating": 5}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def test_a_review_after_the_delivery_is_verified(
    app: Flask, client: FlaskClient, staff: Headers, customer: Headers, oak: Any
) -> None:
    """BL-09."""
    order = on_its_way(client, staff, customer, oak)
    act(client, staff, order, "deliver")

    assert write(client, customer, oak)["verified"] is True
    assert write(client, factories.sign_in(app, "customer"), oak)["verified"] is False


def test_a_review_before_the_delivery_becomes_verified_by_it(
    *,
    app: Flask,
    client: FlaskClient,
    staff: Headers,
    customer: Headers,
    oak: Any,
    session: Session,
) -> None:
    """BL-09: without purchase, before delivery."""
    order = on_its_way(client, staff, customer, oak)
    review = write(client, customer, oak)
    other = write(client, factories.sign_in(app, "customer"), oak)
    assert (review["verified"], other["verified"]) == (False, False)

    act(client, staff, order, "deliver")

    def verified(number: int) -> bool:
        found: bool = client.get(f"/api/v1/reviews/{number}", headers=staff).get_json()["verified"]
        return found

    assert (verified(review["id"]), verified(other["id"])) == (True, False)
    sequences = session.scalars(
        select(AuditEntry.sequence).where(
            AuditEntry.table_name == "reviews", AuditEntry.row_id == review["id"]
        )
    ).all()
    assert sequences == [1, 2]


def test_review_and_delivery_at_the_same_moment_see_each_other(
    app: Flask, client: FlaskClient, staff: Headers, oak: Any
) -> None:
    """BL-09."""
    for _ in range(10):
        buyer = factories.sign_in(app, "customer")
        order = on_its_way(client, staff, buyer, oak)
        with ThreadPoolExecutor(2) as pool:
            written = pool.submit(write, app.test_client(), buyer, oak)
            delivered = pool.submit(act, app.test_client(), staff, order, "deliver")
        assert delivered.result().status_code == 200
        url = f"/api/v1/reviews/{written.result()['id']}"
        assert client.get(url, headers=staff).get_json()["verified"] is True
