"""Placing orders: all or nothing, at the shop's prices, never more than is there."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.products.models import ProductListing, StockMovement
from tests import factories
from tests.orders.checks import (
    ADDRESS,
    ORDERS,
    Headers,
    key,
    nothing_was_ordered,
    on_hand,
    place,
    placed,
    read,
    variant,
    wish,
)
from tests.users.checks import ME, disable
from tests.web.checks import assert_problem


@pytest.fixture
def oak(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """Seven of it are there."""
    return variant(client, staff, sku="OAK", stock=7, price={"amount": 1990, "currency": "EUR"})


@pytest.fixture
def elm(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """Two of it are there."""
    return variant(client, staff, sku="ELM", stock=2, price={"amount": 500, "currency": "EUR"})


def test_an_order_takes_its_stock_and_is_what_was_agreed_on(
    client: FlaskClient, customer: Headers, session: Session, oak: Any, elm: Any
) -> None:
    answer = place(client, customer, ("ELM", 2), ("OAK", 3))
    order = answer.get_json()

    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{ORDERS}/{order['id']}"
    assert [(item["sku"], item["quantity"]) for item in order["items"]] == [("ELM", 2), ("OAK", 3)]
    assert [item["total"]["amount"] for item in order["items"]] == [1000, 5970]
    assert order["total"] == order["subtotal"] == {"amount": 6970, "currency": "EUR"}
    for nothing in ("discount_total", "shipping_total", "tax_total", "paid_total"):
        assert order[nothing] == {"amount": 0, "currency": "EUR"}
    assert (order["status"], order["payment_status"]) == ("placed", "unpaid")
    assert order["next_actions"] == ["pay", "cancel"]
    assert order["shipping_address"] == ADDRESS | {"line2": None, "region": None, "phone": None}
    assert [(line["action"], line["from"], line["to"]) for line in order["history"]] == [
        ("place", None, "placed")
    ]
    assert order["expires_at"] > order["created_at"]
    assert (on_hand(session, oak["id"]), on_hand(session, elm["id"])) == (4, 0)
    assert read(client, customer, order) == order
    assert client.get(f"{ORDERS}/{order['number']}", headers=customer).get_json() == order


def test_every_row_of_an_order_is_audited_and_its_buyer_masked(
    client: FlaskClient, customer: Headers, session: Session, oak: Any, elm: Any
) -> None:
    order = placed(client, customer, ("ELM", 2), ("OAK", 3))

    entries = session.scalars(select(AuditEntry).where(AuditEntry.id > 0)).all()
    mine = [e for e in entries if e.table_name in ("orders", "order_items")]
    assert [(entry.table_name, entry.sequence) for entry in mine] == [
        ("orders", 1), ("order_items", 1), ("order_items", 1),
    ]  # fmt: skip
    for private in ("Anna", "Elm Street", "75310", "Uppsala", order["email"]):
        assert private not in mine[0].data
    assert '"shipping_country":"SE"' in mine[0].data
    changed = [e for e in entries if (e.table_name, e.sequence) == ("stock_levels", 2)]
    assert {entry.row_id for entry in changed} == {oak["id"], elm["id"]}
    moved = session.scalars(select(StockMovement).where(StockMovement.order_id == order["id"]))
    assert {(m.variant_id, m.delta, m.on_hand, m.reason) for m in moved} == {
        (oak["id"], -3, 4, "sold"), (elm["id"], -2, 0, "sold"),
    }  # fmt: skip


def test_what_is_sold_out_is_not_listed_as_in_stock(
    client: FlaskClient, customer: Headers, session: Session, elm: Any
) -> None:
    listed = select(ProductListing.stocked_variants)
    placed(client, customer, ("ELM", 1))
    assert session.scalars(listed).all() == [1]
    session.rollback()

    placed(client, customer, ("ELM", 1))

    assert session.scalars(listed).all() == [0]


@pytest.mark.parametrize("quantity", [0, -1, 1.5, 1.0, "1", True, None, 10**4 + 1, 2**63])
def test_what_is_no_quantity_is_refused(
    client: FlaskClient, customer: Headers, session: Session, oak: Any, quantity: Any
) -> None:
    """BL-01."""
    answer = place(client, customer, ("OAK", quantity))

    assert_problem(answer, "validation", "/items/0/quantity")
    assert nothing_was_ordered(session)


def test_a_sku_on_two_lines_counts_as_their_sum(
    client: FlaskClient, customer: Headers, session: Session, oak: Any, elm: Any
) -> None:
    """BL-01."""
    answer = place(client, customer, ("OAK", 4), ("ELM", 1), ("OAK", 4))

    body = assert_problem(answer, "out-of-stock", "/items/0/quantity", "/items/2/quantity")
    assert "OAK" in body["detail"]
    assert "7" in body["errors"][0]["message"]
    assert nothing_was_ordered(session)
    assert (on_hand(session, oak["id"]), on_hand(session, elm["id"])) == (7, 2)
    order = placed(client, customer, ("OAK", 4), ("ELM", 1), ("OAK", 3))
    assert [item["quantity"] for item in order["items"]] == [7, 1]


READ_ONLY = {
    "price", "total", "subtotal", "discount", "discount_total", "shipping", "shipping_total", "tax",
    "tax_total", "currency", "status", "payment_status", "fulfilment_status", "user_id", "id",
    "number", "email", "created_at", "expires_at", "version", "paid_total", "refunded_total",
    "history", "payments", "role", "is_admin", "permissions", "stock", "verified", "password_hash",
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(READ_ONLY))
def test_the_buyer_does_not_say_what_the_shop_decides(
    client: FlaskClient, customer: Headers, session: Session, oak: Any, field: str
) -> None:
    """BL-02, AZ-06."""
    assert_problem(place(client, customer, ("OAK", 1), **{field: 1}), "validation", f"/{field}")
    line = {"sku": "OAK", "quantity": 1, field: 1}
    answer = place(client, customer, items=[line])
    assert_problem(answer, "validation", f"/items/0/{field}")
    assert nothing_was_ordered(session)


def test_another_price_than_expected_is_refused_with_the_new_one(
    client: FlaskClient,
    staff: Headers,
    customer: Headers,
    session: Session,
    oak: Any,
) -> None:
    """BL-02."""
    expected = {"amount": 2 * 1990, "currency": "EUR"}
    price = {"price": {"amount": 2100, "currency": "EUR"}}
    change = client.patch(
        f"/api/v1/variants/{oak['id']}", json=price, headers=staff | {"If-Match": "*"}
    )
    assert change.status_code == 200

    answer = place(client, customer, ("OAK", 2), expected_total=expected)

    assert (answer.status_code, answer.get_json()["type"]) == (409, "/problems/price-changed")
    assert answer.get_json()["total"] == {"amount": 4200, "currency": "EUR"}
    assert answer.get_json()["items"] == [
        {"sku": "OAK", "unit_price": {"amount": 2100, "currency": "EUR"}}
    ]
    assert nothing_was_ordered(session)
    assert on_hand(session, oak["id"]) == 7
    expected = answer.get_json()["total"]
    assert place(client, customer, ("OAK", 2), expected_total=expected).status_code == 201


def test_what_was_bought_stays_as_it_was_when_the_product_changes(
    client: FlaskClient, staff: Headers, customer: Headers, oak: Any
) -> None:
    order = placed(client, customer, ("OAK", 1))
    new = {"sku": "ASH", "price": {"amount": 1, "currency": "EUR"}, "name": "XL"}
    client.patch(f"/api/v1/variants/{oak['id']}", json=new, headers=staff | {"If-Match": "*"})

    assert read(client, customer, order)["items"] == order["items"]


def test_no_sum_is_too_large_to_be_refused_decently(
    client: FlaskClient, staff: Headers, customer: Headers, session: Session
) -> None:
    """BL-03."""
    price = {"amount": 10**12, "currency": "EUR"}
    gold = [variant(client, staff, stock=10**9, price=price) for _ in range(3)]
    lines = [(item["sku"], 10**4) for item in gold] * 33

    answer = place(client, customer, *lines)

    assert_problem(answer, "validation", "/items")
    assert nothing_was_ordered(session)
    assert [on_hand(session, item["id"]) for item in gold] == [10**9] * 3
    assert place(client, customer, (gold[0]["sku"], 1000)).status_code == 201


@pytest.mark.parametrize("items", [[], None, {}, "OAK", [{}], [{"sku": "OAK"}], [None], 101])
def test_what_is_no_list_of_items_is_refused(
    client: FlaskClient, customer: Headers, session: Session, oak: Any, items: Any
) -> None:
    """BL-12."""
    if items == 101:
        items = [{"sku": "OAK", "quantity": 1}] * 101

    assert place(client, customer, items=items).status_code == 422
    assert nothing_was_ordered(session)


@pytest.mark.parametrize("status", ["draft", "archived", "deleted"])
def test_what_is_not_for_sale_is_as_unknown_as_what_never_was(
    *,
    client: FlaskClient,
    staff: Headers,
    customer: Headers,
    session: Session,
    oak: Any,
    status: str,
) -> None:
    """BL-12."""
    product, newest = f"/api/v1/products/{oak['product_id']}", {"If-Match": "*"}
    if status == "deleted":
        client.delete(product, headers=staff | newest)
    else:
        client.patch(product, json={"status": status}, headers=staff | newest)

    hidden = assert_problem(place(client, customer, ("OAK", 1)), "validation", "/items/0/sku")
    never = assert_problem(place(client, customer, ("NEVER", 1)), "validation", "/items/0/sku")

    assert hidden | {"request_id": ""} == never | {"request_id": ""}
    assert nothing_was_ordered(session)


def test_what_has_no_price_is_not_sold(
    client: FlaskClient, staff: Headers, customer: Headers, session: Session
) -> None:
    """BL-12."""
    free = variant(client, staff, price={"amount": 0, "currency": "EUR"})

    assert_problem(place(client, customer, (free["sku"], 1)), "conflict", "/items/0/sku")
    assert nothing_was_ordered(session)
    assert on_hand(session, free["id"]) == 7


def test_who_is_disabled_orders_nothing(
    app: Flask, client: FlaskClient, session: Session, oak: Any
) -> None:
    """BL-12."""
    user = factories.create_user(app)
    headers = factories.headers_of(app, user)
    disable(app, user)

    assert_problem(place(client, headers, ("OAK", 1)), "unauthenticated")
    assert nothing_was_ordered(session)


def test_an_item_of_another_currency_is_not_mixed_in(
    client: FlaskClient, customer: Headers, session: Session, oak: Any, elm: Any
) -> None:
    """BL-11."""
    session.execute(text("UPDATE variants SET currency = 'JPY' WHERE sku = 'ELM'"))
    session.commit()

    assert_problem(place(client, customer, ("OAK", 1), ("ELM", 1)), "conflict", "/items/1/sku")
    expected = {"amount": 1990, "currency": "JPY"}
    answer = place(client, customer, ("OAK", 1), expected_total=expected)
    assert_problem(answer, "validation", "/expected_total/currency")
    assert nothing_was_ordered(session)


def test_an_order_goes_to_an_entry_of_ones_own_address_book(
    app: Flask,
    client: FlaskClient,
    customer: Headers,
    session: Session,
    oak: Any,
) -> None:
    """AZ-04."""
    entry = client.post(f"{ME}/addresses", json=ADDRESS, headers=customer).get_json()["id"]
    order = client.post(
        ORDERS,
        json={"items": [{"sku": "OAK", "quantity": 1}], "address_id": entry},
        headers=key() | customer,
    ).get_json()
    assert order["shipping_address"]["line1"] == "Elm Street 1"

    stranger = factories.sign_in(app, "customer")
    body = {"items": [{"sku": "OAK", "quantity": 1}], "address_id": entry}
    theirs = client.post(ORDERS, json=body, headers=key() | stranger)
    body["address_id"] = 999_999
    none = client.post(ORDERS, json=body, headers=key() | stranger)

    for answer in (theirs, none):
        assert_problem(answer, "validation", "/address_id")
        assert "Elm" not in answer.text
    assert theirs.get_json()["detail"] == none.get_json()["detail"]
    assert on_hand(session, oak["id"]) == 6


@pytest.mark.parametrize(
    "change",
    [{"shipping_address": None}, {"address_id": 1}, {"shipping_address": {"name": "Anna"}},
     {"shipping_address": ADDRESS | {"country": "XX"}}],
)  # fmt: skip
def test_an_order_goes_to_one_whole_address(
    client: FlaskClient, customer: Headers, session: Session, oak: Any, change: Any
) -> None:
    body = wish(("OAK", 1)) | change

    assert client.post(ORDERS, json=body, headers=key() | customer).status_code == 422
    assert nothing_was_ordered(session)
