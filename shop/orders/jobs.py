"""What the scheduler does with orders. Each order is a short transaction of its own, since a job in
one piece would hold SQLite's only write lock, and providers are called in between."""

from __future__ import annotations

from datetime import timedelta

from shop import clock
from shop.db import db
from shop.orders import queries, settling
from shop.orders.payments.base import Providers

_BATCH = 100
#: Of one run; the next one goes on.
_MOST = 5_000
#: A refund so young is still being seen to by the request that claimed it.
_YOUNG = timedelta(minutes=1)


def expire_unpaid() -> int:
    """Cancel orders that were not paid in time, their stock goes back; answers how many."""
    expired = 0
    while expired < _MOST:
        moment = clock.now()
        found = db.session.scalars(queries.overdue(moment, _BATCH)).all()
        ended = sum(settling.expire(order_id, moment) for order_id in found)
        expired += ended
        if len(found) < _BATCH or not ended:
            break
    return expired


def finish_refunds(providers: Providers) -> int:
    """Ask again for refunds whose request was cut off; answers how many were seen through."""
    finished, last = 0, 0
    before = clock.now() - _YOUNG
    while True:
        found = db.session.execute(queries.waiting_refunds(before, last, _BATCH)).all()
        for refund_id, order_id in found:
            finished += settling.carry_out(providers, order_id, refund_id)
            last = refund_id
        if len(found) < _BATCH:
            return finished
