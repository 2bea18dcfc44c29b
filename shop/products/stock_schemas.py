"""Shapes of the stock of variants, and of their prices."""

from __future__ import annotations

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema

from shop.products.models import PriceChange, StockLevel, StockMovement, Variant
from shop.products.schemas import MOST_STOCK, MoneyOut
from shop.web.fields import Integer, Line, StrictSchema

#: JSON Schema for what must not be there.
_ABSENT: dict[str, Any] = {"not": {}}


class StockChange(StrictSchema):
    """A change of stock: by `delta` (below 0 takes), or `set` to what was counted."""

    class Meta(StrictSchema.Meta):
        document: ClassVar = {
            "oneOf": [
                {"required": ["delta"], "properties": {"set": _ABSENT, "expected": _ABSENT}},
                {"required": ["set", "expected"], "properties": {"delta": _ABSENT}},
            ]
        }

    delta = Integer(-MOST_STOCK, MOST_STOCK)
    set = Integer(0, MOST_STOCK)
    expected = Integer(0, MOST_STOCK)
    reason = Line(100, required=True, metadata={"example": "delivery 4711"})

    @validates_schema
    def _check_kind(self, data: dict[str, Any], **_kwargs: Any) -> None:
        if set(data) - {"reason"} not in ({"delta"}, {"set", "expected"}):
            raise ValidationError("Either `delta`, or `set` and `expected`.")


class StockOut(StrictSchema):
    """How many of a variant are there."""

    variant_id = fields.Integer(required=True)
    on_hand = fields.Integer(required=True)
    available = fields.Integer(required=True)
    low_stock_threshold = fields.Integer(required=True, allow_none=True)
    version = fields.Integer(required=True)


class MovementOut(StrictSchema):
    """One change of a variant's stock."""

    id = fields.Integer(required=True)
    delta = fields.Integer(required=True)
    on_hand = fields.Integer(required=True, metadata={"description": "What was there afterwards."})
    reason = fields.String(required=True)
    order_id = fields.Integer(required=True, allow_none=True)
    actor = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)


class MovementPage(StrictSchema):
    """Movements, newest first."""

    items = fields.List(fields.Nested(MovementOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class PriceOut(StrictSchema):
    """What a variant costs, or did cost, from a moment on."""

    price = fields.Nested(MoneyOut, required=True)
    from_at = fields.DateTime(required=True)


class PricePage(StrictSchema):
    """Prices, newest first: the first one is in force."""

    items = fields.List(fields.Nested(PriceOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


def stock_out(level: StockLevel, variant: Variant) -> dict[str, Any]:
    """`StockOut`, ready for JSON."""
    return {
        "variant_id": level.variant_id,
        "on_hand": level.on_hand,
        "available": level.on_hand,
        "low_stock_threshold": variant.low_stock_threshold,
        "version": level.version,
    }


def movement_out(movement: StockMovement) -> dict[str, Any]:
    """`MovementOut`, ready for JSON."""
    return {name: getattr(movement, name) for name in MovementOut._declared_fields}


def price_out(change: PriceChange) -> dict[str, Any]:
    """`PriceOut`, ready for JSON."""
    price = {"amount": change.price_amount, "currency": change.currency}
    return {"price": price, "from_at": change.from_at}
