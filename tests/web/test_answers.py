"""Entity tags: who has it already is told so, and nobody overwrites what it did not read."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.products.models import StockLevel
from tests import factories
from tests.web.checks import assert_problem

URL = "/api/v1/products"


@pytest.fixture
def product(client: FlaskClient, staff: dict[str, str]) -> dict[str, Any]:
    """A product in its second version."""
    made = factories.create_product(client, staff)
    headers = staff | {"If-Match": '"1"'}
    answer = client.patch(f"{URL}/{made['id']}", json={"name": "Second"}, headers=headers)
    body: dict[str, Any] = answer.get_json()
    assert body["version"] == 2
    return body | {"address": f"{URL}/{made['id']}", "tag": answer.headers["ETag"]}


@pytest.mark.parametrize("form", ["{tag}", "W/{tag}", '"x", {tag}', "*", '{tag}, W/"y"'])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_it_already_gets_no_body(
    client: FlaskClient, product: dict[str, Any], form: str, method: str
) -> None:
    header = form.format(tag=product["tag"])

    answer = client.open(product["address"], method=method, headers={"If-None-Match": header})

    assert answer.status_code == 304
    assert answer.data == b""
    assert answer.headers["ETag"] == product["tag"]
    assert "X-Request-ID" in answer.headers
    assert "Content-Type" not in answer.headers
    assert "Content-Length" not in answer.headers


@pytest.mark.parametrize("header", ['"2"', '"x"', "", "nonsense", '"2-0000000000000000"'])
def test_who_has_something_else_gets_the_body(
    client: FlaskClient, product: dict[str, Any], header: str
) -> None:
    answer = client.get(product["address"], headers={"If-None-Match": header})

    assert answer.status_code == 200
    assert answer.get_json()["name"] == "Second"


def test_lists_have_entity_tags_too_and_keep_their_links(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    for _ in range(2):
        factories.create_product(client, staff)
    first = client.get(f"{URL}?limit=1")

    again = client.get(f"{URL}?limit=1", headers={"If-None-Match": first.headers["ETag"]})

    assert again.status_code == 304
    assert again.headers["Link"] == first.headers["Link"]


@pytest.mark.parametrize(
    "form",
    ["{tag}", '"2"', "W/{tag}", 'W/"2"', "*", '"1", "2"', '"1",{tag}', '  "2"  ', '"2-"',
     '"2-0123456789abcdef"', 'nonsense, "2"'],
)  # fmt: skip
def test_an_edit_of_the_present_version_is_made(
    client: FlaskClient, staff: dict[str, str], product: dict[str, Any], form: str
) -> None:
    headers = staff | {"If-Match": form.format(tag=product["tag"])}

    answer = client.patch(product["address"], json={"name": "Third"}, headers=headers)

    assert answer.status_code == 200, answer.text
    assert answer.get_json()["version"] == 3
    assert answer.headers["ETag"].startswith('"3-')


@pytest.mark.parametrize(
    "header",
    ['"1"', '"3"', '"1", "3"', '"1-0123456789abcdef"', "2", "nonsense", '"', '""', '"02x"', '"-2"',
     '"2', '"٢"', '"2\t"', "W/2", '"2"x', '"' + "9" * 18 + '"', '"' + "9" * 5_000 + '"', '"2.0"',
     ",", "**"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_an_edit_of_any_other_version_is_refused(
    client: FlaskClient, staff: dict[str, str], product: dict[str, Any], header: str, method: str
) -> None:
    """BL-20."""
    headers = staff | {"If-Match": header.encode().decode("latin-1")}

    answer = client.open(product["address"], method=method, json={"name": "x"}, headers=headers)

    assert_problem(answer, "version-conflict")
    assert client.get(product["address"]).get_json()["name"] == "Second"


@pytest.mark.parametrize("headers", [{}, {"If-Match": ""}, {"If-Match": "  "}])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_an_edit_of_no_version_in_particular_is_refused(
    client: FlaskClient,
    staff: dict[str, str],
    product: dict[str, Any],
    headers: dict[str, str],
    method: str,
) -> None:
    """BL-20."""
    answer = client.open(product["address"], method=method, json={}, headers=staff | headers)

    assert_problem(answer, "version-required")


def test_a_sale_changes_the_tag_but_not_the_version(
    client: FlaskClient, staff: dict[str, str], product: dict[str, Any], session: Session
) -> None:
    stock = session.execute(select(StockLevel)).scalar_one()
    stock.on_hand -= 1
    session.commit()

    sold = client.get(product["address"])

    assert sold.headers["ETag"] != product["tag"]
    assert sold.headers["ETag"].startswith('"2-')
    assert sold.get_json()["variants"][0]["available"] == 6
    headers = staff | {"If-Match": product["tag"]}
    edited = client.patch(product["address"], json={"name": "Third"}, headers=headers)
    assert edited.status_code == 200
