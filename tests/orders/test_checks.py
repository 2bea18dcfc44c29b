"""What `checks` finds: nothing in a shop that works, and each thing that is broken by hand."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from shop.orders.checks import CHECKS
from tests.orders.checks import Headers, act, pay, placed, variant

BREAKS = {
    "UPDATE orders SET subtotal = subtotal + 1, total = total + 1 WHERE id = :a": {
        "order totals"
    },
    "UPDATE orders SET paid_total = paid_total + 1 WHERE id = :b": {
        "order money"
    },
    "UPDATE payment_events SET amount = amount - 1 WHERE kind = 'payment.succeeded'": {
        "payments"
    },
    "UPDATE payment_events SET amount = 0 WHERE kind = 'refund.succeeded'": {
        "payments"
    },
    "UPDATE stock_movements SET delta = delta - 1 WHERE order_id = :a": {
        "order stock"
    },
    "DELETE FROM stock_movements WHERE reason = 'cancelled'": {
        "order stock"
    },
    "UPDATE stock_movements SET order_id = 999999 WHERE order_id = :a": {
        "order stock", "order movements",
    },
    "UPDATE stock_levels SET on_hand = on_hand + 1": {"stock conservation"},
    "UPDATE orders SET status = 'cancelled' WHERE id = :a": {
        "order stock", "stock conservation",
    },
}  # fmt: skip


def failing(session: Session) -> set[str]:
    """The names of the checks that find something."""
    session.rollback()
    return {check.name for check in CHECKS if check.examine(session).findings}


@pytest.fixture
def orders(client: FlaskClient, staff: Headers, customer: Headers) -> dict[str, int]:
    """Ids of an unpaid order, one that is paid and partly refunded, and one that was cancelled."""
    oak = variant(client, staff, stock=50)
    ids = {}
    for name in "abc":
        order = placed(client, customer, (oak["sku"], 2))
        ids[name] = order["id"]
        if name == "b":
            pay(client, customer, order)
            part: Any = {"amount": 1, "currency": "EUR"}
            act(client, staff, order, "refunds", amount=part, reason="x")
        if name == "c":
            act(client, customer, order, "cancel")
    return ids


@pytest.mark.parametrize("statement", BREAKS)
def test_what_is_broken_by_hand_is_found(
    session: Session, orders: dict[str, int], statement: str
) -> None:
    assert failing(session) == set()

    names = {name: value for name, value in orders.items() if f":{name}" in statement}
    assert session.execute(text(statement), names).rowcount > 0  # type: ignore[attr-defined]
    session.commit()

    assert failing(session) == BREAKS[statement]
