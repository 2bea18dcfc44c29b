"""The tree of categories."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.products.models import Category
from tests import factories
from tests.web.checks import assert_problem

URL = "/api/v1/categories"
Headers = dict[str, str]


def create(client: FlaskClient, staff: Headers, name: str, **more: Any) -> int:
    """The id of a new category."""
    answer = client.post(URL, json={"name": name, **more}, headers=staff)
    assert answer.status_code == 201, answer.text
    number: int = answer.get_json()["id"]
    return number


def move(client: FlaskClient, staff: Headers, category: int, parent: int | None) -> Any:
    """What the shop answers to a move."""
    headers = staff | {"If-Match": "*"}
    return client.patch(f"{URL}/{category}", json={"parent_id": parent}, headers=headers)


def test_the_tree_is_listed_parents_first_with_what_is_in_it(
    client: FlaskClient, staff: Headers
) -> None:
    home = create(client, staff, "Home", position=2)
    tables = create(client, staff, "Tables", parent_id=home)
    chairs = create(client, staff, "Chairs", parent_id=home)
    create(client, staff, "Garden", position=1)
    factories.create_product(client, staff, category_id=tables)
    factories.create_product(client, staff, category_id=chairs)
    factories.create_product(client, staff, category_id=chairs, status="draft")

    items = client.get(URL).get_json()["items"]

    assert [(item["name"], item["product_count"]) for item in items] == [
        ("Garden", 0), ("Home", 2), ("Chairs", 1), ("Tables", 1),
    ]  # fmt: skip


def test_a_filter_finds_what_is_in_a_category_and_below_it(
    client: FlaskClient, staff: Headers
) -> None:
    home = create(client, staff, "Home")
    tables = create(client, staff, "Tables", parent_id=home)
    one = factories.create_product(client, staff, category_id=home)["id"]
    two = factories.create_product(client, staff, category_id=tables)["id"]
    factories.create_product(client, staff)

    def found(category: int) -> list[int]:
        items = client.get(f"/api/v1/products?category={category}").get_json()["items"]
        return [item["id"] for item in items]

    assert found(home) == [two, one]
    assert found(tables) == [two]
    assert found(999) == []
    shown = client.get(f"/api/v1/products/{two}").get_json()["category"]
    assert shown == {"id": tables, "name": "Tables", "slug": "tables"}


def test_nothing_is_moved_below_itself(client: FlaskClient, staff: Headers) -> None:
    home = create(client, staff, "Home")
    tables = create(client, staff, "Tables", parent_id=home)

    for parent in (home, tables):
        assert_problem(move(client, staff, home, parent), "validation", "/parent_id")
    assert_problem(move(client, staff, home, 999), "validation", "/parent_id")
    assert move(client, staff, tables, None).status_code == 200


def test_two_moves_at_once_make_no_circle(
    app: Flask, client: FlaskClient, staff: Headers, session: Session
) -> None:
    for number in range(10):
        pair = [create(client, staff, f"{name}{number}") for name in "AB"]

        def swap(place: int, pair: list[int] = pair) -> int:
            status: int = move(app.test_client(), staff, pair[place], pair[1 - place]).status_code
            return status

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(swap, range(2))) == [200, 422]
        session.rollback()
        parents = {row.id: row.parent_id for row in session.scalars(select(Category))}
        assert {parents[pair[0]], parents[pair[1]]} & {None}


def test_a_tree_has_ten_levels(client: FlaskClient, staff: Headers) -> None:
    parent = create(client, staff, "Level 1")
    for level in range(2, 11):
        parent = create(client, staff, f"Level {level}", parent_id=parent)

    answer = client.post(URL, json={"name": "Level 11", "parent_id": parent}, headers=staff)

    assert_problem(answer, "validation", "/parent_id")


def test_only_an_empty_category_is_deleted(client: FlaskClient, staff: Headers) -> None:
    home = create(client, staff, "Home")
    tables = create(client, staff, "Tables", parent_id=home)
    product = factories.create_product(client, staff, category_id=tables)
    headers = staff | {"If-Match": "*"}

    for category in (home, tables):
        assert_problem(client.delete(f"{URL}/{category}", headers=headers), "conflict")
    where = f"/api/v1/products/{product['id']}"
    assert client.patch(where, json={"category_id": None}, headers=headers).status_code == 200
    for category in (tables, home):
        assert client.delete(f"{URL}/{category}", headers=headers).status_code == 204


def test_a_product_cannot_be_put_into_no_category(client: FlaskClient, staff: Headers) -> None:
    body = factories.product_body(category_id=999)

    answer = client.post("/api/v1/products", json=body, headers=staff)

    assert_problem(answer, "validation", "/category_id")


def test_a_slug_names_one_category(client: FlaskClient, staff: Headers) -> None:
    create(client, staff, "Home")

    answer = client.post(URL, json={"name": "Home"}, headers=staff)

    assert_problem(answer, "conflict")
