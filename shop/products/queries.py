"""Questions to the catalogue.

The questions of the hot paths are made once, with bound values, for `db.read`: making a statement
costs as much as asking it. They answer rows, not objects, with JSON columns as their text and
times as the database has them (in UTC), ready for the encoder.
"""

from __future__ import annotations

from sqlalchemy import DateTime, Integer, Select, Text, bindparam, select, type_coerce
from sqlalchemy.orm import selectinload

from shop.products.models import Product, StockLevel, Variant

_PRODUCT = (
    Product.id, Product.name, Product.slug, Product.description, Product.status,
    type_coerce(Product.attributes, Text()), Product.version,
    type_coerce(Product.created_at, DateTime()), type_coerce(Product.updated_at, DateTime()),
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
    .join(Variant, Variant.product_id == Product.id)
    .join(StockLevel, StockLevel.variant_id == Variant.id)
    .order_by(Variant.id)
)
#: One product with its variants and their stock: a row a variant, the product's columns first.
SHOWN_BY_ID = _SHOWN.where(Product.id == bindparam("key"))
SHOWN_BY_SLUG = _SHOWN.where(Product.slug == bindparam("key"))


def for_change(product_id: int) -> Select[Product]:
    """A product under a lock, as it is now, with what it owns."""
    return (
        select(Product)
        .where(Product.id == product_id)
        .options(selectinload(Product.variants).joinedload(Variant.stock))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
