"""Shapes of orders and payments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate, validates_schema

from shop.orders.models import ADDRESS, PAYMENTS, REFUNDS, Order, Payment, Refund
from shop.orders.placing import MOST_LINES, MOST_OF_A_LINE, Placed
from shop.orders.states import (
    FULFILMENT_STATUSES,
    MOVES,
    PAYMENT_STATUSES,
    STATUSES,
    State,
    next_actions,
)
from shop.products.schemas import MoneyOut
from shop.web.countries import CODES
from shop.web.fields import (
    LARGEST_ID,
    Choice,
    Code,
    Currency,
    Integer,
    Line,
    Money,
    QueryInteger,
    StrictSchema,
)
from shop.web.pagination import PageQuery

_SKU = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_ABSENT: dict[str, Any] = {"not": {}}
_COLUMNS = tuple((name, f"shipping_{name}") for name in ADDRESS)


class OrderLineIn(StrictSchema):
    """What is wanted, and how many of it."""

    sku = Code(_SKU, 64, required=True)
    quantity = Integer(1, MOST_OF_A_LINE, required=True)


class ShippingAddressIn(StrictSchema):
    """Where an order goes."""

    name = Line(200, required=True)
    line1 = Line(200, required=True)
    line2 = Line(200, allow_none=True)
    city = Line(100, required=True)
    region = Line(100, allow_none=True)
    postal_code = Line(20, required=True)
    country = Choice(CODES, required=True, metadata={"description": "ISO 3166-1 alpha-2."})
    phone = Code(r"^\+?[0-9][0-9 ()/.-]*$", 30, shortest=3, allow_none=True)


class OrderIn(StrictSchema):
    """A new order, to an entry of one's address book or to another address."""

    class Meta(StrictSchema.Meta):
        document: ClassVar = {
            "oneOf": [
                {"required": ["address_id"], "properties": {"shipping_address": _ABSENT}},
                {"required": ["shipping_address"], "properties": {"address_id": _ABSENT}},
            ]
        }

    items = fields.List(
        fields.Nested(OrderLineIn),
        required=True,
        validate=validate.Length(1, MOST_LINES),
        metadata={"description": "A SKU that is named twice is ordered as the sum."},
    )
    address_id = Integer(1, LARGEST_ID)
    shipping_address = fields.Nested(ShippingAddressIn)
    expected_total = fields.Nested(
        Money, metadata={"description": "When the total is another one, nothing is ordered."}
    )

    @validates_schema
    def _check_address(self, data: dict[str, Any], **_kwargs: Any) -> None:
        if ("address_id" in data) == ("shipping_address" in data):
            raise ValidationError("Either `address_id` or `shipping_address`.")


class OrderQuery(PageQuery):
    """Which orders to list; customers see their own."""

    status = Choice(STATUSES)
    payment_status = Choice(PAYMENT_STATUSES)
    fulfilment_status = Choice(FULFILMENT_STATUSES)
    user_id = QueryInteger(1, LARGEST_ID)
    number = Line(20)


class PaymentIn(StrictSchema):
    """How to pay the order, in full."""

    provider = Code(
        "^[a-z]+$", 20, metadata={"description": "The shop's usual one when it is missing."}
    )
    token = Code(
        r"^[!-~]+$", 200,
        metadata={"description": "What the provider's client code made of a card, say."},
    )  # fmt: skip


class PositiveMoney(StrictSchema):
    """An amount in integer minor units, of 1 or more."""

    amount = Integer(1, 10**15, required=True)
    currency = Currency(required=True)


class RefundIn(StrictSchema):
    """What is to go back, and why."""

    amount = fields.Nested(
        PositiveMoney, metadata={"description": "All that is left when it is missing."}
    )
    reason = Line(200, required=True)


class ShipmentIn(StrictSchema):
    """Who carries it."""

    carrier = Line(100, allow_none=True, load_default=None)
    tracking = Line(100, allow_none=True, load_default=None)


class OrderItemOut(StrictSchema):
    """A line of an order: copies of what was bought."""

    sku = fields.String(required=True)
    name = fields.String(required=True)
    quantity = fields.Integer(required=True)
    unit_price = fields.Nested(MoneyOut, required=True)
    total = fields.Nested(MoneyOut, required=True)


class ShippingAddressOut(StrictSchema):
    """Where an order went."""

    name = fields.String(required=True)
    line1 = fields.String(required=True)
    line2 = fields.String(required=True, allow_none=True)
    city = fields.String(required=True)
    region = fields.String(required=True, allow_none=True)
    postal_code = fields.String(required=True)
    country = fields.String(required=True)
    phone = fields.String(required=True, allow_none=True)


class OrderPaymentOut(StrictSchema):
    """An attempt to pay."""

    id = fields.Integer(required=True)
    provider = fields.String(required=True)
    reference = fields.String(required=True)
    status = Choice(PAYMENTS, required=True)
    amount = fields.Nested(MoneyOut, required=True)
    detail = fields.String(required=True, allow_none=True)
    action_url = fields.String(
        required=True, allow_none=True,
        metadata={"description": "Where the payer must go when it is `requires_action`."},
    )  # fmt: skip
    created_at = fields.DateTime(required=True)


class OrderRefundOut(StrictSchema):
    """Money that goes back."""

    id = fields.Integer(required=True)
    payment_id = fields.Integer(required=True)
    reference = fields.String(required=True)
    status = Choice(REFUNDS, required=True)
    amount = fields.Nested(MoneyOut, required=True)
    reason = fields.String(required=True)
    created_at = fields.DateTime(required=True)


class ShipmentOut(StrictSchema):
    """A parcel."""

    id = fields.Integer(required=True)
    carrier = fields.String(required=True, allow_none=True)
    tracking = fields.String(required=True, allow_none=True)
    shipped_at = fields.DateTime(required=True)
    delivered_at = fields.DateTime(required=True, allow_none=True)


class HistoryOut(StrictSchema):
    """What happened to an order."""

    class Meta(StrictSchema.Meta):
        include: ClassVar = {
            "from": fields.String(required=True, allow_none=True),
        }

    at = fields.DateTime(required=True)
    actor = fields.String(required=True, allow_none=True)
    action = fields.String(required=True)
    to = fields.String(required=True)


class OrderOut(StrictSchema):
    """An order. Take new values in the lists of states for granted."""

    id = fields.Integer(required=True)
    number = fields.String(required=True)
    user_id = fields.Integer(required=True, allow_none=True)
    status = Choice(STATUSES, required=True)
    payment_status = Choice(PAYMENT_STATUSES, required=True)
    fulfilment_status = Choice(FULFILMENT_STATUSES, required=True)
    currency = fields.String(required=True)
    email = fields.String(required=True)
    items = fields.List(fields.Nested(OrderItemOut), required=True)
    subtotal = fields.Nested(MoneyOut, required=True)
    discount_total = fields.Nested(MoneyOut, required=True)
    shipping_total = fields.Nested(MoneyOut, required=True)
    tax_total = fields.Nested(MoneyOut, required=True)
    total = fields.Nested(MoneyOut, required=True)
    paid_total = fields.Nested(MoneyOut, required=True)
    refunded_total = fields.Nested(MoneyOut, required=True)
    shipping_address = fields.Nested(ShippingAddressOut, required=True)
    payments = fields.List(fields.Nested(OrderPaymentOut), required=True)
    refunds = fields.List(fields.Nested(OrderRefundOut), required=True)
    shipments = fields.List(fields.Nested(ShipmentOut), required=True)
    returns = fields.List(fields.Dict(), required=True)
    next_actions = fields.List(Choice(tuple(MOVES)), required=True)
    history = fields.List(fields.Nested(HistoryOut), required=True)
    expires_at = fields.DateTime(required=True, allow_none=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class OrderPage(StrictSchema):
    """Orders, newest first."""

    items = fields.List(fields.Nested(OrderOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class PaymentOut(OrderPaymentOut):
    """An attempt to pay, with the order as it is now."""

    order = fields.Nested(OrderOut, required=True)


class RefundOut(OrderRefundOut):
    """Money that goes back, with the order as it is now."""

    order = fields.Nested(OrderOut, required=True)


class HeardOut(StrictSchema):
    """The message of a provider was understood."""

    received = fields.Boolean(required=True)


_TOTALS = ("subtotal", "discount_total", "shipping_total", "tax_total", "total", "paid_total",
           "refunded_total")  # fmt: skip
_PLAIN = ("id", "number", "user_id", "status", "payment_status", "fulfilment_status", "currency",
          "email", "expires_at", "version", "created_at", "updated_at")  # fmt: skip


def order_out(order: Order, *, is_staff: bool) -> dict[str, Any]:
    """`OrderOut` of an order whose belongings are loaded, ready for JSON."""
    shown = _order_out(
        vars(order),
        [vars(item) for item in order.items],
        [vars(line) for line in order.history],
        is_staff=is_staff,
    )
    return shown | {
        "payments": [_payment_out(payment) for payment in order.payments],
        "refunds": [_refund_out(refund) for refund in order.refunds],
        "shipments": [
            {name: getattr(shipment, name) for name in ShipmentOut._declared_fields}
            for shipment in order.shipments
        ],
    }


def placed_out(placed: Placed, *, is_staff: bool) -> dict[str, Any]:
    """`OrderOut` of a new order, ready for JSON."""
    return _order_out(placed.order, placed.items, placed.history, is_staff=is_staff)


def _order_out(
    order: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    *,
    is_staff: bool,
) -> dict[str, Any]:
    currency = order["currency"]
    state = State(order["status"], order["payment_status"], order["fulfilment_status"])
    shown = {name: order[name] for name in _PLAIN}
    shown |= {name: {"amount": order[name], "currency": currency} for name in _TOTALS}
    return shown | {
        "items": [_item_out(item, currency) for item in items],
        "shipping_address": {name: order.get(column) for name, column in _COLUMNS},
        "payments": [],
        "refunds": [],
        "shipments": [],
        "returns": [],
        "next_actions": next_actions(state, is_staff=is_staff),
        "history": [_line_out(line) for line in history],
    }


def _item_out(item: Mapping[str, Any], currency: str) -> dict[str, Any]:
    return {
        "sku": item["sku"],
        "name": item["name"],
        "quantity": item["quantity"],
        "unit_price": {"amount": item["unit_price"], "currency": currency},
        "total": {"amount": item["total"], "currency": currency},
    }


def _line_out(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "at": line["at"],
        "actor": line["actor"],
        "action": line["action"],
        "from": line["from_state"],
        "to": line["to_state"],
    }


def _payment_out(payment: Payment) -> dict[str, Any]:
    names = ("id", "provider", "reference", "status", "detail", "action_url", "created_at")
    shown = {name: getattr(payment, name) for name in names}
    return shown | {"amount": {"amount": payment.amount, "currency": payment.currency}}


def _refund_out(refund: Refund) -> dict[str, Any]:
    names = ("id", "payment_id", "reference", "status", "reason", "created_at")
    shown = {name: getattr(refund, name) for name in names}
    return shown | {"amount": {"amount": refund.amount, "currency": refund.currency}}


def payment_out(payment: Payment, order: Order, *, is_staff: bool) -> dict[str, Any]:
    """`PaymentOut`, ready for JSON."""
    return _payment_out(payment) | {"order": order_out(order, is_staff=is_staff)}


def refund_out(refund: Refund, order: Order) -> dict[str, Any]:
    """`RefundOut`, for staff, ready for JSON."""
    return _refund_out(refund) | {"order": order_out(order, is_staff=True)}
