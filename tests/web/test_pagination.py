"""Lists are walked page by page, and nothing is shown twice or left out on the way."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from tests import factories
from tests.web.checks import assert_problem

URL = "/api/v1/products"


@pytest.fixture
def create(client: FlaskClient, staff: dict[str, str]) -> Callable[[int], list[int]]:
    """Makes that many products; their ids, newest first."""

    def create(count: int) -> list[int]:
        ids = [factories.create_product(client, staff)["id"] for _ in range(count)]
        return ids[::-1]

    return create


def walk(client: FlaskClient, limit: int) -> Iterator[list[int]]:
    """The ids on each page, by the links that the pages give."""
    address: str | None = f"{URL}?limit={limit}"
    while address is not None:
        answer = client.get(address)
        assert answer.status_code == 200
        body = answer.get_json()
        yield [item["id"] for item in body["items"]]
        address = following(answer.headers.get("Link"))
        expected = body["next_cursor"]
        assert (expected is None) == (address is None)
        assert address is None or f"cursor={expected}" in address


def following(link: str | None) -> str | None:
    """The address in a Link header."""
    if link is None:
        return None
    found = re.fullmatch(r'<(/api/v1/products\?[!-~]+)>; rel="next"', link)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(("count", "pages"), [(0, [0]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_walking_the_pages_shows_each_product_once_newest_first(
    client: FlaskClient, create: Callable[[int], list[int]], count: int, pages: list[int]
) -> None:
    made = create(count)

    seen = list(walk(client, 3))

    assert [len(page) for page in seen] == pages
    assert [id_ for page in seen for id_ in page] == made


def test_what_comes_and_goes_between_pages_moves_nothing_else(
    client: FlaskClient, staff: dict[str, str], create: Callable[[int], list[int]]
) -> None:
    made = create(9)
    pages = walk(client, 3)

    seen = next(pages)
    create(2)
    # The last one shown, on which the cursor stands, one shown before it, and one still to come.
    for gone in (made[2], made[0], made[4]):
        client.delete(f"{URL}/{gone}", headers=staff | {"If-Match": "*"})
    seen += [id_ for page in pages for id_ in page]

    assert seen == [id_ for id_ in made if id_ != made[4]]


def test_a_page_has_twenty_items_unless_told_otherwise(
    client: FlaskClient, create: Callable[[int], list[int]]
) -> None:
    create(21)

    assert len(client.get(URL).get_json()["items"]) == 20
    assert len(client.get(f"{URL}?limit=100").get_json()["items"]) == 21


def test_the_link_keeps_the_filters(client: FlaskClient, staff: dict[str, str]) -> None:
    for _ in range(2):
        factories.create_product(client, staff, status="draft")

    link = client.get(f"{URL}?status=draft&limit=1", headers=staff).headers["Link"]

    assert "status=draft" in link
    assert "limit=1&" in link


@pytest.mark.parametrize(
    "limit",
    ["0", "101", "-1", "abc", "1" + "0" * 30, "9" * 5_000, "", "1.0", "1.5", "٣", "0x1", "1e1",
     "+1", " 1", "01", "1_0", "true", "NaN", "1000000000"],
)  # fmt: skip
def test_a_limit_that_is_none_is_refused_and_not_bent(client: FlaskClient, limit: str) -> None:
    assert_problem(client.get(f"{URL}?limit={quote(limit)}"), "validation", "/limit")


def cursor_of(value: Any) -> str:
    """A cursor with that inside."""
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


FOREIGN = {
    "empty": "",
    "nonsense": "abc",
    "spaces": "a b",
    "too long": "a" * 501,
    "no JSON": base64.urlsafe_b64encode(b"[1").decode().rstrip("="),
    "no UTF-8": base64.urlsafe_b64encode(b"\xff\xfe").decode().rstrip("="),
    "of another list": cursor_of(["orders:newest", 5]),
    "of another order": cursor_of(["products:price", 5]),
    "without a key": cursor_of(["products:newest"]),
    "with too much": cursor_of(["products:newest", 5, 5]),
    "text key": cursor_of(["products:newest", "5"]),
    "float key": cursor_of(["products:newest", 5.5]),
    "true key": cursor_of(["products:newest", True]),
    "null key": cursor_of(["products:newest", None]),
    "huge key": cursor_of(["products:newest", 2**63]),
    "an object": cursor_of({"0": "products:newest"}),
    "a number": cursor_of(5),
    "padded": cursor_of(["products:newest", 55]) + "=",
    "line feed": cursor_of(["products:newest", 5]) + "\n",
    "deep": base64.urlsafe_b64encode(b"[" * 300).decode(),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_cursor_that_this_list_did_not_give_is_refused(client: FlaskClient, what: str) -> None:
    answer = client.get(f"{URL}?{urlencode({'cursor': FOREIGN[what]})}")

    assert_problem(answer, "validation", "/cursor")


def test_a_cut_cursor_is_refused_or_of_another_place_but_never_an_error(
    client: FlaskClient, create: Callable[[int], list[int]]
) -> None:
    create(2)
    cursor = client.get(f"{URL}?limit=1").get_json()["next_cursor"]

    for end in range(len(cursor)):
        assert client.get(f"{URL}?cursor={cursor[:end]}").status_code == 422


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("limit=5&limit=5", ["/limit"]),
        ("limit=5&limit=6", ["/limit"]),
        ("status=active&limit=1&status=draft", ["/status"]),
        ("page=2", ["/page"]),
        ("Limit=2", ["/Limit"]),
        ("status=gone", ["/status"]),
        ("status=", ["/status"]),
        ("sort%00=x", ["/sort\0"]),
    ],
)
def test_a_repeated_unknown_or_wrong_parameter_is_refused(
    client: FlaskClient, query: str, pointers: list[str]
) -> None:
    assert_problem(client.get(f"{URL}?{query}"), "validation", *pointers)


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    """The statements that the shop executes meanwhile."""
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    shop = app.extensions["shop"]
    for engine in (shop.engine, shop.reader):
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        for engine in (shop.engine, shop.reader):
            event.remove(engine, "before_cursor_execute", note)


def test_a_long_page_takes_as_many_queries_as_a_short_one(
    app: Flask, client: FlaskClient, create: Callable[[int], list[int]]
) -> None:
    create(10)
    with counted(app) as short:
        assert len(client.get(f"{URL}?limit=100").get_json()["items"]) == 10
    create(90)
    with counted(app) as long:
        assert len(client.get(f"{URL}?limit=100").get_json()["items"]) == 100

    assert selects(short) == selects(long)
    assert len(selects(long)) == 2


def selects(statements: list[str]) -> list[str]:
    """The questions among them, however many things were asked about."""
    found = [statement for statement in statements if statement.startswith("SELECT")]
    return [re.sub(r"IN \(.*\) ", "IN (...) ", statement) for statement in found]
