"""Shapes of the catalogue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from marshmallow import fields, validate

from shop.products.models import (
    STATUSES,
    Category,
    Product,
    ProductRating,
)
from shop.products.operations import MOST_VARIANTS
from shop.web.fields import (
    LARGEST_ID,
    Attributes,
    Choice,
    Code,
    Instant,
    Integer,
    Line,
    Metadata,
    Money,
    StrictSchema,
    Text,
)

# With a letter in it, so that it is never taken for an id.
SLUG = r"^[0-9-]*[a-z][a-z0-9-]*$"
# Visible ASCII: what other systems call things, without ways to spell the same twice.
REFERENCE = r"^[!-~]+$"
_SKU = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MOST_STOCK = 10**9


class Named(StrictSchema):
    """What other systems call a thing and keep with it."""

    external_reference = Code(
        REFERENCE, 100, allow_none=True,
        metadata={"description": "Its name in another system; unique.", "example": "ERP-4711"},
    )  # fmt: skip
    metadata = Metadata(metadata={"description": "Kept for other systems, shown to everybody."})


class VariantIn(Named):
    """A variant of a new product."""

    sku = Code(_SKU, 64, required=True, metadata={"example": "OAK-TABLE-1"})
    name = Text(200, load_default="")
    price = fields.Nested(Money, required=True)
    stock = Integer(0, MOST_STOCK, required=True)
    attributes = Attributes(load_default=dict)
    low_stock_threshold = Integer(
        1, MOST_STOCK, allow_none=True, load_default=None,
        metadata={"description": "When less is there it is time to order more."},
    )  # fmt: skip


class VariantPatch(Named):
    """Changes to a variant's own fields; what is missing stays."""

    sku = Code(_SKU, 64)
    name = Text(200)
    price = fields.Nested(Money)
    attributes = Attributes()
    low_stock_threshold = Integer(1, MOST_STOCK, allow_none=True)


class MoneyOut(StrictSchema):
    """An amount in integer minor units."""

    amount = fields.Integer(required=True)
    currency = fields.String(required=True)


class CategoryLink(StrictSchema):
    """The category of a product."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)


class ProductIn(Named):
    """A new product."""

    name = Line(200, required=True, metadata={"example": "Oak side table"})
    slug = Code(SLUG, 200, metadata={"description": "From the name when it is missing."})
    description = Text(20_000, load_default="")
    status = Choice(STATUSES, load_default="active")
    publish_at = Instant(
        allow_none=True,
        metadata={"description": "When a draft becomes active by itself; drafts alone have it."},
    )
    category_id = Integer(1, LARGEST_ID, allow_none=True)
    attributes = Attributes(load_default=dict)
    variants = fields.List(
        fields.Nested(VariantIn), required=True, validate=validate.Length(1, MOST_VARIANTS)
    )


class ProductPatch(Named):
    """Changes to a product's own fields; what is missing stays."""

    name = Line(200)
    slug = Code(SLUG, 200)
    description = Text(20_000)
    status = Choice(STATUSES)
    publish_at = Instant(
        allow_none=True,
        metadata={"description": "When a draft becomes active by itself; drafts alone have it."},
    )
    category_id = Integer(1, LARGEST_ID, allow_none=True)
    attributes = Attributes()


class NamedOut(StrictSchema):
    """What other systems call a thing and keep with it."""

    external_reference = fields.String(required=True, allow_none=True)
    metadata = Metadata(required=True)


class VariantOut(NamedOut):
    """A variant as it is shown."""

    id = fields.Integer(required=True)
    sku = fields.String(required=True)
    name = fields.String(required=True)
    price = fields.Nested(MoneyOut, required=True)
    prior_price = fields.Nested(
        MoneyOut, required=True, allow_none=True,
        metadata={"description": "Of a reduced price: the lowest of the 30 days before it."},
    )  # fmt: skip
    attributes = Attributes(required=True)
    available = fields.Integer(required=True, metadata={"description": "How many are there."})
    version = fields.Integer(required=True)


class RatingOut(StrictSchema):
    """What the approved reviews say together."""

    average = fields.Float(required=True, allow_none=True)
    count = fields.Integer(required=True)
    distribution = fields.Dict(
        required=True, keys=fields.String(), values=fields.Integer(),
        metadata={"description": "How many gave 1, 2, 3, 4 and 5 stars."},
    )  # fmt: skip


class ProductOut(NamedOut):
    """A product as it is shown."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)
    description = fields.String(required=True)
    status = fields.String(required=True)
    publish_at = fields.DateTime(required=True, allow_none=True)
    category = fields.Nested(CategoryLink, required=True, allow_none=True)
    attributes = Attributes(required=True)
    rating = fields.Nested(RatingOut, required=True)
    price_from = fields.Nested(MoneyOut, required=True)
    variants = fields.List(fields.Nested(VariantOut), required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


def products_out(products: Sequence[Any], variants: Sequence[Any]) -> list[dict[str, Any]]:
    """`ProductOut` of each product row with its variant rows (see `queries`), ready for JSON.

    Written by hand: a marshmallow dump costs twenty times as much, and this is the hot path.
    """
    owned: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for variant in variants:
        owned[variant[0]].append(variant_out(variant))
    # Deleted between the question for it and the one for its variants: not there any more.
    there = [product for product in products if product[0] in owned]
    return [_product_out(product, owned[product[0]]) for product in there]


def variant_out(variant: Any) -> dict[str, Any]:
    """`VariantOut` of a variant row (see `queries`), ready for JSON."""
    _, id_, sku, name, amount, currency, attributes, on_hand, version = variant[:9]
    prior, reference, metadata = variant[9:]
    return {
        "id": id_,
        "sku": sku,
        "name": name,
        "price": {"amount": amount, "currency": currency},
        "prior_price": None if prior is None else {"amount": prior, "currency": currency},
        "attributes": _json(attributes),
        "available": on_hand,
        "external_reference": reference,
        "metadata": _json(metadata),
        "version": version,
    }


def _product_out(product: Any, variants: list[dict[str, Any]]) -> dict[str, Any]:
    id_, name, slug, description, status, attributes, version, created_at, updated_at = product[:9]
    publish_at, reference, metadata = product[9:12]
    category, stars = product[12:15], product[15:]
    return {
        "id": id_,
        "name": name,
        "slug": slug,
        "description": description,
        "status": status,
        "publish_at": publish_at,
        "category": None if category[0] is None else dict(zip(_LINK, category, strict=True)),
        "attributes": _json(attributes),
        "rating": _rating(stars),
        "price_from": min((v["price"] for v in variants), key=lambda price: price["amount"]),
        "variants": variants,
        "external_reference": reference,
        "metadata": _json(metadata),
        "version": version,
        "created_at": created_at,
        "updated_at": updated_at,
    }


def _rating(stars: Sequence[int | None]) -> dict[str, Any]:
    """Of how many approved reviews gave one to five stars."""
    counts = [count or 0 for count in stars]
    total = sum(counts)
    average = sum(n * count for n, count in enumerate(counts, 1)) / total if total else None
    return {
        "average": None if average is None else round(average, 2),
        "count": total,
        "distribution": {str(n): count for n, count in enumerate(counts, 1)},
    }


def _json(values: str | dict[str, Any] | None) -> Any:
    """Values as they are in an object, or as text of JSON that need not be parsed; none are {}."""
    return orjson.Fragment(values) if isinstance(values, str) else values or {}


def product_out(
    product: Product, category: Category | None, rating: ProductRating | None
) -> dict[str, Any]:
    """`ProductOut` of a product object whose variants and stock are loaded."""
    variants = [vars(v) | {"on_hand": v.stock.on_hand} for v in product.variants]
    return stored_product_out(vars(product), variants, category, rating)


def stored_product_out(
    product: Mapping[str, Any],
    variants: Sequence[Mapping[str, Any]],
    category: Category | None,
    rating: ProductRating | None = None,
) -> dict[str, Any]:
    """`ProductOut` of a stored product and its variants, by column names."""
    link = [getattr(category, name, None) for name in _LINK]
    stars = [getattr(rating, name, None) for name in _STARS]
    row = (*(product[name] for name in _PRODUCT_COLUMNS), *link, *stars)
    return products_out([row], [_variant_row(variant) for variant in variants])[0]


def stored_variant_out(variant: Mapping[str, Any]) -> dict[str, Any]:
    """`VariantOut` of a stored variant with its `on_hand`, by column names."""
    return variant_out(_variant_row(variant))


def _variant_row(variant: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(variant[name] for name in _VARIANT_COLUMNS)


_LINK = ("id", "name", "slug")
_STARS = ("stars_1", "stars_2", "stars_3", "stars_4", "stars_5")
_PRODUCT_COLUMNS = (
    "id", "name", "slug", "description", "status", "attributes", "version", "created_at",
    "updated_at", "publish_at", "external_reference", "public_metadata",
)  # fmt: skip
_VARIANT_COLUMNS = (
    "product_id", "id", "sku", "name", "price_amount", "currency", "attributes", "on_hand",
    "version", "prior_price_amount", "external_reference", "public_metadata",
)  # fmt: skip
