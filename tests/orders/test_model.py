"""The shop against a model of it in plain Python: the same wishes, the same answers, always."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.orm import Session

from shop.orders.checks import CHECKS
from tests import factories
from tests.orders.checks import act, message, place, read, send_message, states, variant

#: In minor units, of the three variants of the model.
PRICES = (1000, 250, 1)


@dataclass
class ModelOrder:
    """What an order should be."""

    items: dict[int, int]
    total: int
    status: str = "placed"
    payment: str = "unpaid"
    fulfilment: str = "unfulfilled"
    paid: int = 0
    refunded: int = 0
    pending: list[Any] = field(default_factory=list)

    @property
    def state(self) -> tuple[str, str, str]:
        """As an answer shows it."""
        return self.status, self.payment, self.fulfilment

    def receive(self) -> None:
        """A payment has succeeded."""
        self.paid += self.total
        self.payment = "paid"
        if self.status == "cancelled":
            self.give_back(self.total)

    def give_back(self, amount: int) -> None:
        """Money went back."""
        self.refunded += amount
        self.payment = "refunded" if self.refunded == self.paid else "partially_refunded"


class ShopModel(RuleBasedStateMachine):
    """Rules are wishes; each is also asked of the shop."""

    app: Flask
    session: Session

    def __init__(self) -> None:
        """A shop with three variants."""
        super().__init__()
        self.client = self.app.test_client()
        self.orders: list[tuple[dict[str, Any], ModelOrder]] = []

    @initialize()
    def open_the_shop(self) -> None:
        """New variants, a new customer."""
        self.staff = factories.sign_in(self.app, "staff")
        self.customer = factories.sign_in(self.app, "customer")
        self.stock = [5, 3, 40]
        self.variants = [
            variant(
                self.client, self.staff, stock=stock, price={"amount": price, "currency": "EUR"}
            )
            for stock, price in zip(self.stock, PRICES, strict=True)
        ]

    @rule(wanted=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=4))
    def place_an_order(self, wanted: list[tuple[int, int]]) -> None:
        """All of it or nothing."""
        items: dict[int, int] = {}
        for number, quantity in wanted:
            items[number] = items.get(number, 0) + quantity
        lines = [(self.variants[number]["sku"], quantity) for number, quantity in wanted]
        answer = place(self.client, self.customer, *lines)
        if any(self.stock[number] < quantity for number, quantity in items.items()):
            assert (answer.status_code, answer.get_json()["type"]) == (
                409, "/problems/out-of-stock",
            )  # fmt: skip
            return
        assert answer.status_code == 201, answer.text
        for number, quantity in items.items():
            self.stock[number] -= quantity
        total = sum(PRICES[number] * quantity for number, quantity in items.items())
        assert answer.get_json()["total"]["amount"] == total
        self.orders.append((answer.get_json(), ModelOrder(items, total)))

    def _expect(self, answer: Any, allowed: bool) -> bool:
        if allowed:
            assert answer.status_code in (200, 201), answer.text
        else:
            assert (answer.status_code, answer.get_json()["type"]) == (
                409, "/problems/invalid-transition",
            )  # fmt: skip
        return allowed

    def _pick(self, data: Any) -> tuple[dict[str, Any], ModelOrder]:
        picked: tuple[dict[str, Any], ModelOrder] = data.draw(st.sampled_from(self.orders))
        return picked

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), token=st.sampled_from(["tok_approve", "tok_decline", "tok_later"]))
    def pay(self, data: Any, token: str) -> None:
        """At once, not at all, or later."""
        shown, order = self._pick(data)
        answer = act(self.client, self.customer, shown, "payments", token=token)
        allowed = order.status == "placed" and order.payment in ("unpaid", "failed")
        if not self._expect(answer, allowed):
            return
        if token == "tok_later":
            order.payment = "pending"
            order.pending.append(answer.get_json())
        elif token == "tok_decline":
            order.payment = "failed"
        else:
            order.receive()

    @precondition(lambda self: any(order.pending for _, order in self.orders))
    @rule(data=st.data(), good=st.booleans(), again=st.booleans())
    def hear_of_a_payment(self, data: Any, good: bool, again: bool) -> None:
        """A message, perhaps twice; perhaps the order is cancelled by now."""
        waiting = [order for _, order in self.orders if order.pending]
        order = data.draw(st.sampled_from(waiting))
        payment = order.pending.pop()
        news = message(payment, "payment.succeeded" if good else "payment.failed")
        for _ in range(2 if again else 1):
            assert send_message(self.app, news).status_code == 200
        if good:
            order.receive()
        else:
            order.payment = "failed"

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        """Stock and money go back."""
        shown, order = self._pick(data)
        answer = act(self.client, self.customer, shown, "cancel")
        allowed = order.status == "placed" and order.fulfilment == "unfulfilled"
        if self._expect(answer, allowed):
            order.status = "cancelled"
            for number, quantity in order.items.items():
                self.stock[number] += quantity
            if order.paid > order.refunded:
                order.give_back(order.paid - order.refunded)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def ship(self, data: Any) -> None:
        """Send it."""
        shown, order = self._pick(data)
        answer = act(self.client, self.staff, shown, "ship")
        if self._expect(answer, order.state == ("placed", "paid", "unfulfilled")):
            order.fulfilment = "shipped"

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def deliver(self, data: Any) -> None:
        """It arrives."""
        shown, order = self._pick(data)
        answer = act(self.client, self.staff, shown, "deliver")
        allowed = order.status == "placed" and order.fulfilment == "shipped"
        if self._expect(answer, allowed):
            order.fulfilment, order.status = "delivered", "completed"

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), amount=st.none() | st.integers(1, 3000))
    def refund(self, data: Any, amount: int | None) -> None:
        """A part, or what is left."""
        shown, order = self._pick(data)
        money = {} if amount is None else {"amount": {"amount": amount, "currency": "EUR"}}
        answer = act(self.client, self.staff, shown, "refunds", reason="broken", **money)
        left = order.paid - order.refunded
        possible = order.payment in ("paid", "partially_refunded")
        if possible and amount is not None and amount > left:
            assert answer.get_json()["type"] == "/problems/conflict"
        elif self._expect(answer, possible):
            order.give_back(left if amount is None else amount)

    @rule(number=st.integers(0, 2), delta=st.integers(-3, 5))
    def count_the_stock(self, number: int, delta: int) -> None:
        """Staff puts some in, or takes some out."""
        url = f"/api/v1/variants/{self.variants[number]['id']}/stock"
        answer = self.client.post(url, json={"delta": delta, "reason": "x"}, headers=self.staff)
        if self.stock[number] + delta < 0:
            assert answer.status_code == 409
        else:
            assert answer.status_code == 200, answer.text
            self.stock[number] += delta

    @invariant()
    def agree(self) -> None:
        """The shop shows what the model says, and nothing is wrong behind it."""
        for shown, order in self.orders[-3:]:
            found = read(self.client, self.customer, shown)
            assert states(found) == order.state
            assert found["paid_total"]["amount"] == order.paid
            assert found["refunded_total"]["amount"] == order.refunded
        for number, sold in enumerate(getattr(self, "variants", [])):
            url = f"/api/v1/variants/{sold['id']}/stock"
            there = self.client.get(url, headers=self.staff).get_json()["on_hand"]
            assert there == self.stock[number]

    def teardown(self) -> None:
        """Everything adds up in the end."""
        for shown, order in self.orders:
            assert states(read(self.client, self.customer, shown)) == order.state
        self.session.rollback()
        assert not any(check.examine(self.session).findings for check in CHECKS)


@pytest.mark.parametrize(
    ("examples", "steps"),
    [pytest.param(12, 15, id="quick"),
     pytest.param(300, 50, id="full", marks=[pytest.mark.full, pytest.mark.timeout(3600)])],
)  # fmt: skip
def test_the_shop_does_what_the_model_says(
    app: Flask, session: Session, examples: int, steps: int
) -> None:
    """G8, BL-06, BL-07, BL-08."""
    machine = type("Machine", (ShopModel,), {"app": app, "session": session})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
