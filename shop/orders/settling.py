"""Seeing things through without anybody asking: the doors that jobs and views have in common.

A provider is asked with no transaction open, then its answer is recorded.
"""

from __future__ import annotations

from datetime import datetime

from shop import logs
from shop.crashes import crash_point
from shop.db import db, transactional
from shop.orders import operations, refunding
from shop.orders.payments.base import Outcome, ProviderAway, Providers, Return

log = logs.get(__name__)


def carry_out(providers: Providers, order_id: int, refund_id: int) -> bool:
    """Ask for a claimed refund and record it; False when the provider did not answer."""
    asked = _what_to_ask(order_id, refund_id)
    if asked is None:
        return True
    name, back = asked
    provider = providers.get(name)
    if provider is None:
        log.warning("refund.no-provider", provider=name, refund=refund_id)
        return False
    try:
        outcome = provider.give_back(back)
    except ProviderAway:
        log.warning("refund.provider-away", provider=name, refund=refund_id)
        return False
    crash_point("refund-answered")
    _record(order_id, refund_id, outcome)
    return True


@transactional
def expire(order_id: int, moment: datetime) -> bool:
    """Cancel an order that was not paid in time; False when it was, or somebody was quicker."""
    order = operations.find_for_change(db.session(), order_id)
    return operations.expire(db.session(), order, moment)


@transactional
def _what_to_ask(order_id: int, refund_id: int) -> tuple[str, Return] | None:
    return refunding.to_ask(operations.find_for_change(db.session(), order_id), refund_id)


@transactional
def _record(order_id: int, refund_id: int, outcome: Outcome) -> None:
    order = operations.find_for_change(db.session(), order_id)
    found = next(refund for refund in order.refunds if refund.id == refund_id)
    refunding.settle(db.session(), order, found, outcome)
