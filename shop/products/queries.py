"""Questions to the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import selectinload

from shop.products.models import Product, StockLevel, Variant

#: The columns that a product is shown with. Rows, not objects: lists are read far more often
#: than anything is written, and an object costs several times what a row does.
_PRODUCT = (
    Product.id, Product.name, Product.slug, Product.description, Product.status,
    Product.attributes, Product.version, Product.created_at, Product.updated_at,
)  # fmt: skip
_VARIANT = (
    Variant.product_id, Variant.id, Variant.sku, Variant.name, Variant.price_amount,
    Variant.currency, Variant.attributes, StockLevel.on_hand, Variant.version,
)  # fmt: skip


def newest(status: str | None, before_id: int | None, limit: int) -> Select[Any]:
    """Product rows, newest first, after the keyset `before_id`."""
    rows = select(*_PRODUCT).order_by(Product.id.desc()).limit(limit)
    if status is not None:
        rows = rows.where(Product.status == status)
    if before_id is not None:
        rows = rows.where(Product.id < before_id)
    return rows


def shown(id_or_slug: int | str) -> Select[Any]:
    """The row of one product."""
    column = Product.id if isinstance(id_or_slug, int) else Product.slug
    return select(*_PRODUCT).where(column == id_or_slug)


def variants_of(product_ids: Sequence[int]) -> Select[Any]:
    """Variant rows with their stock, in the order of their making."""
    return (
        select(*_VARIANT)
        .join(StockLevel, StockLevel.variant_id == Variant.id)
        .where(Variant.product_id.in_(product_ids))
        .order_by(Variant.id)
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


def slug_taken(slug: str) -> Select[int]:
    """The product that has this slug."""
    return select(Product.id).where(Product.slug == slug)
