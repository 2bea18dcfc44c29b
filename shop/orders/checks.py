"""Do orders, money and stock agree with each other?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, case, func, or_, select
from sqlalchemy.orm import Session

from shop.checks import Check, Result, found, how_many
from shop.orders.models import Order, OrderItem, Payment, PaymentEvent, Refund
from shop.products.models import StockLevel, StockMovement


def _sum(column: Any) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _per_order(model: Any, column: Any, *conditions: Any) -> Subquery:
    total = select(model.order_id, func.sum(column).label("total"))
    return total.where(*conditions).group_by(model.order_id).subquery()


def totals_are_sums(session: Session) -> Result:
    """The subtotal is the sum of the lines, the total follows from it, and there is a line."""
    lines = _per_order(OrderItem, OrderItem.total)
    expected = Order.subtotal - Order.discount_total + Order.shipping_total + Order.tax_total
    wrong = or_(lines.c.total.is_(None), lines.c.total != Order.subtotal, Order.total != expected)
    question = select(Order.id.label("order_id"), Order.subtotal, lines.c.total.label("lines"))
    return found(
        session,
        how_many(Order),
        question.outerjoin(lines, lines.c.order_id == Order.id).where(wrong),
    )


def money_is_accounted_for(session: Session) -> Result:
    """Paid and refunded are the sums of payments and refunds, and no more goes back than came."""
    paid = _per_order(Payment, Payment.amount, Payment.status == "succeeded")
    back = _per_order(Refund, Refund.amount, Refund.status == "succeeded")
    waiting = _per_order(Refund, Refund.amount, Refund.status == "pending")
    wrong = or_(
        Order.paid_total != func.coalesce(paid.c.total, 0),
        Order.refunded_total != func.coalesce(back.c.total, 0),
        Order.refunding_total != func.coalesce(waiting.c.total, 0),
        Order.refunded_total + Order.refunding_total > Order.paid_total,
    )
    question = (
        select(Order.id.label("order_id"), Order.paid_total, Order.refunded_total)
        .outerjoin(paid, paid.c.order_id == Order.id)
        .outerjoin(back, back.c.order_id == Order.id)
        .outerjoin(waiting, waiting.c.order_id == Order.id)
        .where(wrong)
    )
    return found(session, how_many(Order), question)


def payments_are_sums_of_events(session: Session) -> Result:
    """What a payment has brought, and what went back of it, is what its provider has said."""
    is_refund = PaymentEvent.kind.startswith("refund.")
    events = (
        select(
            PaymentEvent.payment_id,
            _sum(case((is_refund, 0), else_=PaymentEvent.amount)).label("paid"),
            _sum(case((is_refund, PaymentEvent.amount), else_=0)).label("back"),
        )
        .group_by(PaymentEvent.payment_id)
        .subquery()
    )
    refunds = (
        select(Refund.payment_id, func.sum(Refund.amount).label("total"))
        .where(Refund.status == "succeeded")
        .group_by(Refund.payment_id)
        .subquery()
    )
    brought = case((Payment.status == "succeeded", Payment.amount), else_=0)
    wrong = or_(
        brought != func.coalesce(events.c.paid, 0),
        func.coalesce(refunds.c.total, 0) != func.coalesce(events.c.back, 0),
    )
    question = (
        select(Payment.id.label("payment_id"), Payment.status, events.c.paid, events.c.back)
        .outerjoin(events, events.c.payment_id == Payment.id)
        .outerjoin(refunds, refunds.c.payment_id == Payment.id)
        .where(wrong)
    )
    return found(session, how_many(Payment), question)


def orders_hold_their_stock(session: Session) -> Result:
    """What an order took is what is on its lines; of a cancelled one everything is back."""
    moved = (
        select(
            StockMovement.order_id,
            StockMovement.variant_id,
            func.sum(StockMovement.delta).label("delta"),
        )
        .where(StockMovement.order_id.is_not(None))
        .group_by(StockMovement.order_id, StockMovement.variant_id)
        .subquery()
    )
    held = case((Order.status == "cancelled", 0), else_=-OrderItem.quantity)
    question = (
        select(OrderItem.order_id, OrderItem.variant_id, OrderItem.quantity, moved.c.delta)
        .join(Order, Order.id == OrderItem.order_id)
        .outerjoin(
            moved,
            and_(
                moved.c.order_id == OrderItem.order_id,
                moved.c.variant_id == OrderItem.variant_id,
            ),
        )
        .where(or_(moved.c.delta.is_(None), moved.c.delta != held))
    )
    return found(session, how_many(OrderItem), question)


def movements_belong_to_lines(session: Session) -> Result:
    """Nothing was taken for an order that has no line for it."""
    question = (
        select(StockMovement.order_id, StockMovement.variant_id, StockMovement.delta)
        .outerjoin(
            OrderItem,
            and_(
                OrderItem.order_id == StockMovement.order_id,
                OrderItem.variant_id == StockMovement.variant_id,
            ),
        )
        .where(StockMovement.order_id.is_not(None), OrderItem.id.is_(None))
    )
    return found(session, how_many(StockMovement), question)


def stock_is_conserved(session: Session) -> Result:
    """What was put in by hand is what is there and what orders hold."""
    by_hand = (
        select(StockMovement.variant_id, func.sum(StockMovement.delta).label("total"))
        .where(StockMovement.order_id.is_(None))
        .group_by(StockMovement.variant_id)
        .subquery()
    )
    sold = (
        select(OrderItem.variant_id, func.sum(OrderItem.quantity).label("total"))
        .join(Order, Order.id == OrderItem.order_id)
        .where(Order.status != "cancelled")
        .group_by(OrderItem.variant_id)
        .subquery()
    )
    held = StockLevel.on_hand + func.coalesce(sold.c.total, 0)
    question = (
        select(
            StockLevel.variant_id,
            StockLevel.on_hand,
            by_hand.c.total.label("by_hand"),
            sold.c.total.label("sold"),
        )
        .outerjoin(by_hand, by_hand.c.variant_id == StockLevel.variant_id)
        .outerjoin(sold, sold.c.variant_id == StockLevel.variant_id)
        .where(func.coalesce(by_hand.c.total, 0) != held)
    )
    return found(session, how_many(StockLevel), question)


CHECKS = (
    Check("order totals", totals_are_sums),
    Check("order money", money_is_accounted_for),
    Check("payments", payments_are_sums_of_events),
    Check("order stock", orders_hold_their_stock),
    Check("order movements", movements_belong_to_lines),
    Check("stock conservation", stock_is_conserved),
)
