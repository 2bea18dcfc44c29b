"""What caches may keep, and who is told that he has it already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.http import http_date

from tests import factories
from tests.conftest import create_shop

Headers = dict[str, str]
API = "/api/v1"
#: What everybody may see, each with everything in it.
PUBLIC = ("products", "product", "product by slug", "categories", "category", "attributes",
          "attribute", "reviews", "review")  # fmt: skip
ITEMS = ("product", "product by slug", "category", "attribute", "review")
#: Whose every change moves a time of its own.
DATED = ("attribute", "review")


@pytest.fixture
def places(app: Flask, client: FlaskClient, staff: Headers) -> dict[str, str]:
    """Where everything is that everybody may see."""
    shelf = client.post(f"{API}/categories", json={"name": "Shelf"}, headers=staff).get_json()
    made = factories.create_product(client, staff, slug="oak", category_id=shelf["id"])
    code = {"code": "wood", "name": "Wood", "kind": "text"}
    attribute = client.post(f"{API}/attributes", json=code, headers=staff).headers["Location"]
    author = factories.sign_in(app, "customer")
    reviews = f"{API}/products/{made['id']}/reviews"
    review = client.post(reviews, json={"rating": 5}, headers=author).headers["Location"]
    client.post(f"{review}/approve", headers=staff)
    return {
        "products": f"{API}/products", "product": f"{API}/products/{made['id']}",
        "product by slug": f"{API}/products/oak", "categories": f"{API}/categories",
        "category": f"{API}/categories/{shelf['id']}", "attributes": f"{API}/attributes",
        "attribute": attribute, "reviews": reviews, "review": review,
    }  # fmt: skip


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    """The questions that the database is asked meanwhile."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    shop = app.extensions["shop"]
    for engine in (shop.engine, shop.reader):
        event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in (shop.engine, shop.reader):
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("kind", PUBLIC)
def test_what_everybody_sees_may_be_kept_for_a_moment(
    client: FlaskClient, staff: Headers, places: dict[str, str], kind: str
) -> None:
    place = places[kind]

    fresh = client.get(place)
    again = client.get(place, headers={"If-None-Match": fresh.headers["ETag"]})
    mine = client.get(place, headers=staff)

    for answer, status in ((fresh, 200), (again, 304)):
        assert answer.status_code == status
        control = answer.headers["Cache-Control"]
        assert control == "public, max-age=10, stale-while-revalidate=30"
        assert answer.headers["ETag"] == fresh.headers["ETag"]
    assert mine.headers["Cache-Control"] == "no-store"
    for answer in (fresh, again, mine):
        assert answer.headers["Vary"] == "Authorization"
    assert client.head(place).headers["Cache-Control"] == fresh.headers["Cache-Control"]


@pytest.mark.parametrize("kind", PUBLIC)
def test_who_has_it_already_costs_one_question_at_most_for_an_item(
    app: Flask, client: FlaskClient, places: dict[str, str], kind: str
) -> None:
    tag = client.get(places[kind]).headers["ETag"]

    with counted(app) as statements:
        answer = client.get(places[kind], headers={"If-None-Match": tag})

    assert answer.status_code == 304
    questions = [statement for statement in statements if statement != "BEGIN"]
    assert len(questions) <= (1 if kind in ITEMS else 2), questions


def test_what_is_not_there_is_kept_by_no_cache(client: FlaskClient, places: dict[str, str]) -> None:
    for path in (f"{API}/products/999", f"{API}/products/elm", f"{API}/reviews/999"):
        assert client.get(path).headers["Cache-Control"] == "no-store"
    assert "Cache-Control" not in client.get("/openapi.json").headers


def test_caches_can_be_told_to_ask_each_time(tmp_path: Path) -> None:
    client = create_shop(tmp_path, public_cache_seconds=0).test_client()

    assert client.get(f"{API}/products").headers["Cache-Control"] == "no-cache"


def test_a_cache_keeps_answers_to_each_origin_apart(tmp_path: Path) -> None:
    """A browser must not get what was answered to somebody without an origin."""
    client = create_shop(tmp_path, cors_origins=("https://shop.example",)).test_client()

    for headers in ({}, {"Origin": "https://shop.example"}, {"Origin": "https://evil.example"}):
        vary = client.get(f"{API}/products", headers=headers).headers["Vary"]
        assert {name.strip() for name in vary.split(",")} == {"Authorization", "Origin"}


@pytest.fixture
def later(places: dict[str, str]) -> Iterator[time_machine.Traveller]:
    """A minute after everything was made."""
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=1)) as traveller:
        yield traveller


@pytest.mark.parametrize("kind", PUBLIC)
def test_a_date_is_shown_where_every_change_moves_it(
    client: FlaskClient, places: dict[str, str], later: object, kind: str
) -> None:
    answer = client.get(places[kind])

    assert ("Last-Modified" in answer.headers) == (kind in DATED)
    if kind in DATED:
        updated = datetime.fromisoformat(answer.get_json()["updated_at"])
        assert answer.headers["Last-Modified"] == http_date(updated)


@pytest.mark.parametrize("kind", DATED)
def test_who_has_it_since_then_is_told_so(
    client: FlaskClient, places: dict[str, str], later: object, kind: str
) -> None:
    place = places[kind]
    modified = client.get(place).last_modified
    assert modified is not None

    for moment, status in ((modified, 304), (modified + timedelta(days=1), 304),
                           (modified - timedelta(seconds=1), 200)):  # fmt: skip
        answer = client.get(place, headers={"If-Modified-Since": http_date(moment)})
        assert answer.status_code == status, moment
        assert "ETag" in answer.headers
    for nonsense in ("yesterday", "", "2026-11-22T14:00:00Z", "0"):
        answer = client.get(place, headers={"If-Modified-Since": nonsense})
        assert answer.status_code == 200


@pytest.mark.parametrize("kind", DATED)
def test_a_date_does_not_count_beside_a_tag(
    client: FlaskClient, places: dict[str, str], later: object, kind: str
) -> None:
    """RFC 9110, 13.2.2."""
    first = client.get(places[kind])
    since = {"If-Modified-Since": first.headers["Last-Modified"]}
    long_ago = {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}

    other = client.get(places[kind], headers=since | {"If-None-Match": '"1-00"'})
    same = client.get(places[kind], headers=long_ago | {"If-None-Match": first.headers["ETag"]})

    assert (other.status_code, same.status_code) == (200, 304)


def test_a_date_is_ignored_where_it_would_be_a_lie(
    client: FlaskClient, staff: Headers, places: dict[str, str], later: object
) -> None:
    """A sale changes what a product shows, and no time of the product's own."""
    since = {"If-Modified-Since": http_date(datetime.now(UTC) + timedelta(days=1))}

    for kind in set(PUBLIC) - set(DATED):
        assert client.get(places[kind], headers=since).status_code == 200, kind


def test_two_changes_in_a_second_are_not_taken_for_one(
    app: Flask, client: FlaskClient, places: dict[str, str]
) -> None:
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)
    with time_machine.travel(begin, tick=False) as traveller:
        staff = factories.sign_in(app, "staff") | {"If-Match": "*"}
        place = places["attribute"]
        for name in ("First", "Second"):
            client.patch(place, json={"name": name}, headers=staff)
            traveller.shift(timedelta(milliseconds=200))
            assert "Last-Modified" not in client.get(place).headers, "more may follow"
        traveller.shift(timedelta(seconds=5))
        assert client.get(place).headers["Last-Modified"] == http_date(begin)
