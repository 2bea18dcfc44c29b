"""Paying an order: claimed first, then asked of the provider, then recorded, once."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy.orm import Session

from shop import clock
from shop.errors import Conflict, Invalid, NotFound
from shop.orders import operations, queries, refunding, states
from shop.orders.models import Order, Payment, Refund
from shop.orders.payments.base import FAILED, SUCCEEDED, News, Outcome, Providers


class NoSuchProvider(Invalid):
    """The shop does not take payments so."""


class NotByHand(Conflict):
    """Nobody but the provider says how this payment ends."""


class OtherAmount(Conflict):
    """The news is about another amount or currency than the payment."""


def claim(
    session: Session,
    order: Order,
    provider: str,
    *,
    request_key: str | None,
    patience: timedelta | None = None,
) -> Payment:
    """Claim a payment of the whole order, which must be locked; it is pending until `record`.

    A request that was claimed before answers the same payment. With `patience` the order waits
    for it so long.

    Raises:
        InvalidTransition: the order is not in a state for it.
    """
    if request_key is not None:
        for known in order.payments:
            if known.request_key == request_key:
                return known
    states.check("pay", order.state)
    payment = Payment(
        provider=provider, reference=f"pay_{secrets.token_urlsafe(16)}", request_key=request_key,
        status="pending", amount=order.total, currency=order.currency,
    )  # fmt: skip
    order.payments.append(payment)
    order.payment_status = "pending"
    if patience is not None:
        order.expires_at = clock.now() + patience
    session.flush()
    return payment


def record(session: Session, order: Order, payment: Payment, outcome: Outcome) -> list[Refund]:
    """Record how a payment went on; the order must be locked.

    News that is known has no effect. Money for an order that cannot take it any more (cancelled, or
    paid already) is recorded and claimed to go back: the refunds are answered.
    """
    moved = outcome.status == SUCCEEDED != payment.status
    amount = payment.amount if moved else 0
    kind = f"payment.{outcome.status}"
    if not refunding.note_event(session, payment, outcome, kind, amount):
        return []
    back: list[Refund] = []
    if moved:
        back = _receive(session, order, payment)
    elif payment.is_open and outcome.status == FAILED:
        payment.status, payment.detail = FAILED, outcome.detail
        if order.payment_status == "pending":
            order.payment_status = "failed"
            order.note("pay", "pending", "failed")
    elif payment.is_open:
        payment.status = outcome.status
        payment.action_url = outcome.action_url or payment.action_url
    session.flush()
    return back


def _receive(session: Session, order: Order, payment: Payment) -> list[Refund]:
    payment.status, payment.detail = SUCCEEDED, None
    order.paid_total += payment.amount
    if order.payment_status in ("unpaid", "pending", "failed"):
        order.note("pay", order.payment_status, "paid")
        order.payment_status, order.expires_at = "paid", None
        if order.status != "cancelled":
            return []
    session.flush()
    reason = "The order was cancelled." if order.status == "cancelled" else "Paid twice."
    return [refunding.claim(session, order, payment, payment.amount, reason)]


def confirm(
    session: Session, payment_id: int, providers: Providers
) -> tuple[Order, Payment, list[Refund]]:
    """The money of a payment by hand is there; see `record`.

    Raises:
        NotFound: there is no such payment.
        NotByHand: its provider says by itself how it ends.
        InvalidTransition: it has ended already.
    """
    found = session.get(Payment, payment_id)
    if found is None:
        raise NotFound(f"There is no payment {payment_id}.")
    order = operations.find_for_change(session, found.order_id)
    payment = next(payment for payment in order.payments if payment.id == payment_id)
    provider = providers.get(payment.provider)
    if provider is None or not provider.by_hand:
        raise NotByHand(f"Payments by {payment.provider} are not confirmed by hand.")
    if not payment.is_open:
        raise states.InvalidTransition(f"The payment has {payment.status} already.")
    outcome = Outcome(SUCCEEDED, f"{payment.reference}:{SUCCEEDED}")
    return order, payment, record(session, order, payment, outcome)


def hear(session: Session, provider: str, news: News) -> list[Refund]:
    """Record what a provider says of a payment or a refund of the shop; see `record`.

    Raises:
        NotFound: it is about none of the shop's.
        OtherAmount: it is about another amount or currency.
    """
    asked = queries.order_of_payment if news.subject == "payment" else queries.order_of_refund
    order_id = session.execute(asked(news.reference)).scalar_one_or_none()
    if order_id is None:
        raise NotFound(f"There is no {news.subject} {news.reference}.")
    order = operations.find_for_change(session, order_id)
    outcome = Outcome(news.status, news.event_id, detail=news.detail)
    if news.subject == "payment":
        payment = next(p for p in order.payments if p.reference == news.reference)
        _check_news(payment.provider, payment, provider, news)
        return record(session, order, payment, outcome)
    found = next(r for r in order.refunds if r.reference == news.reference)
    payment = next(p for p in order.payments if p.id == found.payment_id)
    _check_news(payment.provider, found, provider, news)
    refunding.settle(session, order, found, outcome)
    return []


def _check_news(owner: str, found: Payment | Refund, provider: str, news: News) -> None:
    if owner != provider:
        raise NotFound(f"There is no {news.subject} {news.reference}.")
    if (found.amount, found.currency) != (news.amount, news.currency):
        raise OtherAmount(f"The {news.subject} {news.reference} is of another amount.")
