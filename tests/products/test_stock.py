"""Variants, and the ledger of their stock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.products.models import StockLevel, StockMovement
from tests import factories
from tests.orders.checks import placed
from tests.web.checks import assert_problem

Headers = dict[str, str]
ANY_VERSION = {"If-Match": "*"}


@pytest.fixture
def product(client: FlaskClient, staff: Headers) -> dict[str, Any]:
    """A product with one variant, of which seven are there."""
    return factories.create_product(client, staff)


@pytest.fixture
def stock(product: dict[str, Any]) -> str:
    """Where the stock of its variant is."""
    return f"/api/v1/variants/{product['variants'][0]['id']}/stock"


def change(client: FlaskClient, stock: str, staff: Headers, **body: Any) -> Any:
    """What the shop answers to a change of stock."""
    return client.post(stock, json={"reason": "counted", **body}, headers=staff)


def test_stock_is_the_sum_of_its_movements(
    client: FlaskClient, staff: Headers, stock: str, session: Session
) -> None:
    assert change(client, stock, staff, delta=5).get_json()["on_hand"] == 12
    assert change(client, stock, staff, delta=-2).get_json()["on_hand"] == 10
    assert change(client, stock, staff, set=4, expected=10).get_json()["on_hand"] == 4

    page = client.get(f"{stock}/movements", headers=staff).get_json()["items"]

    assert [(move["delta"], move["on_hand"]) for move in page] == [
        (-6, 4),
        (-2, 10),
        (5, 12),
        (7, 7),
    ]
    assert [move["reason"] for move in page] == [*["counted"] * 3, "initial"]
    assert page[0]["actor"].startswith("users/")
    total = session.execute(select(func.sum(StockMovement.delta))).scalar_one()
    assert total == client.get(stock, headers=staff).get_json()["on_hand"] == 4


def test_a_change_of_stock_raises_its_version_and_not_the_variants(
    client: FlaskClient, staff: Headers, product: dict[str, Any], stock: str, session: Session
) -> None:
    change(client, stock, staff, delta=1)

    shown = client.get(f"/api/v1/products/{product['id']}").get_json()["variants"][0]
    assert (shown["available"], shown["version"]) == (8, 1)
    entries = session.scalars(
        select(AuditEntry).where(AuditEntry.table_name == "stock_levels").order_by(AuditEntry.id)
    ).all()
    assert [(entry.action, entry.sequence) for entry in entries] == [("insert", 1), ("update", 2)]
    assert '"before":{"on_hand":7}' in entries[1].data
    assert '"on_hand":8' in entries[1].data


def test_stock_never_falls_below_nothing(client: FlaskClient, staff: Headers, stock: str) -> None:
    answer = change(client, stock, staff, delta=-8)

    assert "7" in assert_problem(answer, "out-of-stock")["detail"]
    assert client.get(stock, headers=staff).get_json()["on_hand"] == 7


def test_a_count_is_refused_when_something_was_sold_meanwhile(
    client: FlaskClient, staff: Headers, stock: str
) -> None:
    change(client, stock, staff, delta=-1)

    assert_problem(change(client, stock, staff, set=9, expected=7), "conflict")
    assert client.get(stock, headers=staff).get_json()["on_hand"] == 6


def test_of_many_who_take_at_once_none_takes_what_is_not_there(
    app: Flask, staff: Headers, stock: str, session: Session
) -> None:
    def take(_number: int) -> int:
        answer = change(app.test_client(), stock, staff, delta=-1)
        status: int = answer.status_code
        return status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(take, range(40)))

    assert (statuses.count(200), statuses.count(409)) == (7, 33)
    assert session.scalars(select(StockLevel.on_hand)).all() == [0]
    assert session.execute(select(func.sum(StockMovement.delta))).scalar_one() == 0
    sequences = session.scalars(
        select(AuditEntry.sequence).where(AuditEntry.table_name == "stock_levels")
    )
    assert sorted(sequences) == list(range(1, 9))


@pytest.mark.parametrize(
    "body",
    [{}, {"delta": 1.0}, {"delta": "1"}, {"delta": True}, {"set": 1}, {"expected": 1},
     {"delta": 1, "set": 1, "expected": 1}, {"set": -1, "expected": 1}, {"delta": 10**10},
     {"delta": 1, "reason": ""}],
)  # fmt: skip
def test_what_is_no_change_of_stock_is_refused(
    client: FlaskClient, staff: Headers, stock: str, body: dict[str, Any]
) -> None:
    answer = change(client, stock, staff, **body)

    assert (answer.status_code, answer.get_json()["type"]) == (422, "/problems/validation")


def test_the_stock_of_no_variant_is_not_there(client: FlaskClient, staff: Headers) -> None:
    stock = "/api/v1/variants/999/stock"

    assert_problem(client.get(stock, headers=staff), "not-found")
    assert_problem(change(client, stock, staff, delta=1), "not-found")
    assert_problem(client.get(f"{stock}/movements", headers=staff), "not-found")


def test_a_variant_is_added_changed_and_deleted(
    client: FlaskClient, staff: Headers, product: dict[str, Any]
) -> None:
    url = f"/api/v1/products/{product['id']}"
    body = factories.variant_body(sku="NEW-1", stock=3, low_stock_threshold=2)
    added = client.post(f"{url}/variants", json=body, headers=staff).get_json()
    where = f"/api/v1/variants/{added['id']}"
    assert client.get(url).get_json()["variants"][1] == added

    assert_problem(client.patch(where, json={"name": "L"}, headers=staff), "version-required")
    price = {"amount": 5, "currency": "EUR"}
    changed = client.patch(
        where, json={"price": price, "sku": "NEW-2"}, headers=staff | {"If-Match": '"1"'}
    )
    assert (changed.get_json()["sku"], changed.get_json()["price"]) == ("NEW-2", price)
    assert client.get(url).get_json()["price_from"] == price
    assert client.get(f"{where}/stock", headers=staff).get_json()["low_stock_threshold"] == 2
    assert_problem(client.delete(where, headers=staff | {"If-Match": '"1"'}), "version-conflict")
    assert client.delete(where, headers=staff | ANY_VERSION).status_code == 204
    assert len(client.get(url).get_json()["variants"]) == 1


def test_the_last_variant_stays_also_when_two_are_deleted_at_once(
    app: Flask, client: FlaskClient, staff: Headers, product: dict[str, Any]
) -> None:
    url = f"/api/v1/products/{product['id']}"
    client.post(f"{url}/variants", json=factories.variant_body(), headers=staff)
    ids = [variant["id"] for variant in client.get(url).get_json()["variants"]]

    def remove(number: int) -> int:
        headers = staff | ANY_VERSION
        return app.test_client().delete(f"/api/v1/variants/{number}", headers=headers).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(remove, ids)) == [204, 409]
    assert len(client.get(url).get_json()["variants"]) == 1


def test_a_taken_sku_is_refused(
    client: FlaskClient, staff: Headers, product: dict[str, Any]
) -> None:
    body = factories.variant_body(sku=product["variants"][0]["sku"])

    answer = client.post(f"/api/v1/products/{product['id']}/variants", json=body, headers=staff)

    assert_problem(answer, "conflict")


def test_what_was_ordered_is_not_deleted(
    client: FlaskClient, staff: Headers, customer: Headers, product: dict[str, Any]
) -> None:
    url = f"/api/v1/products/{product['id']}"
    client.post(f"{url}/variants", json=factories.variant_body(), headers=staff)
    sold = product["variants"][0]
    placed(client, customer, (sold["sku"], 1))

    for where in (f"/api/v1/variants/{sold['id']}", url):
        assert_problem(client.delete(where, headers=staff | ANY_VERSION), "conflict")
    assert len(client.get(url).get_json()["variants"]) == 2
