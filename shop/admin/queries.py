"""Questions that concern several features."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from shop.audit.models import AuditReader
from shop.orders.models import Order, OrderItem, Shipment
from shop.reviews.models import Review


def unreviewed(start: datetime, end: datetime, after: int, limit: int) -> Select[*tuple[Any, ...]]:
    """Id, number and buyer of orders that were delivered in [start, end) and have a product that
    the buyer has not reviewed; those with ids above `after`, by their ids."""
    reviewed = select(Review.id).where(
        Review.product_id == OrderItem.product_id, Review.user_id == Order.user_id
    )
    return (
        select(Order.id, Order.number, Order.user_id)
        .join(Shipment, Shipment.order_id == Order.id)
        .join(OrderItem, OrderItem.order_id == Order.id)
        .where(
            Shipment.delivered_at >= start,
            Shipment.delivered_at < end,
            Order.user_id.is_not(None),
            Order.id > after,
            ~reviewed.exists(),
        )
        .distinct()
        .order_by(Order.id)
        .limit(limit)
    )


def began_at(reader: str) -> Select[datetime]:
    """When an internal reader of the audit log began."""
    return select(AuditReader.began_at).where(AuditReader.name == reader)
