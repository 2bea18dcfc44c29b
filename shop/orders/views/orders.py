"""The doors of orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from flask import Response, current_app, url_for

from shop.audit.capture import AuditedWrites
from shop.db import db, transactional
from shop.errors import Fault, Invalid, NotFound
from shop.orders import operations, placing, queries
from shop.orders.models import Order
from shop.orders.placing import Wish
from shop.orders.schemas import (
    OrderIn,
    OrderOut,
    OrderPage,
    OrderQuery,
    ShipmentIn,
    order_out,
    placed_out,
)
from shop.orders.terms import Terms
from shop.users import addresses
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, SIGNED_IN, current_caller
from shop.web.fields import LARGEST_ID, id_or_text
from shop.web.idempotency import keep_answer
from shop.web.pagination import decode_cursor, page

orders = Blueprint("orders", __name__, description="Orders")

_SCOPE = "orders:newest"


def terms() -> Terms:
    """What the shop has settled about orders."""
    return cast(Terms, current_app.extensions["orders"])


@orders.post("/orders")
@orders.allow(*SIGNED_IN)
@orders.body(OrderIn)
@orders.response(201, OrderOut, headers=ETAG | LOCATION)
@orders.refuses(404, 409)
@orders.idempotent(required=True)
@transactional
def place_order(data: dict[str, Any]) -> Response:
    """Order something: all of it or nothing.

    ---
    The stock is taken at once and held until the order expires. Prices are those of this moment:
    with an `expected_total` that is not the total, the order is refused.
    """
    caller = current_caller()
    assert caller.id is not None
    address = data.get("shipping_address") or _own_address(caller.id, data["address_id"])
    expected = data.get("expected_total", {}).get("amount")
    wish = Wish(caller.id, data["items"], address, expected)
    settled = terms()
    with AuditedWrites(db.session()) as writes:
        placed = placing.place_order(
            writes, wish, currency=settled.currency, patience=settled.patience
        )
        body = placed_out(placed, is_staff=caller.is_employee)
        location = url_for("orders.get_order", id=body["id"])
        shown = answer(body, 201, version=body["version"], location=location)
        return keep_answer(shown, writes.last)


def _own_address(user_id: int, address_id: int) -> Any:
    try:
        return addresses.find_address(db.session(), user_id, address_id)
    except NotFound as error:
        fault = Fault("/address_id", "There is no such address in your address book.")
        raise Invalid("There is no such address.", faults=(fault,)) from error


@orders.get("/orders")
@orders.allow(*SIGNED_IN)
@orders.query(OrderQuery)
@orders.response(200, OrderPage, headers=ETAG | LINK)
@orders.conditional
def list_orders(limit: int, cursor: str | None = None, **wanted: Any) -> Response:
    """List orders, newest first: one's own; staff sees all."""
    caller = current_caller()
    if not caller.is_employee and wanted.setdefault("user_id", caller.id) != caller.id:
        # Somebody else's are none.
        return page([], limit, scope=_SCOPE, key=_key, shape=_shown)
    (before,) = decode_cursor(_SCOPE, cursor, [int]) if cursor else (LARGEST_ID,)
    assert isinstance(before, int)
    rows = db.session.scalars(queries.newest(before, limit + 1, **wanted)).all()
    return page(rows, limit, scope=_SCOPE, key=_key, shape=_shown)


def _key(order: Order) -> tuple[int]:
    return (order.id,)


def _shown(rows: Sequence[Order]) -> list[dict[str, Any]]:
    is_staff = current_caller().is_employee
    return [order_out(order, is_staff=is_staff) for order in rows]


@orders.get("/orders/<id>")
@orders.allow(*SIGNED_IN)
@orders.response(200, OrderOut, headers=ETAG)
@orders.conditional
@orders.refuses(404)
def get_order(id: str) -> Response:
    """Read one order, by its id or its number: one's own; staff any."""
    order = db.session.execute(queries.whole(id_or_text(id))).scalar_one_or_none()
    if order is None or not _may_see(order):
        raise NotFound("There is no such order.")
    return order_answer(order)


def _may_see(order: Order) -> bool:
    caller = current_caller()
    return caller.is_employee or (caller.id is not None and order.user_id == caller.id)


def order_answer(order: Order) -> Response:
    """An order as the caller sees it."""
    shown = order_out(order, is_staff=current_caller().is_employee)
    return answer(shown, version=order.version)


def lock_order(id: int, known_by: str | None = None) -> Order:
    """The order under a lock, if the caller may see it, in the version that it names.

    A request that has left something in the order under its key `known_by`, and is sent again,
    has changed the version itself: it is not asked for it.

    Raises:
        NotFound: it is not there, or somebody else's.
        VersionConflict: `If-Match` names another version.
    """
    order = operations.find_for_change(db.session(), id)
    if not _may_see(order):
        raise NotFound("There is no such order.")
    if known_by is None or known_by not in order.request_keys:
        check_version(order.version)
    return order


@orders.post("/orders/<id:id>/ship")
@orders.allow(*EMPLOYEES)
@orders.body(ShipmentIn)
@orders.response(200, OrderOut, headers=ETAG)
@orders.refuses(404, 409, 412)
@orders.idempotent()
@transactional
def ship_order(data: dict[str, Any], id: int) -> Response:
    """Send the whole order, which must be paid."""
    order = lock_order(id)
    operations.ship(db.session(), order, data["carrier"], data["tracking"])
    return keep_answer(order_answer(order))


@orders.post("/orders/<id:id>/deliver")
@orders.allow(*EMPLOYEES)
@orders.response(200, OrderOut, headers=ETAG)
@orders.refuses(404, 409, 412)
@orders.idempotent()
@transactional
def deliver_order(id: int) -> Response:
    """The order has arrived: it is completed, and reviews of its products become verified."""
    order = lock_order(id)
    operations.deliver(db.session(), order, terms().on_delivered)
    return keep_answer(order_answer(order))
