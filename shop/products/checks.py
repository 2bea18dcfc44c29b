"""Does the stock agree with its ledger?"""

from __future__ import annotations

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from shop.checks import Check, Result, found, how_many
from shop.products.models import StockLevel, StockMovement


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


CHECKS = (Check("stock", stock),)
