"""The daily digest: what staff is told of the day, and customers who are asked for a review.

Each transaction is short, and what was told is not told again: a digest that was cut off begins
anew.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from shop import logs
from shop.admin import queries
from shop.audit import queries as audit_queries
from shop.db import db, transactional
from shop.jobs.slots import slot_name
from shop.notifications.news import Notice
from shop.notifications.operations import notify
from shop.notifications.queries import READER
from shop.orders import queries as order_queries
from shop.products import queries as product_queries

log = logs.get(__name__)

#: Orders of one transaction.
_BATCH = 500


@transactional
def tell_staff(start: datetime, end: datetime, currency: str, low_stock: int) -> dict[str, Any]:
    """Tell staff what happened in [start, end), and how things are; answers the figures."""
    session = db.session()
    figures = {
        "from": slot_name(start),
        "until": slot_name(end),
        "orders": _orders_between(session, start, end),
        **_money_between(session, start, end, currency),
        "low_stock": session.execute(product_queries.how_many_low(low_stock)).scalar_one(),
        "parked": sum(row[2] for row in session.execute(audit_queries.PARKED)),
    }
    notify(session, [Notice("digest", f"digest:{slot_name(end)}", figures)])
    log.info("digest", **figures)
    return figures


@transactional
def ask_for_reviews(start: datetime, end: datetime, after: int) -> int | None:
    """Ask buyers of orders that were delivered in [start, end) what they think, once an order.

    At most 500 orders with ids above `after`; the last of them is answered, None when no more are.
    Nobody is asked about what was delivered before there were notifications.
    """
    session = db.session()
    began = session.execute(queries.began_at(READER)).scalar_one_or_none()
    start = max(start, began) if began is not None else start
    orders = session.execute(queries.unreviewed(start, end, after, _BATCH)).all()
    notify(session, [_request(*order) for order in orders])
    return orders[-1].id if len(orders) == _BATCH else None


def _request(order_id: int, number: str, user_id: int) -> Notice:
    facts = {"order_id": order_id, "number": number}
    return Notice("review-request", f"review-request:{order_id}", facts, user_id)


def _orders_between(session: Session, start: datetime, end: datetime) -> int:
    before, last = (
        session.execute(order_queries.newest_before(moment)).scalar_one_or_none() or 0
        for moment in (start, end)
    )
    return session.execute(order_queries.how_many_between(before, last)).scalar_one()


def _money_between(
    session: Session, start: datetime, end: datetime, currency: str
) -> dict[str, dict[str, Any]]:
    before = session.execute(order_queries.last_payment_event_before(start)).scalar_one_or_none()
    rows = session.execute(order_queries.moved_between(before or 0, start, end))
    # MariaDB answers the sum of whole numbers as a decimal.
    moved = {kind: int(amount) for kind, amount in rows}
    sums = {"revenue": "payment.succeeded", "refunds": "refund.succeeded"}
    return {
        name: {"amount": moved.get(kind, 0), "currency": currency} for name, kind in sums.items()
    }
