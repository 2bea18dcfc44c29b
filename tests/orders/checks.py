"""What tests about orders do at the doors of the shop, and look up behind them."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop import clock
from shop.orders.models import Order, OrderItem
from shop.orders.payments.base import sign
from shop.orders.terms import Terms
from shop.products.models import StockLevel, StockMovement
from tests import factories

Headers = dict[str, str]
ORDERS, WEBHOOKS = "/api/v1/orders", "/api/v1/payments/webhooks"
ADDRESS = {
    "name": "Anna Larsson", "line1": "Elm Street 1", "city": "Uppsala", "postal_code": "75310",
    "country": "SE",
}  # fmt: skip
_keys = itertools.count(1)


def key() -> Headers:
    """An `Idempotency-Key` that no other request has."""
    return {"Idempotency-Key": f"test-{next(_keys)}"}


def wish(*items: tuple[str, int], **changes: Any) -> dict[str, Any]:
    """An order as a client sends it."""
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in items]
    return {"items": lines, "shipping_address": ADDRESS} | changes


def place(client: FlaskClient, headers: Headers, *items: tuple[str, int], **changes: Any) -> Any:
    """The answer to an order."""
    return client.post(ORDERS, json=wish(*items, **changes), headers=key() | headers)


def placed(client: FlaskClient, headers: Headers, *items: tuple[str, int]) -> dict[str, Any]:
    """An order that was placed."""
    answer = place(client, headers, *items)
    assert answer.status_code == 201, answer.text
    order: dict[str, Any] = answer.get_json()
    return order


def act(
    client: FlaskClient, headers: Headers, order: dict[str, Any], action: str, **body: Any
) -> TestResponse:
    """Do something with an order: cancel, payments, ship, deliver, refunds."""
    url = f"{ORDERS}/{order['id']}/{action}"
    if action in ("cancel", "deliver"):
        return client.post(url, headers=key() | headers)
    return client.post(url, json=body, headers=key() | headers)


def pay(client: FlaskClient, headers: Headers, order: dict[str, Any], **body: Any) -> Any:
    """The answer to a payment."""
    return act(client, headers, order, "payments", **body)


def read(client: FlaskClient, headers: Headers, order: dict[str, Any]) -> dict[str, Any]:
    """The order as it is now."""
    answer = client.get(f"{ORDERS}/{order['id']}", headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def states(order: dict[str, Any]) -> tuple[str, str, str]:
    """Where an order stands."""
    return order["status"], order["payment_status"], order["fulfilment_status"]


def variant(client: FlaskClient, staff: Headers, **changes: Any) -> dict[str, Any]:
    """A variant that is for sale: its `sku`, `id`, price and stock as asked for."""
    body = factories.variant_body(**changes)
    product = factories.create_product(client, staff, variants=[body])
    found: dict[str, Any] = product["variants"][0]
    return found | {"product_id": product["id"]}


def on_hand(session: Session, variant_id: int) -> int:
    """How many of a variant are there; they are the sum of its movements."""
    session.rollback()
    there = session.execute(
        select(StockLevel.on_hand).where(StockLevel.variant_id == variant_id)
    ).scalar_one()
    moved = session.execute(
        select(func.sum(StockMovement.delta)).where(StockMovement.variant_id == variant_id)
    ).scalar_one()
    assert there == moved
    return there


def nothing_was_ordered(session: Session) -> bool:
    """Whether there is no row of any order."""
    session.rollback()
    return not any(
        session.execute(select(func.count()).select_from(model)).scalar_one()
        for model in (Order, OrderItem)
    )


def secret_of(app: Flask) -> str:
    """What signs messages of the test provider."""
    secret: str = app.extensions["shop"].config.test_provider_secret()
    return secret


def message(payment: dict[str, Any], kind: str, **changes: Any) -> dict[str, Any]:
    """A message of the test provider about a payment or a refund, such as `payment.succeeded`."""
    return {
        "id": f"evt_{next(_keys)}", "type": kind, "reference": payment["reference"],
        "amount": payment["amount"],
    } | changes  # fmt: skip


def send_message(app: Flask, body: dict[str, Any], **changes: Any) -> TestResponse:
    """Send it as the provider would; `signature` or `raw` replace what is right."""
    raw = changes.get("raw", orjson.dumps(body))
    signature = changes.get("signature") or sign(secret_of(app), raw, clock.now())
    headers = {"Shop-Signature": signature, "Content-Type": "application/json"}
    return app.test_client().post(f"{WEBHOOKS}/test", data=raw, headers=headers)


def terms_of(app: Flask) -> Terms:
    """What the shop has settled about orders."""
    terms: Terms = app.extensions["orders"]
    return terms


def count(engine: Engine, model: Any) -> int:
    """How many rows there are."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(model)).scalar_one()
