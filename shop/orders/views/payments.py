"""The doors of payments and refunds. A provider is called between two transactions, never in one.

The first claims, the second records. A request that is cut off in between goes on where it was when
it is sent again with its key; refunds are also seen to by the job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from flask import Response, request, url_for

from shop import clock, provenance
from shop.crashes import crash_point
from shop.db import db, transactional
from shop.errors import Fault, NotFound
from shop.orders import operations, paying, refunding, settling
from shop.orders.models import Order, Payment, Refund
from shop.orders.payments.base import Charge, News, Outcome, Provider
from shop.orders.schemas import (
    HeardOut,
    OrderOut,
    PaymentIn,
    PaymentOut,
    RefundIn,
    RefundOut,
    payment_out,
    refund_out,
)
from shop.orders.views.orders import lock_order, order_answer, terms
from shop.turns import aside
from shop.web.answers import answer
from shop.web.api import ETAG, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, EVERYONE, SIGNED_IN, current_caller
from shop.web.idempotency import HEADER, keep_answer

payments = Blueprint("payments", __name__, description="Payments and refunds")

_SIGNATURE = "Shop-Signature"


def _request_key() -> str | None:
    """What names this request in the rows that it leaves, so that it knows them when it is sent
    again."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    scope = f"{current_caller().name}\n{request.url_rule}\n{key}"
    return hashlib.sha256(scope.encode()).hexdigest()


@payments.post("/orders/<id:id>/payments")
@payments.allow(*SIGNED_IN)
@payments.body(PaymentIn)
@payments.response(201, PaymentOut, headers=ETAG | LOCATION)
@payments.refuses(404, 409, 412)
@payments.idempotent(required=True)
def pay_order(data: dict[str, Any], id: int) -> Response:
    """Pay an order in full.

    ---
    A payment that was declined answers 201 too: look at its `status`. `pending` and
    `requires_action` end later, by a message of the provider.
    """
    provider = _provider(data.get("provider"))
    payment_id, charge = _claim(id, provider, data.get("token"))
    crash_point("payment-claimed")
    outcome = Outcome("pending")
    if charge is not None:
        with aside():
            outcome = provider.charge(charge)
        crash_point("payment-answered")
    body, back = _record(id, payment_id, outcome)
    _carry_out(back)
    return body


def _provider(name: str | None) -> Provider:
    providers = terms().providers
    name = name or next(iter(providers))
    if name not in providers:
        fault = Fault("/provider", f"One of: {', '.join(providers)}.")
        raise paying.NoSuchProvider("The shop does not take payments so.", faults=(fault,))
    return providers[name]


@transactional
def _claim(id: int, provider: Provider, token: str | None) -> tuple[int, Charge | None]:
    order = lock_order(id, known_by=_request_key())
    payment = paying.claim(
        db.session(), order, provider.name, request_key=_request_key(), patience=provider.patience
    )
    if not payment.is_open:
        return payment.id, None
    return payment.id, Charge(payment.reference, payment.amount, payment.currency, token)


@transactional
def _record(id: int, payment_id: int, outcome: Outcome) -> tuple[Response, list[Refund]]:
    order = operations.find_for_change(db.session(), id)
    payment = next(payment for payment in order.payments if payment.id == payment_id)
    back = paying.record(db.session(), order, payment, outcome)
    return keep_answer(_payment_answer(payment, order, 201)), back


def _payment_answer(payment: Payment, order: Order, status: int = 200) -> Response:
    shown = payment_out(payment, order, is_staff=current_caller().is_employee)
    location = url_for("orders.get_order", id=order.id) if status == 201 else None
    return answer(shown, status, version=payment.version, location=location)


@payments.post("/payments/<id:id>/confirm")
@payments.allow(*EMPLOYEES)
@payments.response(200, PaymentOut, headers=ETAG)
@payments.refuses(404, 409)
@payments.idempotent()
def confirm_payment(id: int) -> Response:
    """The money of a payment by hand has come in.

    ---
    When its order was cancelled meanwhile, the books say that it came and went back.
    """
    body, back = _confirm(id)
    _carry_out(back)
    return body


@transactional
def _confirm(id: int) -> tuple[Response, list[Refund]]:
    order, payment, back = paying.confirm(db.session(), id, terms().providers)
    return keep_answer(_payment_answer(payment, order)), back


@payments.post("/orders/<id:id>/cancel")
@payments.allow(*SIGNED_IN)
@payments.response(200, OrderOut, headers=ETAG)
@payments.refuses(404, 409, 412)
@payments.idempotent()
def cancel_order(id: int) -> Response:
    """Cancel an order that was not sent: its stock goes back, and what was paid too."""
    body, refunds = _cancel(id)
    if not refunds:
        return body
    crash_point("refund-claimed")
    _carry_out(refunds)
    return _show_order(id)


@transactional
def _cancel(id: int) -> tuple[Response, list[Refund]]:
    key = _request_key()
    order = lock_order(id, known_by=key)
    # A request that was cut off after it had cancelled goes on with its refunds.
    mine = [refund for refund in order.refunds if key and refund.request_key == key]
    refunds = mine or operations.cancel(db.session(), order, request_key=key)
    shown = order_answer(order)
    return shown if refunds else keep_answer(shown), refunds


@transactional
def _show_order(id: int) -> Response:
    return keep_answer(order_answer(operations.find_for_change(db.session(), id)))


@payments.post("/orders/<id:id>/refunds")
@payments.allow(*EMPLOYEES)
@payments.body(RefundIn)
@payments.response(201, RefundOut, headers=ETAG | LOCATION)
@payments.refuses(404, 409, 412)
@payments.idempotent(required=True)
def refund_order(data: dict[str, Any], id: int) -> Response:
    """Give back what was paid, or a part of it.

    ---
    `pending` when the provider does not answer: the shop goes on asking.
    """
    refund = _claim_refund(id, data)
    crash_point("refund-claimed")
    _carry_out([refund])
    return _show_refund(id, refund.id)


@transactional
def _claim_refund(id: int, data: dict[str, Any]) -> Refund:
    key = _request_key()
    order = lock_order(id, known_by=key)
    amount = data["amount"]["amount"] if "amount" in data else None
    return refunding.refund(db.session(), order, amount, data["reason"], key)


@transactional
def _show_refund(id: int, refund_id: int) -> Response:
    order = operations.find_for_change(db.session(), id)
    refund = next(refund for refund in order.refunds if refund.id == refund_id)
    location = url_for("orders.get_order", id=order.id)
    return keep_answer(
        answer(refund_out(refund, order), 201, version=refund.version, location=location)
    )


def _carry_out(refunds: Sequence[Refund]) -> None:
    for order_id, refund_id in [(refund.order_id, refund.id) for refund in refunds]:
        with aside():
            settling.carry_out(terms().providers, order_id, refund_id)


@payments.post("/payments/webhooks/<provider>")
@payments.allow(*EVERYONE)
@payments.response(200, HeardOut)
@payments.refuses(404, 409, 413)
def hear_provider(provider: str) -> Response:
    """Messages of a payment provider, signed by `Shop-Signature`; docs/payments.md has their shape.

    ---
    The same message has one effect, however often it comes.
    """
    known = terms().providers.get(provider)
    if known is None:
        raise NotFound("There is no such payment provider.")
    signature = request.headers.get(_SIGNATURE, "")
    news = known.read(signature, request.get_data(cache=False), clock.now())
    provenance.actor.set(f"payments/{provider}")
    _carry_out(_hear(provider, news))
    return answer({"received": True})


@transactional
def _hear(provider: str, news: News) -> list[Refund]:
    return paying.hear(db.session(), provider, news)
