"""What happens to orders after they are placed. Each locks the order before anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy.orm import Session

from shop import clock
from shop.audit.capture import AuditedWrites
from shop.errors import NotFound
from shop.orders import queries, refunding, states
from shop.orders.models import Order, Refund, Shipment
from shop.products import stock

#: Called in the transaction in which an order is delivered.
OnDelivered = Callable[[Session, Order], None]


def find_for_change(session: Session, order_id: int) -> Order:
    """The order under a lock. Raises NotFound."""
    order = session.execute(queries.for_change(order_id)).scalar_one_or_none()
    if order is None:
        raise NotFound("There is no such order.")
    return order


def cancel(session: Session, order: Order, *, request_key: str | None = None) -> list[Refund]:
    """Cancel an order: its stock goes back, and what was paid is claimed to go back.

    Raises:
        InvalidTransition: the order is not in a state for it.
    """
    states.check("cancel", order.state)
    return _end(session, order, "cancel", "The order was cancelled.", request_key)


def expire(session: Session, order: Order, moment: datetime) -> bool:
    """Cancel an order that was not paid in time; False when it was, or is cancelled already."""
    overdue = order.expires_at is not None and order.expires_at <= moment
    open_still = order.payment_status in ("unpaid", "failed", "pending")
    if not (overdue and open_still and states.MOVES["cancel"].starts_from(order.state)):
        return False
    _end(session, order, "expire", "The order was not paid in time.", None)
    return True


def _end(
    session: Session, order: Order, action: str, reason: str, request_key: str | None
) -> list[Refund]:
    with AuditedWrites(session) as writes:
        counts = {item.variant_id: item.quantity for item in order.items}
        stock.put_back(writes, counts, "cancelled", order_id=order.id)
    order.note(action, order.status, "cancelled")
    order.status, order.expires_at = "cancelled", None
    session.flush()
    return refunding.refund_all(session, order, reason, request_key)


def ship(session: Session, order: Order, carrier: str | None, tracking: str | None) -> None:
    """Send the whole order. Raises InvalidTransition."""
    states.check("ship", order.state)
    order.shipments.append(Shipment(carrier=carrier, tracking=tracking, shipped_at=clock.now()))
    order.note("ship", order.fulfilment_status, "shipped")
    order.fulfilment_status = "shipped"
    session.flush()


def deliver(session: Session, order: Order, hooks: Iterable[OnDelivered] = ()) -> None:
    """The order has arrived, and is complete. Raises InvalidTransition."""
    states.check("deliver", order.state)
    for shipment in order.shipments:
        shipment.delivered_at = shipment.delivered_at or clock.now()
    order.note("deliver", order.fulfilment_status, "delivered")
    order.fulfilment_status, order.status = "delivered", "completed"
    session.flush()
    for hook in hooks:
        hook(session, order)
