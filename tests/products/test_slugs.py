"""Slugs that products had lead to them."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.products.models import ProductSlug
from tests import factories
from tests.web.checks import assert_problem

Headers = dict[str, str]
URL = "/api/v1/products"
ANY_VERSION = {"If-Match": "*"}


def rename(client: FlaskClient, staff: Headers, product: int, slug: str) -> None:
    """Give a product another slug."""
    answer = client.patch(f"{URL}/{product}", json={"slug": slug}, headers=staff | ANY_VERSION)
    assert answer.status_code == 200, answer.text


def target(client: FlaskClient, slug: str) -> str | None:
    """Where a slug leads: to itself, elsewhere, or nowhere."""
    answer = client.get(f"{URL}/{slug}")
    if answer.status_code == 200:
        return slug
    return answer.headers["Location"].removeprefix(f"{URL}/") if answer.status_code == 301 else None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_slug_that_a_product_had_leads_to_the_one_it_has(
    client: FlaskClient, staff: Headers, method: str
) -> None:
    made = factories.create_product(client, staff, slug="oak")["id"]
    rename(client, staff, made, "ash")

    answer = client.open(f"{URL}/oak", method=method)

    assert (answer.status_code, answer.headers["Location"]) == (301, f"{URL}/ash")
    assert answer.data == b""
    assert "Content-Type" not in answer.headers
    assert client.get(f"{URL}/oak", follow_redirects=True).get_json()["id"] == made


def test_every_former_slug_leads_there_in_one_step(client: FlaskClient, staff: Headers) -> None:
    made = factories.create_product(client, staff, slug="s-0")["id"]
    for number in range(1, 5):
        rename(client, staff, made, f"s-{number}")

    assert [target(client, f"s-{n}") for n in range(5)] == ["s-4"] * 5


def test_slugs_that_go_around_make_no_circle(client: FlaskClient, staff: Headers) -> None:
    first = factories.create_product(client, staff, slug="a")["id"]
    second = factories.create_product(client, staff, slug="b")["id"]
    for product, slug in ((first, "c"), (second, "a"), (first, "b"), (second, "c"), (first, "a")):
        rename(client, staff, product, slug)

    assert client.get(f"{URL}/a").get_json()["id"] == first
    assert client.get(f"{URL}/c").get_json()["id"] == second
    assert target(client, "b") == "a", "the last one that had it"
    rename(client, staff, first, "b")
    rename(client, staff, first, "a")
    assert [target(client, slug) for slug in "abc"] == ["a", "a", "c"]


def test_a_slug_that_a_product_has_means_it_whoever_had_it_before(
    client: FlaskClient, staff: Headers
) -> None:
    first = factories.create_product(client, staff, slug="oak")["id"]
    rename(client, staff, first, "ash")

    second = factories.create_product(client, staff, slug="oak")["id"]

    assert client.get(f"{URL}/oak").get_json()["id"] == second
    client.delete(f"{URL}/{second}", headers=staff | ANY_VERSION)
    assert target(client, "oak") == "ash", "free again, it leads where it led"


def test_what_was_refused_or_deleted_leaves_no_trace(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    first = factories.create_product(client, staff, slug="oak")["id"]
    factories.create_product(client, staff, slug="ash")
    taken = client.patch(f"{URL}/{first}", json={"slug": "ash"}, headers=staff | ANY_VERSION)
    assert_problem(taken, "conflict")
    assert session.scalars(select(ProductSlug)).all() == []

    rename(client, staff, first, "elm")
    assert client.delete(f"{URL}/{first}", headers=staff | ANY_VERSION).status_code == 204

    assert session.scalars(select(ProductSlug)).all() == []
    assert target(client, "oak") is None


def test_what_leads_elsewhere_is_kept_by_caches_no_longer_than_what_is_there(
    client: FlaskClient, staff: Headers
) -> None:
    made = factories.create_product(client, staff, slug="oak")["id"]
    rename(client, staff, made, "ash")

    assert client.get(f"{URL}/oak").headers["Cache-Control"].startswith("public, max-age=10")
    assert client.get(f"{URL}/oak", headers=staff).headers["Cache-Control"] == "no-store"
