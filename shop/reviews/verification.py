"""Verified reviews: their author had the product delivered by this shop.

Whichever comes last sees the other: both hold the lock of the product, a review while it is
written, a delivery while it looks for reviews.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from shop.orders.models import Order
from shop.reviews import queries


def verify(session: Session, order: Order) -> None:
    """An order was delivered: what its buyer wrote about its products becomes verified."""
    if order.user_id is None:
        return
    for product_id in sorted({item.product_id for item in order.items}):
        session.execute(queries.lock_product(product_id)).first()
        review = session.execute(queries.by_user_of(order.user_id, product_id)).scalar_one_or_none()
        if review is not None and not review.verified:
            review.verified = True
            session.flush()
