"""The state machine: every action in every state, as the published table says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from shop.db import Base
from shop.orders.models import Order
from shop.orders.states import FULFILMENT_STATUSES, MOVES, PAYMENT_STATUSES, STATUSES
from tests.orders.checks import (
    Headers,
    act,
    message,
    on_hand,
    pay,
    placed,
    read,
    send_message,
    states,
    variant,
)
from tests.web.checks import assert_problem

ACTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "pay": ("payments", {}),
    "ship": ("ship", {}),
    "deliver": ("deliver", {}),
    "cancel": ("cancel", {}),
    "refund": ("refunds", {"reason": "broken"}),
}
#: From the contract, written down once more: what each action starts from.
ALLOWED: dict[str, Callable[[str, str, str], bool]] = {
    "pay": lambda s, p, f: s == "placed" and p in ("unpaid", "failed"),
    "ship": lambda s, p, f: s == "placed" and p == "paid" and f == "unfulfilled",
    "deliver": lambda s, p, f: s == "placed" and f == "shipped",
    "cancel": lambda s, p, f: s == "placed" and f == "unfulfilled",
    "refund": lambda s, p, f: p in ("paid", "partially_refunded"),
}


@pytest.fixture
def oak(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """What is ordered here."""
    return variant(client, staff, stock=50)


def rows(engine: Engine) -> dict[str, Any]:
    """Every row but those of keys."""
    with engine.connect() as connection:
        return {
            table.name: connection.execute(select(table).order_by(*table.primary_key)).all()
            for table in Base.metadata.sorted_tables
            if table.name != "idempotency_keys"
        }


def test_every_action_in_every_state_does_what_the_table_says(
    client: FlaskClient, engine: Engine, staff: Headers, session: Session, oak: Any
) -> None:
    """BL-06, BL-10: all states, also such as no order gets into, times all actions."""
    order = placed(client, staff, (oak["sku"], 1))
    for state in product(STATUSES, PAYMENT_STATUSES, FULFILMENT_STATUSES):
        names = ("status", "payment_status", "fulfilment_status")
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            change = update(Order.__table__).where(Order.id == order["id"])
            connection.execute(change.values(dict(zip(names, state, strict=True))))
        allowed = [action for action in MOVES if ALLOWED[action](*state)]
        assert read(client, staff, order)["next_actions"] == allowed, state
        before = rows(engine)
        for action in set(MOVES) - set(allowed):
            path, body = ACTIONS[action]
            answer = act(client, staff, order, path, **body)
            assert_problem(answer, "invalid-transition")
        assert rows(engine) == before, state


def brought_to(client: FlaskClient, staff: Headers, oak: Any, *actions: str) -> dict[str, Any]:
    """An order after these actions."""
    order = placed(client, staff, (oak["sku"], 2))
    for action in actions:
        path, body = ACTIONS[action.partition(":")[0]]
        if action == "pay:declined":
            body = {"token": "tok_decline"}
        if action == "pay:later":
            body = {"token": "tok_later"}
        if action == "refund:part":
            body = body | {"amount": {"amount": 1, "currency": "EUR"}}
        answer = act(client, staff, order, path, **body)
        assert answer.status_code in (200, 201), answer.text
    return read(client, staff, order)


WAYS = [
    ((), ("placed", "unpaid", "unfulfilled")),
    (("pay:declined",), ("placed", "failed", "unfulfilled")),
    (("pay:later",), ("placed", "pending", "unfulfilled")),
    (("pay",), ("placed", "paid", "unfulfilled")),
    (("pay:declined", "pay"), ("placed", "paid", "unfulfilled")),
    (("pay", "refund:part"), ("placed", "partially_refunded", "unfulfilled")),
    (("pay", "refund:part", "refund"), ("placed", "refunded", "unfulfilled")),
    (("pay", "ship"), ("placed", "paid", "shipped")),
    (("pay", "ship", "refund:part"), ("placed", "partially_refunded", "shipped")),
    (("pay", "ship", "deliver"), ("completed", "paid", "delivered")),
    (("pay", "ship", "refund", "deliver"), ("completed", "refunded", "delivered")),
    (("pay", "ship", "deliver", "refund"), ("completed", "refunded", "delivered")),
    (("cancel",), ("cancelled", "unpaid", "unfulfilled")),
    (("pay:declined", "cancel"), ("cancelled", "failed", "unfulfilled")),
    (("pay:later", "cancel"), ("cancelled", "pending", "unfulfilled")),
    (("pay", "cancel"), ("cancelled", "refunded", "unfulfilled")),
    (("pay", "refund:part", "cancel"), ("cancelled", "refunded", "unfulfilled")),
    (("pay", "refund", "cancel"), ("cancelled", "refunded", "unfulfilled")),
]


@pytest.mark.parametrize(("way", "state"), WAYS)
def test_actions_bring_an_order_where_they_should_and_nothing_else_is_possible(
    *,
    client: FlaskClient,
    engine: Engine,
    staff: Headers,
    session: Session,
    oak: Any,
    way: tuple[str, ...],
    state: tuple[str, str, str],
) -> None:
    """BL-06, BL-10."""
    order = brought_to(client, staff, oak, *way)

    assert states(order) == state
    gone = 0 if order["status"] == "cancelled" else 2
    assert on_hand(session, oak["id"]) == 50 - gone
    session.rollback()
    before = rows(engine)
    for action, (path, body) in ACTIONS.items():
        if not ALLOWED[action](*state):
            assert_problem(act(client, staff, order, path, **body), "invalid-transition")
    assert rows(engine) == before


def test_a_customer_is_not_shown_what_only_staff_may_do(
    app: Flask, client: FlaskClient, staff: Headers, customer: Headers, oak: Any
) -> None:
    order = placed(client, customer, (oak["sku"], 1))
    assert pay(client, customer, order).status_code == 201

    assert read(client, customer, order)["next_actions"] == ["cancel"]
    assert read(client, staff, order)["next_actions"] == ["ship", "cancel", "refund"]


def test_the_history_tells_who_did_what(
    app: Flask, client: FlaskClient, staff: Headers, customer: Headers, oak: Any
) -> None:
    order = placed(client, customer, (oak["sku"], 1))
    payment = pay(client, customer, order, token="tok_later").get_json()
    assert send_message(app, message(payment, "payment.succeeded")).status_code == 200
    act(client, staff, order, "ship", carrier="Post", tracking="T1")
    act(client, staff, order, "deliver")
    act(client, staff, order, "refunds", reason="broken")

    order = read(client, customer, order)
    told = [(it["action"], it["from"], it["to"]) for it in order["history"]]
    assert told == [
        ("place", None, "placed"),
        ("pay", "pending", "paid"),
        ("ship", "unfulfilled", "shipped"),
        ("deliver", "shipped", "delivered"),
        ("refund", "paid", "refunded"),
    ]
    actors = [it["actor"] for it in order["history"]]
    assert actors[0] == f"users/{order['user_id']}"
    assert actors[1] == "payments/test"
    assert actors[2] == actors[3] == actors[4] != actors[0]
    assert [it["at"] for it in order["history"]] == sorted(it["at"] for it in order["history"])
    (shipment,) = order["shipments"]
    assert (shipment["carrier"], shipment["tracking"]) == ("Post", "T1")
    assert shipment["delivered_at"] >= shipment["shipped_at"]


def test_a_cancelled_order_puts_its_stock_back_once(
    client: FlaskClient, staff: Headers, session: Session, oak: Any
) -> None:
    """BL-08: twice, after sending, after a part was given back."""
    order = placed(client, staff, (oak["sku"], 5))
    assert act(client, staff, order, "cancel").status_code == 200
    assert_problem(act(client, staff, order, "cancel"), "invalid-transition")
    assert on_hand(session, oak["id"]) == 50

    sent = brought_to(client, staff, oak, "pay", "ship")
    assert_problem(act(client, staff, sent, "cancel"), "invalid-transition")
    assert on_hand(session, oak["id"]) == 48

    part = brought_to(client, staff, oak, "pay", "refund:part")
    cancelled = act(client, staff, part, "cancel").get_json()
    assert on_hand(session, oak["id"]) == 48
    assert cancelled["refunded_total"] == cancelled["paid_total"] == cancelled["total"]
    assert [refund["amount"]["amount"] for refund in cancelled["refunds"]] == [
        1, cancelled["total"]["amount"] - 1,
    ]  # fmt: skip


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_a_stale_version_is_refused_and_the_present_one_let_in(
    client: FlaskClient, staff: Headers, oak: Any, action: str
) -> None:
    """BL-20."""
    ways = {"pay": (), "cancel": (), "ship": ("pay",), "refund": ("pay",),
            "deliver": ("pay", "ship")}  # fmt: skip
    order = brought_to(client, staff, oak, *ways[action])
    path, body = ACTIONS[action]
    stale = staff | {"If-Match": f'"{order["version"] - 1}-aa"'}

    assert_problem(act(client, stale, order, path, **body), "version-conflict")
    etag = client.get(f"/api/v1/orders/{order['id']}", headers=staff).headers["ETag"]
    assert states(read(client, staff, order)) == states(order)
    answer = act(client, staff | {"If-Match": etag}, order, path, **body)
    assert answer.status_code in (200, 201), answer.text
    assert read(client, staff, order)["version"] > order["version"]
