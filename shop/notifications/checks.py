"""Was everybody told what had to be told?"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import String, cast, func, literal, select
from sqlalchemy.orm import Session

from shop import clock
from shop.audit.models import AuditEntry, AuditReader, ParkedEvent
from shop.checks import Check, Result, found
from shop.notifications.models import Notification
from shop.notifications.queries import READER
from shop.orders.models import Order

#: Notifications are kept longer, whatever the settings.
_KEPT = timedelta(days=29)


def placed_orders(session: Session) -> Result:
    """Whoever placed an order in the last weeks was told so, as far as the log was read."""
    reader = select(AuditReader).where(AuditReader.name == READER).subquery()
    parked = select(ParkedEvent.position).where(
        ParkedEvent.sink == READER, ParkedEvent.state != "sent"
    )
    key = literal("order-placed:", String) + cast(AuditEntry.row_id, String(20)) + literal(":1")
    told = select(Notification.id).where(
        Notification.user_id == Order.user_id, Notification.key == key
    )
    to_be_told = (
        select(AuditEntry.row_id.label("order_id"), Order.user_id, AuditEntry.position)
        .join(Order, Order.id == AuditEntry.row_id)
        .join(reader, AuditEntry.position <= reader.c.position)
        .where(
            AuditEntry.table_name == "orders",
            AuditEntry.action == "insert",
            AuditEntry.position > reader.c.began_behind,
            AuditEntry.created_at > clock.now() - _KEPT,
            Order.user_id.is_not(None),
            AuditEntry.position.not_in(parked),
        )
    )
    looked_at = select(func.count()).select_from(to_be_told.subquery())
    return found(session, looked_at, to_be_told.where(~told.exists()))


CHECKS = (Check("placed-orders-told", placed_orders),)
