"""Payments and refunds: claimed, asked, recorded; each has one effect."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from shop import clock
from shop.orders.models import Payment, PaymentEvent, Refund
from shop.orders.payments.base import ProviderAway, Return, sign
from shop.orders.settling import carry_out
from tests.orders.checks import (
    ORDERS,
    WEBHOOKS,
    Headers,
    act,
    count,
    key,
    message,
    on_hand,
    pay,
    placed,
    read,
    secret_of,
    send_message,
    states,
    terms_of,
    variant,
)
from tests.web.checks import assert_problem


@pytest.fixture
def oak(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """What is ordered here, for 10 euros each."""
    return variant(client, staff, stock=50, price={"amount": 1000, "currency": "EUR"})


@pytest.fixture
def order(client: FlaskClient, customer: Headers, oak: Any) -> dict[str, Any]:
    """An order of 20 euros."""
    return placed(client, customer, (oak["sku"], 2))


def test_a_payment_pays_the_order_in_full(
    client: FlaskClient, customer: Headers, order: Any
) -> None:
    answer = pay(client, customer, order)
    payment = answer.get_json()

    assert answer.status_code == 201
    assert (payment["status"], payment["provider"]) == ("succeeded", "test")
    assert payment["amount"] == order["total"] == {"amount": 2000, "currency": "EUR"}
    assert payment["order"] == read(client, customer, order)
    assert payment["order"]["payment_status"] == "paid"
    assert payment["order"]["paid_total"] == order["total"]
    assert payment["order"]["expires_at"] is None


def test_a_declined_payment_is_an_answer_that_is_kept_and_another_one_may_follow(
    client: FlaskClient, customer: Headers, order: Any
) -> None:
    """BL-15: after a declined payment."""
    url, headers = f"{ORDERS}/{order['id']}/payments", key() | customer
    body = {"token": "tok_decline"}
    first = client.post(url, json=body, headers=headers)
    again = client.post(url, json=body, headers=headers)

    assert (first.status_code, first.get_json()["status"]) == (201, "failed")
    assert first.get_json()["order"]["payment_status"] == "failed"
    assert first.get_json()["order"]["next_actions"] == ["pay", "cancel"]
    assert again.data == first.data
    assert again.headers["Idempotency-Replayed"] == "true"
    assert pay(client, customer, order).get_json()["status"] == "succeeded"
    found = read(client, customer, order)
    assert [payment["status"] for payment in found["payments"]] == ["failed", "succeeded"]


def test_a_payment_that_needs_more_is_ended_by_a_message(
    app: Flask, client: FlaskClient, customer: Headers, order: Any
) -> None:
    payment = pay(client, customer, order, token="tok_action").get_json()
    assert payment["status"] == "requires_action"
    assert payment["action_url"].startswith("https://")
    assert payment["order"]["payment_status"] == "pending"
    assert_problem(pay(client, customer, order), "invalid-transition")

    assert send_message(app, message(payment, "payment.succeeded")).status_code == 200

    assert read(client, customer, order)["payment_status"] == "paid"


def test_a_late_failure_lets_the_buyer_try_again(
    app: Flask, client: FlaskClient, customer: Headers, order: Any
) -> None:
    payment = pay(client, customer, order, token="tok_later").get_json()
    assert send_message(app, message(payment, "payment.failed")).status_code == 200

    assert read(client, customer, order)["payment_status"] == "failed"
    assert pay(client, customer, order).get_json()["status"] == "succeeded"


def test_a_provider_that_does_not_answer_is_asked_again_with_the_same_key(
    client: FlaskClient, customer: Headers, order: Any, session: Session
) -> None:
    url, headers = f"{ORDERS}/{order['id']}/payments", key() | customer
    for _ in range(2):
        answer = client.post(url, json={"token": "tok_away"}, headers=headers)
        assert_problem(answer, "unavailable")
        assert answer.headers["Retry-After"]
    assert session.scalars(select(Payment.status)).all() == ["pending"]

    # What was unclear is found out by the request that began it: the same payment goes on.
    answer = client.post(url, json={"token": "tok_approve"}, headers=headers)

    assert answer.get_json()["status"] == "succeeded"
    session.rollback()
    assert session.scalars(select(Payment.status)).all() == ["succeeded"]


def test_a_payment_by_hand_waits_for_staff(
    app: Flask, client: FlaskClient, staff: Headers, customer: Headers, order: Any
) -> None:
    payment = pay(client, customer, order, provider="manual").get_json()
    assert payment["status"] == "pending"
    waiting = read(client, customer, order)
    assert waiting["payment_status"] == "pending"
    assert waiting["expires_at"] > order["expires_at"], "a transfer takes its days"
    confirm = f"/api/v1/payments/{payment['id']}/confirm"
    assert_problem(client.post(confirm, headers=customer), "forbidden")

    answer = client.post(confirm, headers=staff)

    assert (answer.status_code, answer.get_json()["status"]) == (200, "succeeded")
    assert read(client, customer, order)["payment_status"] == "paid"
    assert_problem(client.post(confirm, headers=staff), "invalid-transition")
    assert_problem(client.post("/api/v1/payments/999/confirm", headers=staff), "not-found")


def test_what_the_provider_decides_staff_does_not(
    client: FlaskClient, staff: Headers, customer: Headers, order: Any
) -> None:
    payment = pay(client, customer, order, token="tok_later").get_json()

    answer = client.post(f"/api/v1/payments/{payment['id']}/confirm", headers=staff)

    assert_problem(answer, "conflict")
    assert read(client, customer, order)["payment_status"] == "pending"


@pytest.mark.parametrize("body", [{"provider": "gold"}, {"provider": 1}, {"token": ""},
                                  {"amount": 1}, {"status": "succeeded"}])  # fmt: skip
def test_what_is_no_payment_is_refused(
    client: FlaskClient, customer: Headers, order: Any, engine: Engine, body: Any
) -> None:
    """AZ-06."""
    answer = pay(client, customer, order, **body)

    assert_problem(answer, "validation", f"/{next(iter(body))}")
    assert count(engine, Payment) == 0


# Messages of a provider.


def test_only_a_genuine_message_is_believed(
    app: Flask, client: FlaskClient, customer: Headers, order: Any, engine: Engine
) -> None:
    """BL-13: bad signature, old timestamp, changed whitespace."""
    payment = pay(client, customer, order, token="tok_later").get_json()
    body = message(payment, "payment.succeeded")
    raw, now = orjson.dumps(body), clock.now()
    good = sign(secret_of(app), raw, now)
    bad = [
        "x", "t=1", "v1=00", good.replace("t=", "t=1"), good[:-1] + "g", good.split(",")[1],
        good.split(",")[0], f"{good.split(',')[0]},v1=", "t=٣,v1=00", f"t=1,{good}",
        sign("another secret of thirty-two bytes", raw, now),
        sign(secret_of(app), raw, now - timedelta(seconds=301)),
        sign(secret_of(app), raw, now + timedelta(seconds=310)),
        sign(secret_of(app), raw + b" ", now),
        sign(secret_of(app), raw.replace(b",", b", "), now),
    ]  # fmt: skip
    for signature in bad:
        answer = send_message(app, body, signature=signature)
        assert answer.status_code == 400, signature
        assert_problem(answer, "malformed")
    answer = app.test_client().post(f"{WEBHOOKS}/test", data=raw)
    assert_problem(answer, "malformed")
    assert count(engine, PaymentEvent) == 0
    assert read(client, customer, order)["payment_status"] == "pending"

    several = f"{good},v1={'0' * 64}"
    assert send_message(app, body, signature=several).status_code == 200
    assert read(client, customer, order)["payment_status"] == "paid"


@pytest.mark.parametrize(
    "change",
    [{"amount": {"amount": 1999, "currency": "EUR"}},
     {"amount": {"amount": 2000, "currency": "USD"}},
     {"amount": {"amount": 2000.0, "currency": "EUR"}}, {"amount": {"amount": True}},
     {"reference": "pay_none"}, {"type": "refund.succeeded"}, {"type": "payment.nonsense"},
     {"id": ""}, {"id": 5}, {"amount": None}, {"type": None}, {"reference": ["x"]}],
)  # fmt: skip
def test_a_message_that_does_not_fit_has_no_effect(
    *, app: Flask, client: FlaskClient, customer: Headers, order: Any, engine: Engine, change: Any
) -> None:
    """BL-13: other amount, currency, order; a refund before there is one."""
    payment = pay(client, customer, order, token="tok_later").get_json()

    answer = send_message(app, message(payment, "payment.succeeded", **change))

    assert 400 <= answer.status_code < 500, answer.text
    assert count(engine, PaymentEvent) == 0
    assert read(client, customer, order)["payment_status"] == "pending"


def test_providers_that_are_none_are_not_there(app: Flask, client: FlaskClient) -> None:
    assert_problem(client.post(f"{WEBHOOKS}/gold", data=b"{}"), "not-found")
    assert_problem(client.post(f"{WEBHOOKS}/manual", data=b"{}"), "conflict")


def test_a_message_has_one_effect_however_often_it_comes(
    app: Flask, client: FlaskClient, customer: Headers, order: Any, session: Session
) -> None:
    """BL-13: 50 parallel copies, and one later."""
    payment = pay(client, customer, order, token="tok_later").get_json()
    body = message(payment, "payment.succeeded")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: send_message(app, body), range(50)))

    assert {answer.status_code for answer in answers} == {200}
    assert send_message(app, body).status_code == 200
    assert send_message(app, message(payment, "payment.succeeded")).status_code == 200
    assert send_message(app, message(payment, "payment.failed")).status_code == 200
    found = read(client, customer, order)
    assert (found["payment_status"], found["paid_total"]) == ("paid", order["total"])
    assert [line["action"] for line in found["history"]] == ["place", "pay"]
    assert session.scalars(select(func.sum(PaymentEvent.amount))).one() == 2000


def test_client_and_message_that_race_have_one_effect(
    app: Flask, client: FlaskClient, customer: Headers, oak: Any, session: Session
) -> None:
    for _ in range(10):
        order = placed(client, customer, (oak["sku"], 1))
        url, headers = f"{ORDERS}/{order['id']}/payments", key() | customer
        client.post(url, json={"token": "tok_away"}, headers=headers)
        payment = read(client, customer, order)["payments"][0]

        with ThreadPoolExecutor(2) as pool:
            news = pool.submit(send_message, app, message(payment, "payment.succeeded"))
            paying = pool.submit(app.test_client().post, url, json={}, headers=headers)

        assert news.result().status_code == 200
        assert paying.result().status_code == 201, paying.result().text
        found = read(client, customer, order)
        assert (states(found)[1], found["paid_total"]) == ("paid", order["total"])
        assert [line["action"] for line in found["history"]] == ["place", "pay"]
        session.rollback()
        paid = select(func.sum(PaymentEvent.amount)).where(PaymentEvent.payment_id == payment["id"])
        assert session.scalars(paid).one() == order["total"]["amount"]


def test_money_for_a_cancelled_order_is_recorded_and_goes_back(
    app: Flask, client: FlaskClient, customer: Headers, order: Any
) -> None:
    """BL-22: a late payment is honoured or goes back, never both."""
    payment = pay(client, customer, order, token="tok_later").get_json()
    assert act(client, customer, order, "cancel").status_code == 200

    assert send_message(app, message(payment, "payment.succeeded")).status_code == 200

    found = read(client, customer, order)
    assert states(found) == ("cancelled", "refunded", "unfulfilled")
    assert found["refunded_total"] == found["paid_total"] == order["total"]


def test_who_pays_twice_gets_one_back(
    app: Flask, client: FlaskClient, customer: Headers, order: Any
) -> None:
    first = pay(client, customer, order, token="tok_later").get_json()
    send_message(app, message(first, "payment.failed"))
    assert pay(client, customer, order).get_json()["status"] == "succeeded"

    assert send_message(app, message(first, "payment.succeeded")).status_code == 200

    found = read(client, customer, order)
    assert found["payment_status"] == "paid"
    assert found["paid_total"]["amount"] == 4000
    assert found["refunded_total"]["amount"] == 2000
    assert found["refunds"][0]["payment_id"] == first["id"]


# Refunds.


def euros(cents: int) -> dict[str, Any]:
    """An amount as clients send it."""
    return {"amount": cents, "currency": "EUR"}


def refund(client: FlaskClient, staff: Headers, order: Any, cents: int | None = None) -> Any:
    """The answer to a refund."""
    body = {} if cents is None else {"amount": euros(cents)}
    return act(client, staff, order, "refunds", reason="broken", **body)


def test_refunds_never_exceed_what_was_paid(
    client: FlaskClient, staff: Headers, customer: Headers, order: Any
) -> None:
    """BL-07: before capture, more than captured, in sum more than captured, after all is back."""
    assert_problem(refund(client, staff, order), "invalid-transition")
    pay(client, customer, order)
    assert_problem(refund(client, staff, order, 2001), "conflict")

    first = refund(client, staff, order, 1500)
    assert (first.status_code, first.get_json()["status"]) == (201, "succeeded")
    assert first.get_json()["order"]["payment_status"] == "partially_refunded"
    assert_problem(refund(client, staff, order, 501), "conflict")
    last = refund(client, staff, order).get_json()

    assert last["amount"] == euros(500)
    assert last["order"]["payment_status"] == "refunded"
    assert_problem(refund(client, staff, order, 1), "invalid-transition")
    assert read(client, customer, order)["refunded_total"] == euros(2000)


@pytest.mark.parametrize(
    "amount",
    [euros(0), euros(-1), euros(2**62), 5, "5", None,
     {"amount": 1.0, "currency": "EUR"}, {"amount": 1, "currency": "USD"}, {"amount": 1}],
)  # fmt: skip
def test_what_is_no_amount_is_not_refunded(
    *,
    client: FlaskClient,
    staff: Headers,
    customer: Headers,
    order: Any,
    engine: Engine,
    amount: Any,
) -> None:
    """BL-07: negative, zero."""
    pay(client, customer, order)

    answer = act(client, staff, order, "refunds", reason="broken", amount=amount)

    assert answer.status_code == 422
    assert count(engine, Refund) == 0


@pytest.mark.parametrize(("parts", "done"), [(1, 1), (2, 2)])
def test_of_many_refunds_at_once_no_more_than_was_paid_goes_back(
    *, app: Flask, client: FlaskClient, staff: Headers, customer: Headers, order: Any,
    session: Session, parts: int, done: int,
) -> None:  # fmt: skip
    """CC-04: full ones, and halves."""
    pay(client, customer, order)

    def try_it(_number: int) -> int:
        status: int = refund(app.test_client(), staff, order, 2000 // parts).status_code
        return status

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(try_it, range(100)))

    assert (statuses.count(201), statuses.count(409)) == (done, 100 - done)
    assert read(client, customer, order)["refunded_total"] == euros(2000)
    assert session.scalars(select(func.sum(Refund.amount))).one() == 2000


class AwayForNow:
    """A provider that is away until it is told to come back."""

    def __init__(self, inner: Any) -> None:
        """Stand in front of a real one."""
        self.inner, self.away, self.asked = inner, True, 0

    def __getattr__(self, name: str) -> Any:
        """What the real one has."""
        return getattr(self.inner, name)

    def give_back(self, back: Return) -> Any:
        """Give back, or be away."""
        self.asked += 1
        if self.away:
            raise ProviderAway("Away.")
        return self.inner.give_back(back)


def test_a_refund_that_the_provider_did_not_hear_of_is_claimed_and_seen_through_later(
    *, app: Flask, client: FlaskClient, staff: Headers, customer: Headers, order: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pay(client, customer, order)
    away = AwayForNow(terms_of(app).providers["test"])
    monkeypatch.setitem(terms_of(app).providers, "test", away)

    answer = refund(client, staff, order)

    assert (answer.status_code, answer.get_json()["status"]) == (201, "pending")
    assert read(client, customer, order)["payment_status"] == "paid"
    assert_problem(refund(client, staff, order, 1), "conflict")
    away.away = False
    with app.app_context():
        for _ in range(2):
            assert carry_out(terms_of(app).providers, order["id"], answer.get_json()["id"])
    assert away.asked == 2
    assert states(read(client, customer, order))[1] == "refunded"


def test_cancelling_a_paid_order_gives_everything_back(
    client: FlaskClient, customer: Headers, order: Any, oak: Any, session: Session
) -> None:
    pay(client, customer, order)

    cancelled = act(client, customer, order, "cancel").get_json()

    assert states(cancelled) == ("cancelled", "refunded", "unfulfilled")
    assert cancelled["refunded_total"] == order["total"]
    assert on_hand(session, oak["id"]) == 50
