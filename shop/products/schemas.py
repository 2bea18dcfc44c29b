"""Shapes of the catalogue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from marshmallow import ValidationError, fields, validate, validates_schema

from shop.products.models import (
    STATUSES,
    Category,
    Product,
    ProductRating,
    StockLevel,
    StockMovement,
    Variant,
)
from shop.products.operations import MOST_VARIANTS
from shop.web.fields import (
    LARGEST_ID,
    Attributes,
    Choice,
    Code,
    Integer,
    Line,
    Money,
    QueryInteger,
    StrictSchema,
    Text,
)
from shop.web.pagination import PageQuery

# With a letter in it, so that it is never taken for an id.
_SLUG = r"^[0-9-]*[a-z][a-z0-9-]*$"
_SKU = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_MOST_STOCK = 10**9
#: JSON Schema for what must not be there.
_ABSENT: dict[str, Any] = {"not": {}}


class VariantIn(StrictSchema):
    """A variant of a new product."""

    sku = Code(_SKU, 64, required=True, metadata={"example": "OAK-TABLE-1"})
    name = Text(200, load_default="")
    price = fields.Nested(Money, required=True)
    stock = Integer(0, _MOST_STOCK, required=True)
    attributes = Attributes(load_default=dict)
    low_stock_threshold = Integer(
        1, _MOST_STOCK, allow_none=True, load_default=None,
        metadata={"description": "When less is there it is time to order more."},
    )  # fmt: skip


class VariantPatch(StrictSchema):
    """Changes to a variant's own fields; what is missing stays."""

    sku = Code(_SKU, 64)
    name = Text(200)
    price = fields.Nested(Money)
    attributes = Attributes()
    low_stock_threshold = Integer(1, _MOST_STOCK, allow_none=True)


class StockChange(StrictSchema):
    """A change of stock: by `delta` (below 0 takes), or `set` to what was counted."""

    class Meta(StrictSchema.Meta):
        document: ClassVar = {
            "oneOf": [
                {"required": ["delta"], "properties": {"set": _ABSENT, "expected": _ABSENT}},
                {"required": ["set", "expected"], "properties": {"delta": _ABSENT}},
            ]
        }

    delta = Integer(-_MOST_STOCK, _MOST_STOCK)
    set = Integer(0, _MOST_STOCK)
    expected = Integer(0, _MOST_STOCK)
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


class CategoryIn(StrictSchema):
    """A new category."""

    name = Line(200, required=True)
    slug = Code(_SLUG, 200, metadata={"description": "From the name when it is missing."})
    parent_id = Integer(1, LARGEST_ID, allow_none=True, load_default=None)
    position = Integer(0, 10**6, load_default=0, metadata={"description": "Among its siblings."})


class CategoryPatch(StrictSchema):
    """Changes of a category; another `parent_id` moves it with all below it."""

    name = Line(200)
    slug = Code(_SLUG, 200)
    parent_id = Integer(1, LARGEST_ID, allow_none=True)
    position = Integer(0, 10**6)


class CategoryOut(StrictSchema):
    """A category as it is shown."""

    id = fields.Integer(required=True)
    parent_id = fields.Integer(required=True, allow_none=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)
    position = fields.Integer(required=True)
    product_count = fields.Integer(
        required=True, metadata={"description": "Active products in it and below it."}
    )
    version = fields.Integer(required=True)


class CategoryTree(StrictSchema):
    """Every category, parents before children, siblings by position and name."""

    items = fields.List(fields.Nested(CategoryOut), required=True)


class CategoryLink(StrictSchema):
    """The category of a product."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)


class ProductIn(StrictSchema):
    """A new product."""

    name = Line(200, required=True, metadata={"example": "Oak side table"})
    slug = Code(_SLUG, 200, metadata={"description": "From the name when it is missing."})
    description = Text(20_000, load_default="")
    status = Choice(STATUSES, load_default="active")
    category_id = Integer(1, LARGEST_ID, allow_none=True)
    attributes = Attributes(load_default=dict)
    variants = fields.List(
        fields.Nested(VariantIn), required=True, validate=validate.Length(1, MOST_VARIANTS)
    )


class ProductPatch(StrictSchema):
    """Changes to a product's own fields; what is missing stays."""

    name = Line(200)
    slug = Code(_SLUG, 200)
    description = Text(20_000)
    status = Choice(STATUSES)
    category_id = Integer(1, LARGEST_ID, allow_none=True)
    attributes = Attributes()


class ProductQuery(PageQuery):
    """Filters of the list of products."""

    status = Choice(
        STATUSES, metadata={"description": "Staff may ask for any; all others see `active`."}
    )
    category = QueryInteger(
        1, LARGEST_ID, metadata={"description": "Those in this category and below it."}
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


class RatingOut(StrictSchema):
    """What the approved reviews say together."""

    average = fields.Float(required=True, allow_none=True)
    count = fields.Integer(required=True)
    distribution = fields.Dict(
        required=True, keys=fields.String(), values=fields.Integer(),
        metadata={"description": "How many gave 1, 2, 3, 4 and 5 stars."},
    )  # fmt: skip


class ProductOut(StrictSchema):
    """A product as it is shown."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)
    description = fields.String(required=True)
    status = fields.String(required=True)
    category = fields.Nested(CategoryLink, required=True, allow_none=True)
    attributes = fields.Dict(required=True, keys=fields.String(), values=fields.String())
    rating = fields.Nested(RatingOut, required=True)
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
    for variant in variants:
        owned[variant[0]].append(variant_out(variant))
    # Deleted between the question for it and the one for its variants: not there any more.
    there = [product for product in products if product[0] in owned]
    return [_product_out(product, owned[product[0]]) for product in there]


def variant_out(variant: Any) -> dict[str, Any]:
    """`VariantOut` of a variant row (see `queries`), ready for JSON."""
    _, id_, sku, name, amount, currency, attributes, on_hand, version = variant
    return {
        "id": id_,
        "sku": sku,
        "name": name,
        "price": {"amount": amount, "currency": currency},
        "attributes": _json(attributes),
        "available": on_hand,
        "version": version,
    }


def _product_out(product: Any, variants: list[dict[str, Any]]) -> dict[str, Any]:
    id_, name, slug, description, status, attributes, version, created_at, updated_at = product[:9]
    category, stars = product[9:12], product[12:]
    return {
        "id": id_,
        "name": name,
        "slug": slug,
        "description": description,
        "status": status,
        "category": None if category[0] is None else dict(zip(_LINK, category, strict=True)),
        "attributes": _json(attributes),
        "rating": _rating(stars),
        "price_from": min((v["price"] for v in variants), key=lambda price: price["amount"]),
        "variants": variants,
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


def _json(attributes: str | dict[str, str]) -> Any:
    """Attributes as they are in an object, or as text of JSON that need not be parsed."""
    return orjson.Fragment(attributes) if isinstance(attributes, str) else attributes


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


def category_out(category: Category, product_count: int) -> dict[str, Any]:
    """`CategoryOut`, ready for JSON."""
    names = ("id", "parent_id", "name", "slug", "position", "version")
    shown = {name: getattr(category, name) for name in names}
    return shown | {"product_count": product_count}


_LINK = ("id", "name", "slug")
_STARS = ("stars_1", "stars_2", "stars_3", "stars_4", "stars_5")
_PRODUCT_COLUMNS = (
    "id", "name", "slug", "description", "status", "attributes", "version", "created_at",
    "updated_at",
)  # fmt: skip
_VARIANT_COLUMNS = (
    "product_id", "id", "sku", "name", "price_amount", "currency", "attributes", "on_hand",
    "version",
)  # fmt: skip
