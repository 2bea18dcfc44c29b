"""Shapes of the catalogue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from marshmallow import fields, validate

from shop.products.models import STATUSES, Product
from shop.web.fields import Attributes, Choice, Code, Integer, Line, Money, StrictSchema, Text
from shop.web.pagination import PageQuery

# With a letter in it, so that it is never taken for an id.
_SLUG = r"^[0-9-]*[a-z][a-z0-9-]*$"
_SKU = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_MOST_VARIANTS = 100
_MOST_STOCK = 10**9


class VariantIn(StrictSchema):
    """A variant of a new product."""

    sku = Code(_SKU, 64, required=True, metadata={"example": "OAK-TABLE-1"})
    name = Text(200, load_default="")
    price = fields.Nested(Money, required=True)
    stock = Integer(0, _MOST_STOCK, required=True)
    attributes = Attributes(load_default=dict)


class ProductIn(StrictSchema):
    """A new product."""

    name = Line(200, required=True, metadata={"example": "Oak side table"})
    slug = Code(_SLUG, 200, metadata={"description": "From the name when it is missing."})
    description = Text(20_000, load_default="")
    status = Choice(STATUSES, load_default="active")
    attributes = Attributes(load_default=dict)
    variants = fields.List(
        fields.Nested(VariantIn), required=True, validate=validate.Length(1, _MOST_VARIANTS)
    )


class ProductPatch(StrictSchema):
    """Changes to a product's own fields; what is missing stays."""

    name = Line(200)
    slug = Code(_SLUG, 200)
    description = Text(20_000)
    status = Choice(STATUSES)
    attributes = Attributes()


class ProductQuery(PageQuery):
    """Filters of the list of products."""

    status = Choice(
        STATUSES, metadata={"description": "Staff may ask for any; all others see `active`."}
    )


class MoneyOut(StrictSchema):
    """An amount in integer minor units."""

    amount = fields.Integer(required=True)
    currency = fields.String(required=True)


class VariantOut(StrictSchema):
    """A variant as it is shown."""

    id = fields.Integer(required=True)
    sku = fields.String(required=True)
    name = fields.String(required=True)
    price = fields.Nested(MoneyOut, required=True)
    attributes = fields.Dict(required=True, keys=fields.String(), values=fields.String())
    available = fields.Integer(required=True, metadata={"description": "How many are there."})
    version = fields.Integer(required=True)


class ProductOut(StrictSchema):
    """A product as it is shown."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)
    description = fields.String(required=True)
    status = fields.String(required=True)
    attributes = fields.Dict(required=True, keys=fields.String(), values=fields.String())
    price_from = fields.Nested(MoneyOut, required=True)
    variants = fields.List(fields.Nested(VariantOut), required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class ProductPage(StrictSchema):
    """A page of products."""

    items = fields.List(fields.Nested(ProductOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


def products_out(products: Sequence[Any], variants: Sequence[Any]) -> list[dict[str, Any]]:
    """`ProductOut` of each product row with its variant rows (see `queries`), ready for JSON.

    Written by hand: a marshmallow dump costs twenty times as much, and this is the hot path.
    """
    owned: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for product_id, id_, sku, name, amount, currency, attributes, on_hand, version in variants:
        owned[product_id].append(
            {
                "id": id_,
                "sku": sku,
                "name": name,
                "price": {"amount": amount, "currency": currency},
                "attributes": _json(attributes),
                "available": on_hand,
                "version": version,
            }
        )
    # Deleted between the question for it and the one for its variants: not there any more.
    there = [product for product in products if product[0] in owned]
    return [_product_out(product, owned[product[0]]) for product in there]


def _product_out(product: Any, variants: list[dict[str, Any]]) -> dict[str, Any]:
    id_, name, slug, description, status, attributes, version, created_at, updated_at = product
    return {
        "id": id_,
        "name": name,
        "slug": slug,
        "description": description,
        "status": status,
        "attributes": _json(attributes),
        "price_from": min((v["price"] for v in variants), key=lambda price: price["amount"]),
        "variants": variants,
        "version": version,
        "created_at": created_at,
        "updated_at": updated_at,
    }


def _json(attributes: str | dict[str, str]) -> Any:
    """Attributes as they are in an object, or as text of JSON that need not be parsed."""
    return orjson.Fragment(attributes) if isinstance(attributes, str) else attributes


def product_out(product: Product) -> dict[str, Any]:
    """`ProductOut` of a product object whose variants and stock are loaded."""
    variants = [vars(v) | {"on_hand": v.stock.on_hand} for v in product.variants]
    return stored_product_out(vars(product), variants)


def stored_product_out(
    product: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """`ProductOut` of a stored product and its variants, by column names."""
    rows = [tuple(variant[name] for name in _VARIANT_COLUMNS) for variant in variants]
    return products_out([tuple(product[name] for name in _PRODUCT_COLUMNS)], rows)[0]


_PRODUCT_COLUMNS = (
    "id", "name", "slug", "description", "status", "attributes", "version", "created_at",
    "updated_at",
)  # fmt: skip
_VARIANT_COLUMNS = (
    "product_id", "id", "sku", "name", "price_amount", "currency", "attributes", "on_hand",
    "version",
)  # fmt: skip
