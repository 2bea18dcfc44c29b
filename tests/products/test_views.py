"""The doors of the catalogue."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop.db import read
from shop.products.models import Product, StockLevel, Variant
from shop.products.views import products as views
from tests import factories
from tests.web.checks import assert_problem

URL = "/api/v1/products"
ANY_VERSION = {"If-Match": "*"}


def names(client: FlaskClient, query: str = "", headers: dict[str, str] | None = None) -> list[str]:
    """Names on the first page."""
    answer = client.get(f"{URL}{query}", headers=headers)
    return [item["name"] for item in answer.get_json()["items"]]


def test_a_created_product_is_answered_as_it_is_then_read(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    answer = client.post(URL, json=factories.product_body(name="Côte table"), headers=staff)

    assert answer.status_code == 201
    read = client.get(answer.headers["Location"])
    assert read.get_json() == answer.get_json()
    assert read.headers["ETag"] == answer.headers["ETag"]
    assert read.get_json()["slug"] == "cote-table"


def test_a_product_shows_what_the_contract_says(client: FlaskClient, staff: dict[str, str]) -> None:
    dear = factories.variant_body(sku="OAK-L", stock=0, attributes={"size": "L"})
    cheap = factories.variant_body(
        sku="OAK-S", name="Small", price={"amount": 9900, "currency": "EUR"}
    )
    made = factories.create_product(
        client, staff, name="Oak", attributes={"wood": "oak"}, variants=[dear, cheap]
    )

    ids = [variant.pop("id") for variant in made["variants"]]
    assert ids[0] < ids[1]
    assert made.pop("id") > 0
    assert made.pop("created_at") <= made.pop("updated_at")
    assert made == {
        "name": "Oak", "slug": "oak", "description": "", "status": "active", "version": 1,
        "attributes": {"wood": "oak"}, "category": None, "publish_at": None,
        "external_reference": None, "metadata": {},
        "rating": {"average": None, "count": 0,
                   "distribution": {"1": 0, "2": 0, "3": 0, "4": 0, "5": 0}},
        "price_from": {"amount": 9900, "currency": "EUR"},
        "variants": [
            {"sku": "OAK-L", "name": "", "price": {"amount": 19900, "currency": "EUR"},
             "attributes": {"size": "L"}, "available": 0, "version": 1, "prior_price": None,
             "external_reference": None, "metadata": {}},
            {"sku": "OAK-S", "name": "Small", "price": {"amount": 9900, "currency": "EUR"},
             "attributes": {}, "available": 7, "version": 1, "prior_price": None,
             "external_reference": None, "metadata": {}},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Oak table", "oak-table"),
        ("  Übergroße  Äpfel! ", "ubergrosse-apfel"),
        ("100 % Wolle", "100-wolle"),
        ("2024", "product-2024"),
        ("１２", "product-12"),
        ("Стол", "stol"),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_slug_is_made_from_the_name(
    client: FlaskClient, staff: dict[str, str], name: str, slug: str
) -> None:
    made = factories.create_product(client, staff, name=name)

    assert made["slug"] == slug
    assert client.get(f"{URL}/{slug}").get_json() == made


def test_a_name_without_letters_still_gives_a_slug(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    slugs = {factories.create_product(client, staff, name="🪑")["slug"] for _ in range(2)}

    assert len(slugs) == 2
    assert all(slug.startswith("product-") for slug in slugs)


def test_products_of_the_same_name_get_slugs_of_their_own(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    slugs = [factories.create_product(client, staff, name="Oak")["slug"] for _ in range(3)]

    assert slugs[0] == "oak"
    assert len(set(slugs)) == 3
    assert all(slug.startswith("oak") for slug in slugs)


@pytest.mark.parametrize("slug", ["my-oak-7", "z", "0-a", "--a--", "a" * 200])
def test_a_given_slug_is_taken_as_it_is(
    client: FlaskClient, staff: dict[str, str], slug: str
) -> None:
    made = factories.create_product(client, staff, slug=slug)

    assert made["slug"] == slug
    assert client.get(f"{URL}/{slug}").get_json() == made


def test_a_taken_slug_is_a_conflict_that_names_the_slug(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    factories.create_product(client, staff, slug="oak")

    answer = client.post(URL, json=factories.product_body(slug="oak"), headers=staff)

    assert "slug" in assert_problem(answer, "conflict")["detail"]
    assert len(names(client)) == 1


def test_a_sku_that_is_twice_in_the_request_is_a_conflict(
    client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    twice = [factories.variant_body(sku="OAK"), factories.variant_body(sku="OAK")]

    answer = client.post(URL, json=factories.product_body(variants=twice), headers=staff)

    assert "SKU" in assert_problem(answer, "conflict")["detail"]
    assert session.scalar(select(func.count(Product.id))) == 0


def test_a_sku_of_another_product_is_a_conflict_and_nothing_is_kept(
    client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    factories.create_product(client, staff, variants=[factories.variant_body(sku="OAK")])
    variants = [factories.variant_body(), factories.variant_body(sku="OAK")]

    answer = client.post(URL, json=factories.product_body(variants=variants), headers=staff)

    assert "SKU" in assert_problem(answer, "conflict")["detail"]
    assert session.scalar(select(func.count(Product.id))) == 1
    assert session.scalar(select(func.count(Variant.id))) == 1
    assert session.scalar(select(func.count(StockLevel.variant_id))) == 1


def test_skus_differ_by_case_on_both_engines(client: FlaskClient, staff: dict[str, str]) -> None:
    variants = [factories.variant_body(sku=sku) for sku in ("oak", "OAK", "Oak")]

    made = factories.create_product(client, staff, variants=variants)

    assert [variant["sku"] for variant in made["variants"]] == ["oak", "OAK", "Oak"]


def at_once(app: Flask, staff: dict[str, str], bodies: list[dict[str, Any]]) -> list[TestResponse]:
    """The answers to creates that are sent in the same moment."""
    together = threading.Barrier(len(bodies))

    def create(body: dict[str, Any]) -> TestResponse:
        together.wait(10)
        return app.test_client().post(URL, json=body, headers=staff)

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(create, bodies))


def test_products_of_the_same_name_can_be_created_at_once(
    app: Flask, staff: dict[str, str]
) -> None:
    for round_ in range(8):
        bodies = [factories.product_body(name=f"Table {round_} x") for _ in range(4)]

        answers = at_once(app, staff, bodies)

        assert [answer.status_code for answer in answers] == [201] * 4, answers[0].text
        assert len({answer.get_json()["slug"] for answer in answers}) == 4


def test_of_creates_with_the_same_sku_at_once_one_succeeds(
    app: Flask, staff: dict[str, str]
) -> None:
    for round_ in range(5):
        variants = [factories.variant_body(sku=f"OAK-{round_}")]
        bodies = [factories.product_body(variants=variants) for _ in range(4)]

        statuses = sorted(answer.status_code for answer in at_once(app, staff, bodies))

        assert statuses == [201, 409, 409, 409]


@pytest.mark.parametrize("address", ["oak", "id"])
@pytest.mark.parametrize("status", ["draft", "archived"])
def test_what_is_not_on_sale_is_shown_to_staff_only(
    client: FlaskClient,
    staff: dict[str, str],
    customer: dict[str, str],
    status: str,
    address: str,
) -> None:
    made = factories.create_product(client, staff, slug="oak", status=status)
    path = f"{URL}/{made['id'] if address == 'id' else 'oak'}"

    for headers in ({}, customer):
        assert_problem(client.get(path, headers=headers), "not-found")
        assert names(client, "", headers) == []
        assert names(client, f"?status={status}", headers) == []
    assert client.get(path, headers=staff).get_json() == made
    assert names(client, "", staff) == [made["name"]]


def test_staff_sees_all_or_those_of_one_status(client: FlaskClient, staff: dict[str, str]) -> None:
    for status in ("draft", "active", "archived"):
        factories.create_product(client, staff, name=status, status=status)

    assert names(client, "", staff) == ["archived", "active", "draft"]
    for status in ("draft", "active", "archived"):
        assert names(client, f"?status={status}", staff) == [status]
    assert names(client) == ["active"]


def test_a_product_that_is_no_longer_active_leaves_the_shop_window(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    made = factories.create_product(client, staff)

    client.patch(f"{URL}/{made['id']}", json={"status": "archived"}, headers=staff | ANY_VERSION)

    assert names(client) == []
    assert_problem(client.get(f"{URL}/{made['id']}"), "not-found")


CHANGES: dict[str, Any] = {
    "name": "Ash table 🪑",
    "slug": "ash",
    "description": "Two\nlines",
    "status": "archived",
    "attributes": {"wood": "ash", "legs": 4, "outdoor": False},
    "external_reference": "ERP/4711",
    "metadata": {"Erp.Id": 4711, "synced": True, "note": "by night"},
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_change_touches_its_field_and_nothing_else(
    client: FlaskClient, staff: dict[str, str], field: str
) -> None:
    made = factories.create_product(client, staff, description="Old", attributes={"a": "b"})
    path = f"{URL}/{made['id']}"

    answer = client.patch(path, json={field: CHANGES[field]}, headers=staff | ANY_VERSION)

    changed = answer.get_json()
    assert changed.pop("updated_at") > made.pop("updated_at")
    assert changed == made | {field: CHANGES[field], "version": 2}
    assert client.get(path, headers=staff).headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize("body", [{}, {"name": "Oak"}])
def test_a_change_to_what_is_already_so_changes_nothing(
    client: FlaskClient, staff: dict[str, str], body: dict[str, Any]
) -> None:
    made = factories.create_product(client, staff, name="Oak")

    answer = client.patch(f"{URL}/{made['id']}", json=body, headers=staff | ANY_VERSION)

    assert answer.status_code == 200
    assert answer.get_json() == made


def test_a_change_to_a_taken_slug_is_a_conflict(client: FlaskClient, staff: dict[str, str]) -> None:
    factories.create_product(client, staff, slug="oak")
    made = factories.create_product(client, staff, slug="ash")

    answer = client.patch(f"{URL}/{made['id']}", json={"slug": "oak"}, headers=staff | ANY_VERSION)

    assert_problem(answer, "conflict")
    assert client.get(f"{URL}/{made['id']}").get_json() == made


@pytest.mark.parametrize(
    "field", ["id", "version", "created_at", "variants", "price_from", "stock"]
)
def test_what_a_change_cannot_touch_is_refused(
    client: FlaskClient, staff: dict[str, str], field: str
) -> None:
    made = factories.create_product(client, staff)

    answer = client.patch(f"{URL}/{made['id']}", json={field: 5}, headers=staff | ANY_VERSION)

    assert_problem(answer, "validation", f"/{field}")


def test_a_deleted_product_is_gone_with_all_it_owned(
    client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    made = factories.create_product(client, staff, slug="oak")
    path = f"{URL}/{made['id']}"

    answer = client.delete(path, headers=staff | {"If-Match": '"1"'})

    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    for gone in (path, f"{URL}/oak"):
        assert_problem(client.get(gone, headers=staff), "not-found")
    assert_problem(client.patch(path, json={}, headers=staff | ANY_VERSION), "not-found")
    assert_problem(client.delete(path, headers=staff | ANY_VERSION), "not-found")
    for model in (Product, Variant, StockLevel):
        assert session.scalars(select(model)).all() == []


def test_ids_are_never_used_again_but_slugs_and_skus_are(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    body: dict[str, Any] = {"slug": "oak", "variants": [factories.variant_body(sku="OAK")]}
    first = factories.create_product(client, staff, **body)
    client.delete(f"{URL}/{first['id']}", headers=staff | ANY_VERSION)

    second = factories.create_product(client, staff, **body)

    assert second["id"] > first["id"]
    assert second["variants"][0]["id"] > first["variants"][0]["id"]


TEXTS = (
    "🪑\U0001f469\u200d\U0001f467\U0001f3f3\ufe0f\u200d\U0001f308",
    "e\u0301 is not é", "مرحبا بالعالم", "שלום\u200f", "zero\u200bwidth", "日本語の名前",
    "ﬁ ligature", "<script>alert(1)</script>", "'; DROP TABLE products; --", "100% _ \\ ' \" `",
    "\U0010ffff", "{{7*7}} ${x}", "a\u00a0b",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_as_it_was_sent(
    client: FlaskClient, staff: dict[str, str], text: str
) -> None:
    variants = [factories.variant_body(name=text, attributes={"note": text})]
    sent = {"name": text, "description": f"{text}\n\t{text}", "attributes": {"note": text}}

    made = factories.create_product(client, staff, **sent, variants=variants)

    read = client.get(f"{URL}/{made['id']}").get_json()
    assert {key: read[key] for key in sent} == sent
    assert read["variants"][0]["name"] == text
    assert read["variants"][0]["attributes"] == {"note": text}


MONEY: tuple[Any, ...] = (
    1990, "1990", None, [], {}, {"amount": 1990}, {"currency": "EUR"},
    {"amount": 1990, "currency": "USD"}, {"amount": 1990, "currency": "eur"},
    {"amount": 1990, "currency": None}, {"amount": 1990, "currency": ["EUR"]},
    {"amount": 1990, "currency": "EUR", "cents": 1}, {"amount": 19.9, "currency": "EUR"},
    {"amount": 1990.0, "currency": "EUR"}, {"amount": "1990", "currency": "EUR"},
    {"amount": True, "currency": "EUR"}, {"amount": -1, "currency": "EUR"},
    {"amount": 10**12 + 1, "currency": "EUR"}, {"amount": 0.1 + 0.2, "currency": "EUR"},
)  # fmt: skip


@pytest.mark.parametrize("price", MONEY)
def test_what_is_no_amount_of_money_is_refused(
    client: FlaskClient, staff: dict[str, str], price: Any
) -> None:
    body = factories.product_body(variants=[factories.variant_body(price=price)])

    answer = client.post(URL, json=body, headers=staff)

    assert answer.status_code == 422
    pointers = [fault["pointer"] for fault in answer.get_json()["errors"]]
    assert all(pointer.startswith("/variants/0/price") for pointer in pointers)


@pytest.mark.parametrize("amount", [0, 1, 10**12])
def test_an_amount_comes_back_to_the_cent(
    client: FlaskClient, staff: dict[str, str], amount: int
) -> None:
    price = {"amount": amount, "currency": "EUR"}

    made = factories.create_product(client, staff, variants=[factories.variant_body(price=price)])

    assert made["price_from"] == price
    assert client.get(f"{URL}/{made['id']}").get_json()["variants"][0]["price"] == price


def test_a_product_deleted_while_a_page_is_read_is_left_out_of_it(
    client: FlaskClient, staff: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = (factories.create_product(client, staff) for _ in range(2))

    def read_while_deleting(statement: Any, **values: Any) -> Any:
        if "ids" in values:
            client.delete(f"{URL}/{gone['id']}", headers=staff | {"If-Match": "*"})
        return read(statement, **values)

    monkeypatch.setattr(views, "read", read_while_deleting)

    assert [item["id"] for item in client.get(URL).get_json()["items"]] == [kept["id"]]
