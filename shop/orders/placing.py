"""Placing an order: stock first, then the order, all in the transaction of the caller."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn

from sqlalchemy import Connection, Select
from sqlalchemy.exc import IntegrityError

from shop import clock, provenance
from shop.audit.capture import AuditedWrites
from shop.bundles import Bundle, ask_alone
from shop.crashes import crash_point
from shop.db import is_missing_reference, read
from shop.errors import Conflict, Fault, Invalid, NotFound
from shop.inserts import Row, add_insert
from shop.orders import queries
from shop.orders.models import Order, OrderHistory, OrderItem, shipping_columns
from shop.products import stock

MOST_LINES = 100
MOST_OF_A_LINE = 10_000
#: In minor units: exact in every JSON parser, and far from what a column holds.
LARGEST_TOTAL = 10**15
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class NoSuchSku(Invalid):
    """Nothing that is for sale has this SKU."""


class NotForSale(Conflict):
    """It is there, but without a price that could be paid in the shop's currency."""


class TooMuch(Invalid):
    """The sum is larger than any that the shop can handle."""


class PriceChanged(Conflict):
    """The total is not what the buyer takes it for."""

    slug = "price-changed"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants: `items` are `{sku, quantity}`, in the order in which they were sent."""

    user_id: int
    items: Sequence[Mapping[str, Any]]
    address: Any
    expected_total: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """The rows of a new order, as they are stored."""

    order: Row
    items: list[Row]
    history: list[Row]


class Offer(NamedTuple):
    """A variant as `queries.offers` finds it."""

    id: int
    sku: str
    name: str
    price_amount: int
    currency: str
    product_id: int
    product_name: str
    status: str
    on_hand: int
    email: str | None


def place_order(writes: AuditedWrites, wish: Wish, *, currency: str, patience: timedelta) -> Placed:
    """Take the stock and write the order, which waits for its payment for `patience`.

    Raises:
        NoSuchSku: one of the SKUs names nothing that is for sale.
        OutOfStock: fewer are there than wanted.
        NotForSale: one has no price in this currency.
        PriceChanged: the total is not the expected one.
        TooMuch: the sum is beyond all bounds.
        NotFound: the account was closed at this moment.
    """
    quantities = _quantities(wish)
    offers = _offers(writes.connection, wish, quantities)
    lines = [_line(offer, quantities[offer.sku]) for offer in offers]
    total = sum(line["total"] for line in lines)
    _check_offers(wish, offers, currency, total)
    row = writes.row_of(
        Order, number=new_number(), user_id=wish.user_id, email=offers[0].email or "",
        currency=currency, subtotal=total, total=total, expires_at=clock.now() + patience,
        **shipping_columns(wish.address),
    )  # fmt: skip
    order, items, changes = _take_and_insert(writes, wish, offers, row, lines)
    crash_point("order-stock-taken")
    line = _placed_line(order)
    writes.later(OrderHistory.__table__, [line])
    stock.record(writes, changes, "sold", order_id=order["id"])
    crash_point("order-inserted")
    return Placed(order, items, [line])


def _quantities(wish: Wish) -> dict[str, int]:
    """How much of each SKU, in the order in which they were first named."""
    quantities: dict[str, int] = {}
    for item in wish.items:
        quantities[item["sku"]] = quantities.get(item["sku"], 0) + item["quantity"]
    return quantities


def _offers(connection: Connection, wish: Wish, quantities: Mapping[str, int]) -> list[Offer]:
    """What is wanted, in the order in which it was asked for. Raises NoSuchSku, OutOfStock."""
    rows = ask_alone(connection, *_asked(wish, quantities)).rows
    found = [Offer(*row) for row in rows]
    _check_there(wish, quantities, {offer.sku: offer.on_hand for offer in found})
    by_sku = {offer.sku: offer for offer in found}
    return [by_sku[sku] for sku in quantities]


def _asked(wish: Wish, quantities: Mapping[str, int]) -> tuple[Select[Any], dict[str, Any]]:
    values = {f"sku_{number}": sku for number, sku in enumerate(quantities)}
    return queries.offers(len(quantities)), values | {"id": wish.user_id}


def _take_and_insert(
    writes: AuditedWrites, wish: Wish, offers: Sequence[Offer], row: Row, lines: Sequence[Row]
) -> tuple[Row, list[Row], list[stock.Change]]:
    """Take the stock, and insert the order and its items behind it; all are sent at once.

    Raises:
        OutOfStock: somebody was faster.
        NotFound: the account was closed at this moment.
    """
    bundle = Bundle(writes.connection)
    taking = stock.take(bundle, {line["variant_id"]: line["quantity"] for line in lines})
    inserted = add_insert(bundle, Order.__table__, [row])
    rows = [{"order_id": inserted} | line for line in lines]
    items = writes.add_many(bundle, OrderItem, rows, by="variant_id")
    try:
        bundle.send()
    except IntegrityError as error:
        if taking.is_complete:
            if is_missing_reference(error):
                raise NotFound("This account was closed.") from error
            raise
    if not taking.is_complete:
        _refuse_what_is_gone(wish)
    order = writes.inserted(Order, row, inserted.lastrowid)
    return order, items(), taking.changes({offer.id: offer.product_id for offer in offers})


def _refuse_what_is_gone(wish: Wish) -> NoReturn:
    # Asked past this transaction, which has taken of some already.
    quantities = _quantities(wish)
    statement, values = _asked(wish, quantities)
    now = read(statement, **values)
    _check_there(wish, quantities, {offer.sku: offer.on_hand for offer in now})
    raise stock.OutOfStock("Something was sold at this moment. Look again.")


def _line(offer: Offer, quantity: int) -> dict[str, Any]:
    name = f"{offer.product_name} {offer.name}" if offer.name else offer.product_name
    return {
        "product_id": offer.product_id,
        "variant_id": offer.id,
        "sku": offer.sku,
        "name": name,
        "quantity": quantity,
        "unit_price": offer.price_amount,
        "total": quantity * offer.price_amount,
    }


def _faults(wish: Wish, messages: Mapping[str, str], field: str) -> tuple[Fault, ...]:
    return tuple(
        Fault(f"/items/{number}/{field}", messages[item["sku"]])
        for number, item in enumerate(wish.items)
        if item["sku"] in messages
    )


def _check_there(wish: Wish, quantities: Mapping[str, int], on_hand: Mapping[str, int]) -> None:
    """Refuse what is certainly not there; who gets the last one is decided by the update."""
    unknown = {sku: "Nothing for sale has this SKU." for sku in quantities if sku not in on_hand}
    if unknown:
        faults = _faults(wish, unknown, "sku")
        raise NoSuchSku("Some of it is not for sale.", faults=faults)
    short = {
        sku: f"Of {sku} only {on_hand[sku]} are there."
        for sku, quantity in quantities.items()
        if on_hand[sku] < quantity
    }
    if short:
        faults = _faults(wish, short, "quantity")
        raise stock.OutOfStock(" ".join(short.values())[:500], faults=faults)


def _check_offers(wish: Wish, offers: Sequence[Offer], currency: str, total: int) -> None:
    hidden = {o.sku: "Nothing for sale has this SKU." for o in offers if o.status != "active"}
    if hidden:
        # As one that does not exist: what is not public yet is nobody's business.
        raise NoSuchSku("Some of it is not for sale.", faults=_faults(wish, hidden, "sku"))
    odd = {
        offer.sku: f"It has no price in {currency} that could be paid."
        for offer in offers
        if offer.currency != currency or offer.price_amount == 0
    }
    if odd:
        raise NotForSale("Some of it cannot be sold just now.", faults=_faults(wish, odd, "sku"))
    if total > LARGEST_TOTAL:
        fault = Fault("/items", "Together they cost more than this shop can count.")
        raise TooMuch("The order is too large.", faults=(fault,))
    if wish.expected_total not in (None, total):
        raise PriceChanged(
            f"The total is {total} {currency}, not {wish.expected_total}.",
            faults=(Fault("/expected_total", f"The total is {total}."),),
            members={
                "total": {"amount": total, "currency": currency},
                "items": [
                    {"sku": o.sku, "unit_price": {"amount": o.price_amount, "currency": currency}}
                    for o in offers
                ],
            },
        )


def _placed_line(order: Row) -> Row:
    return {
        "order_id": order["id"], "at": clock.now(), "actor": provenance.actor.get(),
        "action": "place", "from_state": None, "to_state": "placed",
    }  # fmt: skip


def new_number() -> str:
    """A number such as `A7KQ-9M2X-0TRB`: 60 bits of chance, without letters that look alike."""
    bits = secrets.randbits(60)
    letters = "".join(_ALPHABET[bits >> shift & 31] for shift in range(0, 60, 5))
    return "-".join(letters[at : at + 4] for at in (0, 4, 8))
