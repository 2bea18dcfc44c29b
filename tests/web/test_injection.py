"""Whatever a text says, it is a value: to the database, to patterns, and when it is read again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import Schema, fields
from sqlalchemy import Engine, select
from werkzeug.test import TestResponse

from shop.db import Base
from shop.web.fields import Attributes, Form, StrictSchema
from tests import factories
from tests.web.test_callers import documented

Headers = dict[str, str]
API = "/api/v1"
ANY_VERSION = {"If-Match": "*"}

# A shop that ran them would sleep for many minutes in all, far beyond the time-out of a test.
PAYLOADS = (
    "'", '"', "`", "\\", "''", "';", "')", "'))", "' --", "'#", "'/*", "*/", "%", "_", "%'", "\\'",
    "' OR '1'='1", "' OR 1=1 --", "' OR 1=1#", '" OR ""="', "1 OR 1=1", "1) OR (1=1", "or 1=1",
    "' OR 'x' LIKE '%", "'||'a'||'", "' + 'a", "' AND 1=0 UNION SELECT 1 --", "1 UNION SELECT 1",
    "' UNION SELECT password_hash FROM users --", "' UNION SELECT NULL,NULL,NULL --",
    "'; DROP TABLE products; --", "'; DELETE FROM products; --", "1; DROP TABLE products",
    "'; UPDATE users SET role='admin'; --", "'; INSERT INTO users VALUES (1); --",
    "sleep(5)", "' OR sleep(5) --", "1 AND sleep(5)", "'; SELECT sleep(5); --", "1-sleep(5)",
    "(SELECT sleep(5))", "' XOR(if(now()=sysdate(),sleep(5),0)) --", "' AND benchmark(9999999,1) #",
    "'||(SELECT randomblob(999999999))||'", "' AND randomblob(999999999) --",
    "waitfor delay '0:0:5'", "pg_sleep(5)", "' AND (SELECT 1 FROM (SELECT sleep(5))a) --",
    "' AND extractvalue(1,1) --",
    "' AND updatexml(1,concat(1,version()),1) --", "load_file('/etc/passwd')", "@@version",
    "' INTO OUTFILE '/tmp/x' --", "name; --", "id desc, (select 1)", "-id", "name,id", "id/**/desc",
    "case when 1=1 then id else name end", "0x27", "char(39)", ":key", ":limit", "%(key)s", "%s",
    "?", "{0}",
    "${7*7}", "{{7*7}}", "+oak -elm", "oak*", '"oak', "~oak", "(oak", "@oak", "<>", "><",
)  # fmt: skip
DATABASE_TALK = re.compile(
    r"sqlite|pymysql|mariadb|mysql|sqlalchemy|syntax|near \"|operationalerror|programmingerror"
    r"|traceback|SELECT .* FROM|no such column|unknown column",
    re.IGNORECASE,
)


def state(engine: Engine) -> dict[str, Any]:
    """Every row that there is."""
    with engine.connect() as connection:
        return {
            table.name: connection.execute(select(table).order_by(*table.primary_key)).all()
            for table in Base.metadata.sorted_tables
        }


def check(answer: TestResponse, payload: str) -> None:
    """The shop made no mistake, and a problem tells nothing of the database."""
    assert answer.status_code < 500, (payload, answer.text)
    if answer.status_code >= 400:
        body = answer.get_json()
        told = f"{body['detail']} {body.get('errors', '')}".replace(payload, "")
        assert not DATABASE_TALK.search(told), (payload, told)


@pytest.fixture
def filled(client: FlaskClient, staff: Headers) -> None:
    """A shop with a few things in it."""
    for status in ("active", "draft"):
        factories.create_product(client, staff, status=status, slug=status)
    client.post(f"{API}/categories", json={"name": "Shelf"}, headers=staff)
    wood = {"code": "wood", "name": "Wood", "kind": "text"}
    client.post(f"{API}/attributes", json=wood, headers=staff)


def test_there_are_payloads_enough() -> None:
    assert len(set(PAYLOADS)) >= 60


def test_no_parameter_of_a_query_reaches_the_database_as_anything_but_a_value(
    app: Flask, client: FlaskClient, engine: Engine, filled: None
) -> None:
    """IN-06: names of parameters too."""
    caller = factories.sign_in(app, "admin")
    before = state(engine)
    tried = set()
    for method, path, operation in documented(app):
        if method != "GET":
            continue
        names = [it["name"] for it in operation.get("parameters", []) if it["in"] == "query"]
        for name in [*names, "q", "sort", "order", "fields"]:
            tried.add((path, name))
            for payload in PAYLOADS:
                query = {name: payload}
                answer = client.get(path.replace("{id}", "1"), query_string=query, headers=caller)
                check(answer, payload)
        for payload in PAYLOADS:
            if names:
                answer = client.get(
                    f"{path.replace('{id}', '1')}?{quote(payload)}=1", headers=caller
                )
                check(answer, payload)
                assert answer.status_code in (404, 422)

    assert len(tried) > 40
    assert state(engine) == before


def test_no_part_of_a_path_reaches_the_database_as_anything_but_a_value(
    app: Flask, client: FlaskClient, engine: Engine, filled: None
) -> None:
    """IN-06: a slug or an id that is spelt like SQL is nobody's."""
    caller = factories.sign_in(app, "staff")
    before = state(engine)
    for method, path, _ in documented(app):
        if "{id}" not in path:
            continue
        for payload in PAYLOADS:
            for text in (payload, f"1{payload}", f"active{payload}"):
                address = path.replace("{id}", quote(text, safe=""))
                answer = client.open(address, method=method, headers=caller | ANY_VERSION, json={})
                check(answer, text)
                assert answer.status_code >= 400, (method, address)

    assert state(engine) == before


def test_what_is_written_like_sql_is_stored_and_found_like_any_other_text(
    client: FlaskClient, staff: Headers, customer: Headers
) -> None:
    """IN-06: in every text of the catalogue and of reviews."""
    made = factories.create_product(client, staff, slug="oak")
    path, where = f"{API}/products/{made['id']}", f"{API}/variants/{made['variants'][0]['id']}"
    review = client.post(f"{path}/reviews", json={"rating": 5}, headers=customer).headers[
        "Location"
    ]
    stored = staff | ANY_VERSION
    for payload in PAYLOADS:
        named = {"name": payload, "attributes": {"it": payload}, "metadata": {"it": payload}}
        edits: list[tuple[str, dict[str, Any], Headers]] = [
            (path, named | {"description": payload}, stored), (where, named, stored),
            (review, {"title": payload, "text": payload}, customer),
        ]  # fmt: skip
        for address, body, headers in edits:
            answer = client.patch(address, json=body, headers=headers)
            check(answer, payload)
            assert {key: answer.get_json()[key] for key in body} == body
        for field in ("slug", "external_reference"):
            check(client.patch(path, json={field: payload}, headers=stored), payload)
        check(client.patch(where, json={"sku": payload}, headers=stored), payload)
        check(client.patch(path, json={payload: 1}, headers=stored), payload)
        stock = {"delta": 1, "reason": payload}
        assert client.post(f"{where}/stock", json=stock, headers=staff).status_code == 200
        moved = client.get(f"{where}/stock/movements?limit=1", headers=staff).get_json()
        assert moved["items"][0]["reason"] == payload
    assert len(client.get(f"{API}/products", headers=staff).get_json()["items"]) == 1


def test_no_header_reaches_the_database_as_anything_but_a_value(
    app: Flask, client: FlaskClient, engine: Engine, staff: Headers, filled: None
) -> None:
    """IN-06."""
    before = state(engine)
    for payload in PAYLOADS:
        for name in ("If-None-Match", "If-Modified-Since", "X-Request-ID", "Authorization"):
            check(client.get(f"{API}/products/1", headers={name: payload}), payload)
        for form in ("{}", '"{}"', '"1{}"'):
            headers = staff | {"If-Match": form.format(payload)}
            check(client.patch(f"{API}/products/1", json={}, headers=headers), payload)
    assert state(engine) == before


def shapes(kind: type[Schema] = StrictSchema) -> Iterator[type[Schema]]:
    """Every shape of the shop."""
    for shape in kind.__subclasses__():
        if shape.__module__.startswith("shop."):
            yield shape
        yield from shapes(shape)


def patterns(app: Flask) -> dict[str, Form]:
    """Every pattern that a text of a client is compared with, by what it is."""
    assert app.blueprints, "its views have been loaded, and so have the shapes"
    found = {}
    for shape in set(shapes()):
        for name, field in shape._declared_fields.items():
            inner = field.inner if isinstance(field, fields.List) else field
            for validator in inner.validators:
                if isinstance(validator, Form):
                    found[f"{shape.__name__}.{name}"] = validator
            if isinstance(inner, Attributes):
                found[f"{shape.__name__}.{name} (names)"] = inner.names
    return found


HOSTILE = ("a", " ", "-", "a-", "-a", "0", "0-", ".", "a.", "\xa0", "\u3000a", "aA", "!", "_", "\t",
           "\n", "a ", "\\", "(", "é", "🪑")  # fmt: skip


@pytest.mark.full
def test_no_pattern_takes_long_for_any_text(app: Flask) -> None:
    """IN-09: 50 kB, as long as no length forbids it, that match up to their last character."""
    found = patterns(app)
    assert len(found) > 20

    for name, form in found.items():
        for piece in HOSTILE:
            for end in ("", "\0", "\n", "!", "A", "é"):
                text = piece * (50_000 // len(piece)) + end
                began = time.perf_counter()
                form.regex.fullmatch(text)
                assert time.perf_counter() - began < 0.2, (name, piece, end)


def test_no_pattern_has_two_ways_to_read_a_text(app: Flask) -> None:
    """IN-09: what takes long for a text tries all of them. One that did would not end here."""
    for name, form in patterns(app).items():
        assert not re.search(r"[+*]\)[+*{]|[+*][+*]", form.regex.pattern), name
        for piece in HOSTILE:
            assert not form.regex.fullmatch(piece * 5_000 + "\0"), (name, piece)


def test_long_texts_are_refused_wherever_a_client_writes_one(
    client: FlaskClient, staff: Headers
) -> None:
    """IN-09, IN-12."""
    for piece in HOSTILE:
        long = piece * (50_000 // len(piece))
        body = {"name": long, "slug": long, "description": long, "attributes": {long: long},
                "external_reference": long}  # fmt: skip
        answer = client.post(f"{API}/products", json=factories.product_body(**body), headers=staff)
        # Outside of ASCII it may be more than the shop reads at all.
        assert answer.status_code in (413, 422), piece
        # A line of a request is no longer than this.
        part = quote(long)[:7_992]
        for path in (f"{API}/products/{part}", f"{API}/products?cursor={part}"):
            assert client.get(path).status_code in (404, 422), piece


TEXTS = (
    "🪑", "👩‍👩‍👧‍👦🏳️‍🌈", "e\u0301", "\u00e9", "\u202eright to left", "مرحبا",
    "zero\u200bwidth\u200d", "\ufeffBOM",
    "ﬁ", "ß", "İ", "ı", "\u0130\u0307", "𝔘𝔫𝔦",
    "\U0010ffff", "\ue000", "a\u0300\u0301\u0302" * 5, "漢字",
    "tab\there", "two\nlines", "nul in words: \\0",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_stored_to_the_character_on_both_engines(
    client: FlaskClient, staff: Headers, text: str
) -> None:
    """IN-12: in a field of several lines, a name, an attribute, and at its greatest length."""
    line = text.replace("\n", " ").replace("\t", " ")
    longest = (line * 200)[:199] + "x"
    body = {"name": line, "description": text, "attributes": {"it": longest},
            "metadata": {"it": line}}  # fmt: skip

    made = factories.create_product(client, staff, **body)
    factories.create_product(client, staff, name=longest)

    read = client.get(f"{API}/products/{made['id']}").get_json()
    assert {key: read[key] for key in body} == body
    newest = client.get(f"{API}/products?limit=1").get_json()["items"][0]
    assert newest["name"] == longest


@pytest.mark.parametrize("text", ["two\r\nlines", "bell\a", "\0", "del\x7f", "esc\x1b[2J"])
def test_control_characters_are_refused_on_both_engines(
    client: FlaskClient, staff: Headers, text: str
) -> None:
    """IN-12."""
    for field in ("name", "description"):
        answer = client.post(
            f"{API}/products", json=factories.product_body(**{field: text}), headers=staff
        )
        assert answer.status_code == 422


def test_one_character_too_many_is_refused_on_both_engines(
    client: FlaskClient, staff: Headers
) -> None:
    """IN-12: characters count, not bytes."""
    for field, most in (("name", 200), ("slug", 200), ("description", 20_000)):
        piece = "a" if field == "slug" else "🪑"
        for size, status in ((most, 201), (most + 1, 422)):
            body = factories.product_body(**{field: piece * size})
            answer = client.post(f"{API}/products", json=body, headers=staff)
            assert answer.status_code == status, (field, size)
