"""Questions to the catalogue.

The questions of the hot paths are made once, with bound values, for `db.read`: making a statement
costs as much as asking it. They answer rows, not objects, with JSON columns as their text and
times as the database has them (in UTC), ready for the encoder.
"""

from __future__ import annotations

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
    Category,
    Product,
    ProductListing,
    ProductRating,
    StockLevel,
    StockMovement,
    Variant,
)

_PRODUCT = (
    Product.id, Product.name, Product.slug, Product.description, Product.status,
    type_coerce(Product.attributes, Text()), Product.version,
    type_coerce(Product.created_at, DateTime()), type_coerce(Product.updated_at, DateTime()),
    Category.id, Category.name, Category.slug,
    ProductRating.stars_1, ProductRating.stars_2, ProductRating.stars_3, ProductRating.stars_4,
    ProductRating.stars_5,
)  # fmt: skip
_VARIANT = (
    Variant.product_id, Variant.id, Variant.sku, Variant.name, Variant.price_amount,
    Variant.currency, type_coerce(Variant.attributes, Text()), StockLevel.on_hand,
    Variant.version,
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


def shown_with(product_id: ColumnElement[int]) -> Select[Any]:
    """What is shown of the products whose ids are in that column of another table."""
    return (
        cast("Select[Any]", select(*_PRODUCT))
        .join(Product, Product.id == product_id)
        .outerjoin(Category, Category.id == Product.category_id)
        .outerjoin(ProductRating, ProductRating.product_id == Product.id)
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


def product_counts() -> Select[int | None, int]:
    """Category id and the number of active products right in it."""
    return (
        select(Product.category_id, func.count())
        .where(Product.status == "active", Product.category_id.is_not(None))
        .group_by(Product.category_id)
    )
