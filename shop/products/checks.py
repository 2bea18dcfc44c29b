"""Do the stock and its ledger agree, and the listings with what they are made of?"""

from __future__ import annotations

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session, aliased

from shop.checks import Check, Result, found, how_many
from shop.products.models import (
    ListedValue,
    Product,
    ProductListing,
    StockLevel,
    StockMovement,
    Variant,
)


def stock(session: Session) -> Result:
    """What is on hand is the sum of a variant's movements, and what the last one left."""
    sums = (
        select(
            StockMovement.variant_id,
            func.sum(StockMovement.delta).label("moved"),
            func.max(StockMovement.id).label("last_id"),
        )
        .group_by(StockMovement.variant_id)
        .subquery()
    )
    last = aliased(StockMovement)
    wrong = (
        select(
            StockLevel.variant_id,
            StockLevel.on_hand,
            sums.c.moved.label("sum_of_movements"),
            last.on_hand.label("last_movement"),
        )
        .outerjoin(sums, sums.c.variant_id == StockLevel.variant_id)
        .outerjoin(last, last.id == sums.c.last_id)
        .where(
            or_(
                sums.c.moved.is_(None),
                sums.c.moved != StockLevel.on_hand,
                last.on_hand != StockLevel.on_hand,
            )
        )
    )
    return found(session, how_many(StockLevel), wrong)


def listings(session: Session) -> Result:
    """A listing says what its product, the variants and their stock, and the ratings say."""
    owned = (
        select(
            Variant.product_id,
            func.min(Variant.price_amount).label("price_from"),
            func.sum(case((StockLevel.on_hand > 0, 1), else_=0)).label("stocked"),
        )
        .join(StockLevel, StockLevel.variant_id == Variant.id)
        .group_by(Variant.product_id)
        .subquery()
    )
    listing = ProductListing
    wrong = (
        select(Product.id.label("product_id"), listing.status, listing.price_from,
               listing.stocked_variants)
        .outerjoin(listing, listing.product_id == Product.id)
        .outerjoin(owned, owned.c.product_id == Product.id)
        .where(
            or_(
                listing.product_id.is_(None),
                listing.status != Product.status,
                func.coalesce(listing.category_id, 0) != func.coalesce(Product.category_id, 0),
                listing.price_from != owned.c.price_from,
                listing.stocked_variants != owned.c.stocked,
            )
        )
    )  # fmt: skip
    return found(session, how_many(Product), wrong)


def listed_values(session: Session) -> Result:
    """What is listed of an attribute has the state and the price of its product's listing."""
    value, listing = ListedValue, ProductListing
    wrong = (
        select(value.product_id, value.code, value.status, value.price_from)
        .outerjoin(listing, listing.product_id == value.product_id)
        .where(
            or_(
                listing.product_id.is_(None),
                listing.status != value.status,
                listing.price_from != value.price_from,
            )
        )
    )
    return found(session, how_many(ListedValue), wrong)


CHECKS = (
    Check("stock", stock), Check("listings", listings), Check("listed-values", listed_values),
)  # fmt: skip
