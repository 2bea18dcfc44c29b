"""Giving money back: claimed from the order first, then asked of the provider, then recorded."""

from __future__ import annotations

import secrets

from sqlalchemy.orm import Session

from shop.errors import Conflict
from shop.orders import queries, states
from shop.orders.models import Order, Payment, PaymentEvent, Refund
from shop.orders.payments.base import FAILED, SUCCEEDED, Outcome, Return


class TooMuchRefunded(Conflict):
    """More would go back than was paid."""


def refund(
    session: Session, order: Order, amount: int | None, reason: str, request_key: str | None
) -> Refund:
    """Claim a refund of an order, which must be locked; without `amount` of all that is left.

    A request that was claimed before answers the same refund.

    Raises:
        InvalidTransition: the order is not in a state for it.
        TooMuchRefunded: less than that is left of what was paid.
    """
    if request_key is not None:
        for known in order.refunds:
            if known.request_key == request_key:
                return known
    states.check("refund", order.state)
    left = {payment.id: _left_of(order, payment) for payment in order.payments}
    wanted = order.refundable if amount is None else amount
    payment = next((p for p in order.payments if left[p.id] >= wanted > 0), None)
    if payment is None or wanted > order.refundable:
        most = min(max(left.values(), default=0), order.refundable)
        raise TooMuchRefunded(f"{most} {order.currency} at most can go back.")
    return claim(session, order, payment, wanted, reason, request_key=request_key)


def refund_all(
    session: Session, order: Order, reason: str, request_key: str | None = None
) -> list[Refund]:
    """Claim whatever is left of each payment of an order, which must be locked."""
    found = []
    for payment in order.payments:
        if left := _left_of(order, payment):
            found.append(claim(session, order, payment, left, reason, request_key=request_key))
            request_key = None
    return found


def claim(
    session: Session,
    order: Order,
    payment: Payment,
    amount: int,
    reason: str,
    *,
    request_key: str | None = None,
) -> Refund:
    """Claim an amount of a payment that is left of it; nobody else can claim it then."""
    found = Refund(
        payment_id=payment.id, reference=f"re_{secrets.token_urlsafe(16)}", status="pending",
        request_key=request_key, amount=amount, currency=order.currency, reason=reason,
    )  # fmt: skip
    order.refunds.append(found)
    order.refunding_total += amount
    # The CHECK has the last word on what is left.
    session.flush()
    return found


def to_ask(order: Order, refund_id: int) -> tuple[str, Return] | None:
    """Which provider to ask for what; None when the refund is done."""
    found = next(refund for refund in order.refunds if refund.id == refund_id)
    if found.status != "pending":
        return None
    payment = next(payment for payment in order.payments if payment.id == found.payment_id)
    back = Return(found.reference, payment.reference, found.amount, found.currency)
    return payment.provider, back


def settle(session: Session, order: Order, found: Refund, outcome: Outcome) -> None:
    """Record how a refund ended, once; the order must be locked."""
    payment = next(payment for payment in order.payments if payment.id == found.payment_id)
    done = found.status == "pending" and outcome.status in (SUCCEEDED, FAILED)
    given_back = found.amount if done and outcome.status == SUCCEEDED else 0
    if not note_event(session, payment, outcome, f"refund.{outcome.status}", given_back):
        return
    if done:
        found.status = outcome.status
        order.refunding_total -= found.amount
        order.refunded_total += given_back
        if given_back:
            before = order.payment_status
            order.payment_status = _status_of(order)
            order.note("refund", before, order.payment_status)
    session.flush()


def note_event(
    session: Session, payment: Payment, outcome: Outcome, kind: str, amount: int
) -> bool:
    """Write down what a provider said; False when it was known. The order must be locked."""
    if outcome.event_id is None:
        return True
    known = session.execute(queries.event(payment.provider, outcome.event_id)).first()
    if known is None:
        session.add(
            PaymentEvent(
                provider=payment.provider, event_id=outcome.event_id, payment_id=payment.id,
                kind=kind, amount=amount,
            )
        )  # fmt: skip
    return known is None


def _left_of(order: Order, payment: Payment) -> int:
    if payment.status != SUCCEEDED:
        return 0
    claimed = [r.amount for r in order.refunds if r.payment_id == payment.id and r.status != FAILED]
    return payment.amount - sum(claimed)


def _status_of(order: Order) -> str:
    kept = order.paid_total - order.refunded_total
    if kept == 0:
        return "refunded"
    # Somebody may have paid twice, and has got the second payment back.
    return "paid" if kept >= order.total else "partially_refunded"
