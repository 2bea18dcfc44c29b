"""Questions to the catalogue.

The questions of the hot paths are made once, with bound values, for `db.read`: making a statement
costs as much as asking it. They answer rows, not objects, with JSON columns as their text and
times as the database has them (in UTC), ready for the encoder.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    select,
    type_coerce,
)
from sqlalchemy.orm import selectinload

from shop.products.models import (
    AttributeDefinition,
    Category,
    ListedValue,
    PriceChange,
    Product,
    ProductListing,
    ProductRating,
    ProductSlug,
    StockLevel,
    StockMovement,
    Variant,
)

_PRODUCT = (
    Product.id, Product.name, Product.slug, Product.description, Product.status,
    type_coerce(Product.attributes, Text()), Product.version,
    type_coerce(Product.created_at, DateTime()), type_coerce(Product.updated_at, DateTime()),
    type_coerce(Product.publish_at, DateTime()), Product.external_reference,
    type_coerce(Product.public_metadata, Text()),
    Category.id, Category.name, Category.slug,
    ProductRating.stars_1, ProductRating.stars_2, ProductRating.stars_3, ProductRating.stars_4,
    ProductRating.stars_5,
)  # fmt: skip
_VARIANT = (
    Variant.product_id, Variant.id, Variant.sku, Variant.name, Variant.price_amount,
    Variant.currency, type_coerce(Variant.attributes, Text()), StockLevel.on_hand,
    Variant.version, Variant.prior_price_amount, Variant.external_reference,
    type_coerce(Variant.public_metadata, Text()),
)  # fmt: skip
#: How many columns of a row of `SHOWN_BY_ID` or `SHOWN_BY_SLUG` are the product's.
PRODUCT_WIDTH = len(_PRODUCT)

#: Products before the id `before`, newest first, at most `limit`.
NEWEST = (
    select(*_PRODUCT)
    .outerjoin(Category, Category.id == Product.category_id)
    .outerjoin(ProductRating, ProductRating.product_id == Product.id)
    .where(Product.id < bindparam("before"))
    .order_by(Product.id.desc())
    .limit(bindparam("limit", type_=Integer()))
)
#: The same of one `status`.
NEWEST_OF_STATUS = NEWEST.where(Product.status == bindparam("status"))

#: Every category and what it is below.
TREE = select(Category.id, Category.parent_id)

#: Variants of the products `ids` with their stock, in the order of their making.
VARIANTS_OF = (
    select(*_VARIANT)
    .join(StockLevel, StockLevel.variant_id == Variant.id)
    .where(Variant.product_id.in_(bindparam("ids", expanding=True)))
    .order_by(Variant.id)
)

_SHOWN = (
    select(*_PRODUCT, *_VARIANT)
    .outerjoin(Category, Category.id == Product.category_id)
    .outerjoin(ProductRating, ProductRating.product_id == Product.id)
    .join(Variant, Variant.product_id == Product.id)
    .join(StockLevel, StockLevel.variant_id == Variant.id)
    .order_by(Variant.id)
)
#: One product with its variants and their stock: a row a variant, the product's columns first.
SHOWN_BY_ID = _SHOWN.where(Product.id == bindparam("key"))
SHOWN_BY_SLUG = _SHOWN.where(Product.slug == bindparam("key"))
#: Slug and status of the product that had the slug `key`.
BY_FORMER_SLUG = (
    select(Product.slug, Product.status)
    .join(ProductSlug, ProductSlug.product_id == Product.id)
    .where(ProductSlug.slug == bindparam("key"))
)


def shown_with(product_id: ColumnElement[int]) -> Select[Any]:
    """What is shown of the products whose ids are in that column of another table."""
    return (
        cast("Select[Any]", select(*_PRODUCT))
        .join(Product, Product.id == product_id)
        .outerjoin(Category, Category.id == Product.category_id)
        .outerjoin(ProductRating, ProductRating.product_id == Product.id)
    )


#: The lowest and the highest id that is listed.
LISTED_FROM_TO = select(func.min(ProductListing.product_id), func.max(ProductListing.product_id))
#: The listings `ids`, and the values of their attributes.
LISTINGS_OF = select(*ProductListing.__table__.columns).where(
    ProductListing.product_id.in_(bindparam("ids", expanding=True))
)
VALUES_OF = select(ListedValue.code, ListedValue.value, ListedValue.product_id).where(
    ListedValue.product_id.in_(bindparam("ids", expanding=True))
)

#: The stock of some variants, with whose they are.
LEVELS = (
    select(StockLevel.variant_id, Variant.product_id, StockLevel.on_hand, StockLevel.version)
    .join(Variant, Variant.id == StockLevel.variant_id)
    .where(StockLevel.variant_id.in_(bindparam("ids", expanding=True)))
)


def for_change(product_id: int) -> Select[Product]:
    """A product under a lock, as it is now, with what it owns."""
    return (
        select(Product)
        .where(Product.id == product_id)
        .options(selectinload(Product.variants).joinedload(Variant.stock))
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def listed_by_others_than(version: int) -> Select[int]:
    """Ids of products whose words another version made."""
    # Two ranges of an index, where "not equal" would be a full scan.
    made_by = ProductListing.words_version
    return select(ProductListing.product_id).where((made_by < version) | (made_by > version))


def product_of(variant_id: int) -> Select[int]:
    """The id of a variant's product."""
    return select(Variant.product_id).where(Variant.id == variant_id)


def due_drafts(moment: datetime, limit: int) -> Select[int]:
    """Ids of drafts whose `publish_at` has come, those that waited longest first."""
    return (
        select(Product.id)
        .where(Product.status == "draft", Product.publish_at <= moment)
        .order_by(Product.publish_at, Product.id)
        .limit(limit)
    )


def drafts_for_change(ids: Collection[int], moment: datetime) -> Select[Product]:
    """Those of these products that are due drafts still, under a lock."""
    return (
        select(Product)
        .where(Product.id.in_(ids), Product.status == "draft", Product.publish_at <= moment)
        .options(selectinload(Product.variants))
        .order_by(Product.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def lowest_price(variant_id: int, currency: str, since: datetime) -> Select[int | None]:
    """The lowest price of a variant that was in force at `since` or later."""
    in_force = (
        select(func.max(PriceChange.id))
        .where(PriceChange.variant_id == variant_id, PriceChange.from_at <= since)
        .scalar_subquery()
    )
    return select(func.min(PriceChange.price_amount)).where(
        PriceChange.variant_id == variant_id,
        PriceChange.currency == currency,
        PriceChange.id >= func.coalesce(in_force, 0),
    )


def prices_of(variant_id: int, before: int, limit: int) -> Select[PriceChange]:
    """What a variant costs and did cost, before the id `before`, newest first."""
    return (
        select(PriceChange)
        .where(PriceChange.variant_id == variant_id, PriceChange.id < before)
        .order_by(PriceChange.id.desc())
        .limit(limit)
    )


#: Code, kind and options of the attributes among `codes` that are defined.
DEFINITIONS_OF = select(
    AttributeDefinition.code, AttributeDefinition.kind, AttributeDefinition.options
).where(AttributeDefinition.code.in_(bindparam("codes", expanding=True)))


def definitions(after: str, limit: int) -> Select[AttributeDefinition]:
    """Definitions of attributes behind the code `after`, by code."""
    return (
        select(AttributeDefinition)
        .where(AttributeDefinition.code > after)
        .order_by(AttributeDefinition.code)
        .limit(limit)
    )


def definition_for_change(definition_id: int) -> Select[AttributeDefinition]:
    """A definition under a lock, as it is now."""
    return (
        select(AttributeDefinition)
        .where(AttributeDefinition.id == definition_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def slugs_among(slugs: list[str]) -> Select[str]:
    """Those of these slugs that a product has."""
    return select(Product.slug).where(Product.slug.in_(slugs))


def skus_among(skus: list[str]) -> Select[str]:
    """Those of these SKUs that a variant has."""
    return select(Variant.sku).where(Variant.sku.in_(skus))


def products_of_skus(skus: list[str]) -> Select[int]:
    """Ids of the products that have a variant with one of these SKUs."""
    return select(Variant.product_id).where(Variant.sku.in_(skus))


def categories_among(category_ids: list[int]) -> Select[int]:
    """Those of these ids that a category has."""
    return select(Category.id).where(Category.id.in_(category_ids))


def several_for_change(product_ids: list[int]) -> Select[Product]:
    """Products under locks that are taken in the order of their ids, as `for_change`."""
    return (
        select(Product)
        .where(Product.id.in_(product_ids))
        .order_by(Product.id)
        .options(selectinload(Product.variants).joinedload(Variant.stock))
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def movements_of(variant_id: int, before: int, limit: int) -> Select[StockMovement]:
    """Movements of a variant's stock before the id `before`, newest first."""
    return (
        select(StockMovement)
        .where(StockMovement.variant_id == variant_id, StockMovement.id < before)
        .order_by(StockMovement.id.desc())
        .limit(limit)
    )


def all_categories() -> Select[Category]:
    """Every category, in the order in which they are to be locked."""
    return select(Category).order_by(Category.id).execution_options(populate_existing=True)


def category(category_id: int) -> Select[Category]:
    """One category."""
    return select(Category).where(Category.id == category_id)


def products_in(category_ids: list[int]) -> Select[int]:
    """Ids of the products in these categories."""
    return select(Product.id).where(Product.category_id.in_(category_ids))


def counted_categories() -> Select[Category, int]:
    """Every category, and how many active products are right in it."""
    counts = (
        select(Product.category_id, func.count().label("number"))
        .where(Product.status == "active", Product.category_id.is_not(None))
        .group_by(Product.category_id)
        .subquery()
    )
    return (
        select(Category, func.coalesce(counts.c.number, 0))
        .outerjoin(counts, counts.c.category_id == Category.id)
        .order_by(Category.id)
        .execution_options(populate_existing=True)
    )


def low_at(mark: int) -> ColumnElement[int]:
    """How many of a variant are too few: less than its threshold, or the mark where it has none."""
    return func.coalesce(Variant.low_stock_threshold - 1, mark)


def how_many_low(mark: int) -> Select[int]:
    """How many variants of active products are running out."""
    return (
        select(func.count())
        .select_from(StockLevel)
        .join(Variant, Variant.id == StockLevel.variant_id)
        .join(Product, Product.id == Variant.product_id)
        .where(StockLevel.on_hand <= low_at(mark), Product.status == "active")
    )
