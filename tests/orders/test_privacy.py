"""Whose orders are whose: nobody sees or touches somebody else's, and who leaves leaves no name."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.orders.models import Order
from tests import factories
from tests.orders.checks import ORDERS, Headers, act, pay, placed, read, variant
from tests.users.checks import ME
from tests.users.test_matrix import face
from tests.web.checks import assert_problem

ACTS = [("payments", {}), ("cancel", {}), ("payments", {"token": "tok_decline"})]
STAFF_ACTS = [("ship", {}), ("deliver", {}), ("refunds", {"reason": "mine"})]


@pytest.fixture
def oak(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """What is ordered here."""
    return variant(client, staff, stock=50)


@pytest.fixture
def hers(client: FlaskClient, customer: Headers, oak: Any) -> dict[str, Any]:
    """An order of somebody else."""
    return placed(client, customer, (oak["sku"], 1))


@pytest.fixture
def stranger(app: Flask) -> Headers:
    """Headers of another customer."""
    return factories.sign_in(app, "customer")


def test_somebody_elses_order_looks_like_none(
    client: FlaskClient, stranger: Headers, hers: Any
) -> None:
    """AZ-02, AZ-10: by id, by number."""
    for name, none in ((hers["id"], 999_999), (hers["number"], "AAAA-AAAA-AAAA")):
        real = client.get(f"{ORDERS}/{name}", headers=stranger)
        assert_problem(real, "not-found")
        assert face(real) == face(client.get(f"{ORDERS}/{none}", headers=stranger))


def test_a_list_has_ones_own_orders_only(
    client: FlaskClient, customer: Headers, stranger: Headers, hers: Any, oak: Any
) -> None:
    """AZ-02, AZ-05: whatever is asked for."""
    mine = placed(client, stranger, (oak["sku"], 1))["id"]
    me = {"user_id": read(client, stranger, {"id": mine})["user_id"]}
    asked: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [mine]), (me, [mine]), ({"user_id": hers["user_id"]}, []),
        ({"number": hers["number"]}, []), ({"status": "placed"}, [mine]),
        ({"payment_status": "unpaid"}, [mine]), ({"fulfilment_status": "shipped"}, []),
    ]  # fmt: skip
    for query, expected in asked:
        answer = client.get(ORDERS, headers=stranger, query_string=query)
        assert [order["id"] for order in answer.get_json()["items"]] == expected, query
    for odd in ("filter[user]=1", "include=customer", "fields=*", "sort=password_hash", "q=x"):
        assert client.get(f"{ORDERS}?{odd}", headers=stranger).status_code == 422


def test_staff_finds_orders_by_what_they_are(
    client: FlaskClient, staff: Headers, customer: Headers, hers: Any, oak: Any
) -> None:
    paid = placed(client, customer, (oak["sku"], 1))
    pay(client, customer, paid)

    def found(**query: Any) -> list[int]:
        answer = client.get(ORDERS, headers=staff, query_string=query)
        return [order["id"] for order in answer.get_json()["items"]]

    assert found() == [paid["id"], hers["id"]]
    assert found(payment_status="paid") == [paid["id"]]
    assert found(user_id=hers["user_id"], payment_status="unpaid") == [hers["id"]]
    assert found(number=hers["number"]) == [hers["id"]]
    assert found(status="cancelled") == []
    first = client.get(ORDERS, headers=staff, query_string={"limit": 1})
    assert first.headers["Link"].endswith('rel="next"')
    cursor = first.get_json()["next_cursor"]
    assert found(limit=1, cursor=cursor) == [hers["id"]]


def test_nobody_acts_on_somebody_elses_order(
    client: FlaskClient, customer: Headers, stranger: Headers, hers: Any
) -> None:
    """AZ-03."""
    before = read(client, customer, hers)
    for action, body in ACTS:
        real = act(client, stranger, hers, action, **body)
        none = act(client, stranger, {"id": 999_999}, action, **body)
        assert_problem(real, "not-found")
        assert face(real) == face(none)
    for action, body in STAFF_ACTS:
        assert_problem(act(client, stranger, hers, action, **body), "forbidden")
        assert_problem(act(client, customer, hers, action, **body), "forbidden")
    assert read(client, customer, hers) == before


def test_who_leaves_takes_name_and_street_along_and_leaves_the_books(
    app: Flask, client: FlaskClient, staff: Headers, oak: Any, session: Session
) -> None:
    user = factories.create_user(app, email="leaver@example.com")
    headers = factories.headers_of(app, user)
    order = placed(client, headers, (oak["sku"], 2))
    pay(client, headers, order)
    (shown,) = client.get(f"{ME}/export", headers=headers).get_json()["orders"]
    assert shown["shipping_address"]["line1"] == "Elm Street 1"
    assert shown["email"] == "leaver@example.com"

    body = {"current_password": factories.PASSWORD}
    gone = client.delete(ME, json=body, headers=headers)
    assert gone.status_code in (200, 204), gone.text

    left = read(client, staff, order)
    assert (left["user_id"], left["email"]) == (None, "")
    address = left["shipping_address"]
    assert {name for name, value in address.items() if value} == {"country", "postal_code"}
    assert (address["country"], address["postal_code"]) == ("SE", "75")
    assert (left["total"], left["items"]) == (order["total"], order["items"])
    entries = session.scalars(select(AuditEntry).where(AuditEntry.table_name == "orders")).all()
    for private in ("Anna", "Elm Street", "75310", "leaver@"):
        assert not any(private in entry.data for entry in entries)
    found = session.get(Order, order["id"])
    assert found is not None
    assert len(entries) == found.version
