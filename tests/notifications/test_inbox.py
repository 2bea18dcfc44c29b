"""A story over HTTP: what happens to an order is told to its buyer, once, and to nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, update

from shop.audit.models import AuditReader
from shop.db import writing
from shop.notifications.kinds import KINDS
from tests import factories
from tests.notifications.checks import (
    NOTIFICATIONS,
    PREFERENCES,
    Headers,
    choose,
    inbox,
    kinds,
    mails,
    read_on,
    unread,
)
from tests.orders.checks import act, key, pay, placed, variant


@pytest.fixture
def sku(client: FlaskClient, staff: Headers) -> str:
    """Something that is for sale."""
    found: str = variant(client, staff, stock=100)["sku"]
    return found


def test_the_whole_way_of_an_order_is_told(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers, sku: str
) -> None:
    order = placed(client, anna, (sku, 1))
    assert pay(client, anna, order).status_code == 201
    for action in ("ship", "deliver"):
        assert act(client, staff, order, action).status_code == 200
    money = {"amount": {"amount": 150, "currency": "EUR"}, "reason": "scratched"}
    assert act(client, staff, order, "refunds", **money).status_code == 201
    other = placed(client, anna, (sku, 2))
    assert act(client, anna, other, "cancel").status_code == 200
    read_on(app)

    assert kinds(client, anna) == [
        "order-placed", "order-paid", "order-shipped", "order-delivered", "order-refunded",
        "order-placed", "order-cancelled",
    ]  # fmt: skip
    first, refunded = inbox(client, anna)[-1], inbox(client, anna)[2]
    assert (first["title"], first["text"]) == (
        f"We have your order {order['number']}",
        f"Thank you for your order {order['number']} of 199.00 EUR.",
    )
    assert first["data"] == {
        "order_id": order["id"], "number": order["number"],
        "total": {"amount": 19900, "currency": "EUR"},
    }  # fmt: skip
    assert refunded["data"]["amount"] == {"amount": 150, "currency": "EUR"}
    assert unread(client, anna) == 7
    assert inbox(client, staff) == []


def test_a_refused_order_is_told_to_nobody(
    app: Flask, client: FlaskClient, anna: Headers, sku: str
) -> None:
    body = {"items": [{"sku": sku, "quantity": 101}], "address_id": 1}
    assert client.post("/api/v1/orders", json=body, headers=anna | key()).status_code == 422
    read_on(app)

    assert inbox(client, anna) == []


def test_nothing_is_told_twice_when_the_log_is_read_again(
    app: Flask, client: FlaskClient, anna: Headers, sku: str, engine: Engine
) -> None:
    placed(client, anna, (sku, 1))
    read_on(app)
    client.delete(f"{NOTIFICATIONS}/{inbox(client, anna)[0]['id']}", headers=anna)
    placed(client, anna, (sku, 1))
    with writing(engine) as connection:
        connection.execute(update(AuditReader).values(position=0))
    read_on(app)

    assert kinds(client, anna) == ["order-placed"]
    assert mails(engine) == [("anna@example.com", "order-placed")] * 2


def test_reviews_are_told_to_their_authors(
    app: Flask, client: FlaskClient, staff: Headers, anna: Headers
) -> None:
    product = factories.create_product(client, staff)["id"]
    review = {"rating": 4, "title": "Solid", "text": "It stands."}
    written = client.post(f"/api/v1/products/{product}/reviews", json=review, headers=anna)
    where = f"/api/v1/reviews/{written.get_json()['id']}"
    for _ in range(2):
        client.post(f"{where}/approve", headers=staff)
    client.post(f"{where}/reply", json={"text": "So it should."}, headers=staff)
    read_on(app)

    assert kinds(client, anna) == ["review-approved", "review-reply"]
    assert inbox(client, anna)[0]["data"] == {
        "review_id": written.get_json()["id"], "product_id": product,
    }  # fmt: skip


def test_reading_and_deleting(app: Flask, client: FlaskClient, anna: Headers, sku: str) -> None:
    for _ in range(3):
        placed(client, anna, (sku, 1))
    read_on(app)
    newest, middle, oldest = inbox(client, anna)

    read = client.post(f"{NOTIFICATIONS}/{middle['id']}/read", headers=anna)
    again = client.post(f"{NOTIFICATIONS}/{middle['id']}/read", headers=anna)
    assert read.status_code == 200
    assert read.get_json()["read_at"] is not None
    assert again.get_json() == read.get_json()
    assert unread(client, anna) == 2
    assert [it["id"] for it in inbox(client, anna, unread="true")] == [newest["id"], oldest["id"]]

    assert client.delete(f"{NOTIFICATIONS}/{oldest['id']}", headers=anna).status_code == 204
    assert client.delete(f"{NOTIFICATIONS}/{oldest['id']}", headers=anna).status_code == 404
    assert (len(inbox(client, anna)), unread(client, anna)) == (2, 1)


def test_reading_all_leaves_what_came_after_what_was_seen(
    app: Flask, client: FlaskClient, anna: Headers, sku: str
) -> None:
    for _ in range(3):
        placed(client, anna, (sku, 1))
    read_on(app)
    seen = inbox(client, anna)[1]["id"]

    some = client.post(f"{NOTIFICATIONS}/read-all?through={seen}", headers=anna)
    assert (some.status_code, some.get_json(), unread(client, anna)) == (200, {"read": 2}, 1)
    rest = client.post(f"{NOTIFICATIONS}/read-all", headers=anna)
    assert (rest.get_json(), unread(client, anna)) == ({"read": 1}, 0)


def test_pages_hold_each_notification_once(
    app: Flask, client: FlaskClient, anna: Headers, sku: str
) -> None:
    for _ in range(5):
        placed(client, anna, (sku, 1))
    read_on(app)
    found: list[int] = []
    cursor = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        body = client.get(NOTIFICATIONS, query_string=query, headers=anna).get_json()
        found += [item["id"] for item in body["items"]]
        if (cursor := body["next_cursor"]) is None:
            break

    assert found == [item["id"] for item in inbox(client, anna)]
    assert len(found) == 5


def test_those_of_others_do_not_exist(
    client: FlaskClient, staff: Headers, admin: Headers, anna: Headers, sku: str
) -> None:
    """AZ-02."""
    placed(client, anna, (sku, 1))
    read_on(client.application)
    (hers,) = inbox(client, anna)
    bob = factories.sign_in(client.application, "customer")

    for who in (bob, staff, admin):
        assert inbox(client, who) == []
        for number in (hers["id"], 999_999):
            for method, url in (("POST", f"{number}/read"), ("DELETE", f"{number}")):
                answer = client.open(f"{NOTIFICATIONS}/{url}", method=method, headers=who)
                assert answer.status_code == 404
                assert str(number) in answer.get_json()["detail"]
        client.post(f"{NOTIFICATIONS}/read-all", headers=who)
    assert unread(client, anna) == 1


def test_what_is_turned_off_does_not_come(
    app: Flask, client: FlaskClient, anna: Headers, sku: str, engine: Engine
) -> None:
    everything = {"inbox": False, "email": False}
    answer = choose(client, anna, order_placed=everything, order_paid={"email": False})
    assert answer.status_code == 200
    assert answer.get_json() == client.get(PREFERENCES, headers=anna).get_json()
    order = placed(client, anna, (sku, 1))
    pay(client, anna, order)
    read_on(app)

    assert kinds(client, anna) == ["order-paid"]
    assert (unread(client, anna), mails(engine)) == (1, [])

    choose(client, anna)
    placed(client, anna, (sku, 1))
    read_on(app)
    assert kinds(client, anna) == ["order-paid", "order-placed"]
    assert mails(engine) == [("anna@example.com", "order-placed")]


def test_by_mail_only(
    app: Flask, client: FlaskClient, anna: Headers, sku: str, engine: Engine
) -> None:
    choose(client, anna, order_placed={"inbox": False})
    placed(client, anna, (sku, 1))
    read_on(app)

    assert (inbox(client, anna), unread(client, anna)) == ([], 0)
    assert mails(engine) == [("anna@example.com", "order-placed")]


@pytest.mark.parametrize(
    ("wishes", "pointer"),
    [
        ({"order_paid": {"inbox": False}}, "/preferences/order-paid/inbox"),
        ({"message": {"inbox": False}}, "/preferences/message/inbox"),
        ({"weather": {"inbox": False}}, "/preferences/weather"),
        ({"order_placed": {"pigeon": True}}, "/preferences/order-placed/pigeon"),
        ({"order_placed": {"email": "no"}}, "/preferences/order-placed/email"),
        ({"order_placed": 1}, "/preferences/order-placed"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    client: FlaskClient, anna: Headers, wishes: dict[str, Any], pointer: str
) -> None:
    answer = choose(client, anna, **wishes)

    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["pointer"].startswith(pointer)


def test_each_sees_the_kinds_that_may_come(
    client: FlaskClient, staff: Headers, anna: Headers
) -> None:
    hers = client.get(PREFERENCES, headers=anna).get_json()["preferences"]
    theirs = client.get(PREFERENCES, headers=staff).get_json()["preferences"]

    assert set(theirs) == set(KINDS)
    assert set(KINDS) - set(hers) == {"low-stock", "digest"}
    assert hers["order-delivered"] == {"inbox": True, "email": False}


def test_an_erased_account_leaves_nothing_and_is_told_nothing(
    app: Flask, client: FlaskClient, anna: Headers, sku: str, engine: Engine
) -> None:
    placed(client, anna, (sku, 1))
    read_on(app)
    choose(client, anna, order_placed={"email": False})
    export = client.get("/api/v1/users/me/export", headers=anna).get_json()["notifications"]
    assert [item["kind"] for item in export["received"]] == ["order-placed"]
    assert export["preferences"]["order-placed"] == {"inbox": True, "email": False}
    # Not read yet when she goes.
    placed(client, anna, (sku, 1))
    body = {"current_password": factories.PASSWORD}
    gone = client.delete("/api/v1/users/me", json=body, headers=anna)
    assert gone.status_code == 204, gone.text
    read_on(app)

    with engine.connect() as connection:
        for table in ("notifications", "notification_preferences", "outgoing_mails"):
            assert connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar_one() == 0
