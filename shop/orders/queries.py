"""Questions about orders."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select
from sqlalchemy.orm import selectinload

from shop.orders.models import Order, OrderItem, Payment, PaymentEvent, Refund
from shop.products.models import Product, StockLevel, Variant
from shop.users.models import User


@lru_cache
def offers(count: int) -> Select[*tuple[Any, ...]]:
    """What `count` SKUs `sku_0` ... name and are offered for, and the address of the buyer `id`.

    How many are there is told as well.
    """
    return (
        select(
            Variant.id,
            Variant.sku,
            Variant.name,
            Variant.price_amount,
            Variant.currency,
            Product.id.label("product_id"),
            Product.name.label("product_name"),
            Product.status,
            StockLevel.on_hand,
            select(User.email).where(User.id == bindparam("id")).scalar_subquery().label("email"),
        )
        .join(Product, Product.id == Variant.product_id)
        .join(StockLevel, StockLevel.variant_id == Variant.id)
        .where(Variant.sku.in_([bindparam(f"sku_{number}") for number in range(count)]))
    )


_WHOLE = (
    selectinload(Order.items),
    selectinload(Order.payments),
    selectinload(Order.refunds),
    selectinload(Order.shipments),
    selectinload(Order.history),
)


def named(key: int | str) -> ColumnElement[bool]:
    """The order with this id or number."""
    return Order.id == key if isinstance(key, int) else Order.number == key


def whole(key: int | str) -> Select[Order]:
    """An order with all that belongs to it, by its id or number."""
    return select(Order).where(named(key)).options(*_WHOLE)


def for_change(order_id: int) -> Select[Order]:
    """An order under a lock, as it is now, with all that belongs to it."""
    return (
        select(Order)
        .where(Order.id == order_id)
        .options(*_WHOLE)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def newest(before: int, limit: int, **wanted: Any) -> Select[Order]:
    """Orders before the id `before`, newest first, of which these columns have these values."""
    conditions = [getattr(Order, name) == value for name, value in wanted.items()]
    return (
        select(Order)
        .where(Order.id < before, *conditions)
        .order_by(Order.id.desc())
        .limit(limit)
        .options(*_WHOLE)
    )


def of_user(user_id: int) -> Select[Order]:
    """All orders of a user, oldest first."""
    return select(Order).where(Order.user_id == user_id).order_by(Order.id).options(*_WHOLE)


def overdue(moment: datetime, limit: int) -> Select[int]:
    """Ids of orders that were not paid in time, the oldest first."""
    return (
        select(Order.id)
        .where(
            Order.status == "placed",
            Order.expires_at <= moment,
            Order.payment_status.in_(("unpaid", "failed", "pending")),
        )
        .order_by(Order.expires_at)
        .limit(limit)
    )


def order_of_payment(reference: str) -> Select[Any]:
    """The order of the payment with this reference."""
    return select(Payment.order_id).where(Payment.reference == reference)


def order_of_refund(reference: str) -> Select[Any]:
    """The order of the refund with this reference."""
    return select(Refund.order_id).where(Refund.reference == reference)


def event(provider: str, event_id: str) -> Select[PaymentEvent]:
    """The news of a provider, if it is known."""
    return select(PaymentEvent).where(
        PaymentEvent.provider == provider, PaymentEvent.event_id == event_id
    )


def waiting_refunds(before: datetime, after_id: int, limit: int) -> Select[int, int]:
    """Ids of refunds, and of their orders, that were claimed before a moment and are not done."""
    return (
        select(Refund.id, Refund.order_id)
        .where(Refund.status == "pending", Refund.created_at <= before, Refund.id > after_id)
        .order_by(Refund.id)
        .limit(limit)
    )


def some_customers(limit: int) -> Select[int, str]:
    """Ids and names of customers."""
    return select(User.id, User.name).where(User.role == "customer").order_by(User.id).limit(limit)


def some_stocked(limit: int) -> Select[str, int]:
    """SKUs that are for sale, and how many are there."""
    return (
        select(Variant.sku, StockLevel.on_hand)
        .join(StockLevel, StockLevel.variant_id == Variant.id)
        .join(Product, Product.id == Variant.product_id)
        .where(Product.status == "active", StockLevel.on_hand > 0, Variant.price_amount > 0)
        .order_by(Variant.id)
        .limit(limit)
    )


def has_delivered(user_id: int, product_id: int) -> Select[int]:
    """A row when an order of a user with a product was delivered."""
    return (
        select(OrderItem.id)
        .join(Order, Order.id == OrderItem.order_id)
        .where(
            OrderItem.product_id == product_id,
            Order.user_id == user_id,
            Order.fulfilment_status == "delivered",
        )
        .limit(1)
    )


def newest_before(moment: datetime) -> Select[int]:
    """The id of the newest order that was placed before; looks at the orders after it only."""
    return select(Order.id).where(Order.created_at < moment).order_by(Order.id.desc()).limit(1)


def last_payment_event_before(moment: datetime) -> Select[int]:
    """The id of the newest news of providers from before; looks at what came after it only."""
    return (
        select(PaymentEvent.id)
        .where(PaymentEvent.created_at < moment)
        .order_by(PaymentEvent.id.desc())
        .limit(1)
    )


def moved_between(after: int, start: datetime, end: datetime) -> Select[str, Any]:
    """What was paid and given back in [start, end), by the kind of news; ids are above `after`."""
    return (
        select(PaymentEvent.kind, func.sum(PaymentEvent.amount))
        .where(
            PaymentEvent.id > after,
            PaymentEvent.created_at >= start,
            PaymentEvent.created_at < end,
            PaymentEvent.amount > 0,
        )
        .group_by(PaymentEvent.kind)
    )


def how_many_between(after: int, through: int | None) -> Select[int]:
    """How many orders have ids above `after`, and up to `through` if that is given."""
    count = select(func.count()).select_from(Order).where(Order.id > after)
    return count if through is None else count.where(Order.id <= through)
