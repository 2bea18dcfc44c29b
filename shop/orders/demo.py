"""An inventor of plausible orders of what is in the shop, each of which goes a common way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from sqlalchemy.orm import Session

from shop.audit.capture import AuditedWrites
from shop.orders import operations, paying, placing, refunding
from shop.orders.payments.base import Outcome
from shop.orders.placing import Wish

#: What becomes of orders, and how often.
_WAYS: dict[tuple[str, ...], int] = {
    ("pay", "ship", "deliver"): 55,
    ("pay", "ship"): 12,
    ("pay",): 12,
    (): 8,
    ("decline",): 3,
    ("cancel",): 4,
    ("pay", "cancel"): 2,
    ("pay", "ship", "deliver", "refund"): 4,
}
_CITIES = (("Uppsala", "75310", "SE"), ("Porto", "4000-008", "PT"), ("Graz", "8010", "AT"),
           ("Aarhus", "8000", "DK"), ("Lyon", "69001", "FR"))  # fmt: skip
_STREETS = ("Elm Street", "Harbour Lane", "Mill Road", "Station Square", "Orchard Way")
_REASONS = ("Arrived broken.", "Not as described.", "Ordered twice.")


@dataclass(frozen=True, slots=True)
class OrderIdea:
    """Who orders what, and what becomes of it."""

    wish: Wish
    way: tuple[str, ...]
    reason: str


def invent_orders(
    count: int, buyers: Sequence[tuple[int, str]], stocked: Sequence[tuple[str, int]], seed: int
) -> Iterator[OrderIdea]:
    """Orders of these buyers (id, name), of no more than is there of each SKU (SKU, on hand)."""
    dice = Random(f"orders/{seed}")
    left = {sku: on_hand for sku, on_hand in stocked if on_hand > 0}
    for _ in range(count):
        if not left:
            return
        chosen = dice.sample(sorted(left), min(len(left), dice.choice((1, 1, 1, 2, 2, 3))))
        items = []
        for sku in chosen:
            quantity = min(left[sku], dice.choice((1, 1, 1, 2, 4)))
            items.append({"sku": sku, "quantity": quantity})
            left[sku] -= quantity
            if not left[sku]:
                del left[sku]
        user_id, name = dice.choice(buyers)
        way = dice.choices(list(_WAYS), list(_WAYS.values()))[0]
        wish = Wish(user_id, items, _address(dice, name))
        yield OrderIdea(wish, way, dice.choice(_REASONS))


def _address(dice: Random, name: str) -> dict[str, Any]:
    city, postal_code, country = dice.choice(_CITIES)
    street = f"{dice.choice(_STREETS)} {dice.randint(1, 99)}"
    return {"name": name, "line1": street, "city": city, "postal_code": postal_code,
            "country": country}  # fmt: skip


def store_order(session: Session, idea: OrderIdea, *, currency: str, patience: timedelta) -> None:
    """Place an invented order and go its way, without any provider."""
    with AuditedWrites(session) as writes:
        placed = placing.place_order(writes, idea.wish, currency=currency, patience=patience)
    if not idea.way:
        return
    order = operations.find_for_change(session, placed.order["id"])
    for action in idea.way:
        if action in ("pay", "decline"):
            payment = paying.claim(session, order, "manual", request_key=None)
            status = "succeeded" if action == "pay" else "failed"
            outcome = Outcome(status, f"{payment.reference}:{status}")
            paying.record(session, order, payment, outcome)
        elif action == "ship":
            operations.ship(session, order, "Parcel Post", f"PP{order.id:09d}")
        elif action == "deliver":
            operations.deliver(session, order)
        else:
            back = (
                operations.cancel(session, order)
                if action == "cancel"
                else [refunding.refund(session, order, None, idea.reason, None)]
            )
            for refund in back:
                outcome = Outcome("succeeded", f"{refund.reference}:succeeded")
                refunding.settle(session, order, refund, outcome)
