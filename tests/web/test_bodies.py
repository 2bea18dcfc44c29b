"""Hostile bodies and hostile numbers are refused, quickly, and never bent into shape."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shop.errors import Malformed
from shop.web.bodies import read_json
from tests import factories
from tests.web.checks import assert_problem

URL = "/api/v1/products"
JSON = "application/json"
ROUTES = {"login": ("POST", "/api/v1/auth/login"), "create": ("POST", URL), "change": ("PATCH", "")}

HOSTILE = {
    "100,000 levels of lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "1,000 levels": b'{"name":' + b"[" * 1_000 + b"]" * 1_000 + b"}",
    "1,020 levels": b"[" * 1_020 + b"]" * 1_020,
    "null": b"null",
    "list": b"[]",
    "list of objects": b"[{}]",
    "string": b'"x"',
    "number": b"1",
    "true": b"true",
    "empty": b"",
    "space": b" ",
    "trailing comma": b'{"name": "x",}',
    "trailing garbage": b'{"name": "x"} x',
    "two documents": b"{}{}",
    "single quotes": b"{'name': 'x'}",
    "comment": b'{"name": "x"} // x',
    "NaN": b'{"name": NaN}',
    "Infinity": b'{"name": Infinity}',
    "-Infinity": b'{"name": -Infinity}',
    "1e400": b'{"name": 1e400}',
    "same key twice": b'{"name": "a", "name": "b"}',
    "same key twice, escaped": b'{"name": "a", "n\\u0061me": "b"}',
    "same key twice, deep": b'{"variants": [{"sku": "A", "sku": "B"}]}',
    "BOM": b'\xef\xbb\xbf{"name": "x"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "UTF-32": '{"name": "x"}'.encode("utf-32"),
    "no UTF-8": b'{"name": "\xff"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "lone surrogate": b'{"name": "\\ud800"}',
    "lone low surrogate": b'{"email": "\\udc00"}',
    "NUL in all texts": b'{"name": "a\\u0000b", "email": "a\\u0000@b", "password": "\\u0000"}',
    "raw NUL": b'{"name": "a\x00b"}',
    "10,000 keys": json.dumps(dict.fromkeys(map(str, range(10_000)))).encode(),
    "5,000 digits": b'{"name": ' + b"9" * 5_000 + b"}",
    "-5,000 digits": b'{"name": -' + b"9" * 5_000 + b"}",
    "5,000 decimals": b'{"name": 1.' + b"9" * 5_000 + b"}",
    "leading zero": b'{"name": 01}',
    "endless name, one bad character": b'{"name": "' + b"a" * 500_000 + b'\\u0001"}',
    "endless blank name": b'{"name": "' + b" " * 500_000 + b'"}',
    "endless slug, one bad character": b'{"slug": "' + b"a" * 500_000 + b'!"}',
    "endless address, one bad character": b'{"email": "' + b"a" * 500_000 + b'\\u0001"}',
}


@pytest.fixture(params=sorted(ROUTES))
def send(
    request: pytest.FixtureRequest, app: Flask, client: FlaskClient, staff: dict[str, str]
) -> Any:
    """Sends something to one of the routes that take JSON, as somebody who may."""
    method, path = ROUTES[request.param]
    headers = dict(staff)
    if not path:
        path = f"{URL}/{factories.create_product(client, staff)['id']}"
        headers["If-Match"] = "*"

    def send(**kwargs: Any) -> TestResponse:
        kwargs["headers"] = headers | kwargs.get("headers", {})
        return client.open(path, method=method, **kwargs)

    return send


def test_hostile_json_is_refused_on_every_route_at_once(send: Any) -> None:
    for what, raw in HOSTILE.items():
        answer = send(data=raw, content_type=JSON)

        assert answer.status_code in (400, 422), what
        assert_problem_of_any_pointer(answer)


def assert_problem_of_any_pointer(answer: TestResponse) -> None:
    pointers = [fault["pointer"] for fault in answer.get_json().get("errors", [])]
    assert_problem(answer, "malformed" if answer.status_code == 400 else "validation", *pointers)


@pytest.mark.parametrize("levels", [10, 500, 900, 950, 990, 1_000, 1_023, 1_024, 1_025, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_of_any_depth_is_read_or_refused(levels: int, opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]
    raw = (opening * levels + "1" + closing * levels).encode()
    try:
        readable = bool(read_json(raw))
    except Malformed:
        readable = False

    assert readable or levels > 500
    assert not readable or levels <= 1_024


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/plain", None),
        ("", None),
        ("application/x-www-form-urlencoded", None),
        ("multipart/form-data; boundary=x", None),
        ("application/jsonx", None),
        ("application/merge-patch+json", None),
        ("application/json; charset=utf-7", None),
        ("application/json; charset=utf-16", None),
        ("application/json; charset=latin-1", None),
        (JSON, "gzip"),
        (JSON, "br"),
        (JSON, "nonsense"),
    ],
)
def test_what_does_not_claim_to_be_plain_json_is_an_unsupported_type(
    send: Any, content_type: str, encoding: str | None
) -> None:
    raw = b'{"name": "x"}'
    headers = {"Content-Encoding": encoding} if encoding else {}

    answer = send(data=gzip.compress(raw) if encoding == "gzip" else raw, headers=headers,
                  content_type=content_type)  # fmt: skip

    assert_problem(answer, "unsupported-media-type")


@pytest.mark.parametrize("content_type", [JSON, "APPLICATION/JSON", f"{JSON}; charset=UTF-8"])
def test_json_in_utf_8_is_welcome_under_each_of_its_names(
    client: FlaskClient, staff: dict[str, str], content_type: str
) -> None:
    raw = json.dumps(factories.product_body())

    answer = client.post(URL, data=raw, content_type=content_type, headers=staff)

    assert answer.status_code == 201


def test_unknown_fields_are_refused_on_every_route(send: Any) -> None:
    answer = send(json={"nonsense": 1})

    assert "/nonsense" in [fault["pointer"] for fault in answer.get_json()["errors"]]
    assert answer.status_code == 422


NO_INTEGERS = (
    "-1", "9223372036854775808", "1" + "0" * 30, "9" * 5_000, "1.0", "1.9", "1e2", '"5"', '"٣"',
    "true", "false", "null", "[]", "{}", '"1_000"', '" 5 "', "1e1000000",
)  # fmt: skip


@pytest.mark.parametrize("number", NO_INTEGERS)
@pytest.mark.parametrize("place", ["price", "stock"])
def test_what_is_no_fitting_integer_is_refused_and_never_rounded(
    client: FlaskClient, staff: dict[str, str], place: str, number: str
) -> None:
    price = f'{{"amount": {number if place == "price" else 1}, "currency": "EUR"}}'
    stock = number if place == "stock" else 1
    variant = f'{{"sku": "A", "price": {price}, "stock": {stock}}}'
    raw = f'{{"name": "x", "variants": [{variant}]}}'.encode()

    answer = client.post(URL, data=raw, content_type=JSON, headers=staff)

    assert answer.status_code in (400, 422), answer.text
    assert client.get(URL).get_json()["items"] == []


@pytest.mark.parametrize(
    "number",
    ["-1", "0", "00", "01", "2147483648", "9223372036854775807", "9223372036854775808", "1" * 31,
     "9" * 5_000, "1.0", "1.9", "%D9%A3", "true", "1e0", "+1", "%201", "0x1", "1_0", "NaN"],
)  # fmt: skip
def test_a_hostile_id_in_the_path_names_nothing(
    client: FlaskClient, staff: dict[str, str], number: str
) -> None:
    factories.create_product(client, staff)
    for method in ("GET", "PATCH", "DELETE"):
        answer = client.open(
            f"{URL}/{number}", method=method, json={}, headers=staff | {"If-Match": "*"}
        )
        assert answer.status_code == 404, (method, answer.text)
    assert len(client.get(URL).get_json()["items"]) == 1


@pytest.mark.parametrize("form", ["0{}", "+{}", "%20{}", "{}.0", "{}%0A", "{}_0"])
def test_an_id_has_one_spelling(client: FlaskClient, staff: dict[str, str], form: str) -> None:
    made = factories.create_product(client, staff)["id"]
    arabic = "".join(chr(0x660 + int(digit)) for digit in str(made))

    for spelling in (form.format(made), arabic):
        assert_problem(client.get(f"{URL}/{spelling}"), "not-found")
        deleted = client.delete(f"{URL}/{spelling}", headers=staff | {"If-Match": "*"})
        assert_problem(deleted, "not-found")
    assert client.get(f"{URL}/{made}").status_code == 200


def test_the_document_names_the_limits_that_are_not_seen_by_itself(client: FlaskClient) -> None:
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]

    attributes = schemas["ProductPatch"]["properties"]["attributes"]
    assert attributes["maxProperties"] == 50
    assert attributes["propertyNames"] == {"pattern": "^[a-z][a-z0-9_]*$", "maxLength": 40}
    assert "maxLength" not in attributes
    assert schemas["Money"]["properties"]["currency"]["enum"] == ["EUR"]


@pytest.mark.parametrize("body", ["name", "slug", "description", "status", "attributes"])
@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], {"a": {"b": 1}}, [[]]])
def test_a_value_of_the_wrong_type_is_refused_everywhere(
    client: FlaskClient, staff: dict[str, str], body: str, value: Any
) -> None:
    answer = client.post(URL, json=factories.product_body(**{body: value}), headers=staff)

    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"slug": "oak\n"}, "/slug"),
        ({"slug": "Oak"}, "/slug"),
        ({"slug": "12"}, "/slug"),
        ({"slug": "été"}, "/slug"),
        ({"name": "two\nlines"}, "/name"),
        ({"name": "two\r\nlines"}, "/name"),
        ({"name": "two\u2028lines"}, "/name"),
        ({"name": " \u00a0\u3000 "}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "x" + " " * 200}, "/name"),
        ({"description": "bell\a"}, "/description"),
        ({"description": "x" * 20_001}, "/description"),
        ({"attributes": {"material\n": "oak"}}, "/attributes/material\n"),
        ({"attributes": {f"a{n}": "x" for n in range(51)}}, "/attributes"),
        ({"variants": []}, "/variants"),
        ({"variants": [factories.variant_body(sku="OAK\n")]}, "/variants/0/sku"),
        ({"variants": [factories.variant_body(sku="OÄK")]}, "/variants/0/sku"),
    ],
)
def test_a_text_that_does_not_fit_its_field_is_refused(
    client: FlaskClient, staff: dict[str, str], changes: dict[str, Any], pointer: str
) -> None:
    answer = client.post(URL, json=factories.product_body(**changes), headers=staff)

    assert_problem(answer, "validation", pointer)


def test_the_longest_texts_are_stored_as_they_are(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    # Four bytes each: more than 64 kB, where MySQL's plain TEXT ends.
    texts: dict[str, Any] = {"name": "🪑" * 200, "description": "🪑" * 20_000}
    texts["attributes"] = {f"key_{n}": "ü" * 200 for n in range(50)}

    created = factories.create_product(client, staff, **texts)

    read = client.get(f"{URL}/{created['id']}").get_json()
    assert {key: read[key] for key in texts} == texts
