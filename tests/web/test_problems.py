"""Every refusal is a problem in the sense of RFC 9457."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError

from config import Config
from shop import create_app
from shop.products.views import products as views
from shop.web.problems import PROBLEMS
from tests import factories
from tests.servers import free_port
from tests.web.checks import assert_problem

URL = "/api/v1/products"
NOWHERE = (
    "/", "/api", "/api/v1", "/api/v1/nothing", "/API/V1/products", "/api/v1/Products",
    "/api/v1/products/", "/api/v1//products", "//api/v1/products", "/api/v1/products//1",
    "/api/v1/products/1/", "/health/live/", "/docs/", "/docs/../config.py", "/static/docs.html",
    "/api/v1/products/%00", "/api/v1/products/0", "/api/v1/products/%2e%2e%2fusers",
)  # fmt: skip


@pytest.mark.parametrize("path", NOWHERE)
def test_an_unknown_address_is_a_problem_and_never_a_redirect(
    client: FlaskClient, path: str
) -> None:
    assert_problem(client.get(path), "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", URL, "GET, HEAD, OPTIONS, POST"),
        ("TRACE", URL, "GET, HEAD, OPTIONS, POST"),
        ("BREW", URL, "GET, HEAD, OPTIONS, POST"),
        ("POST", f"{URL}/1", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("GET", "/api/v1/auth/login", "OPTIONS, POST"),
        ("DELETE", "/health/live", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    client: FlaskClient, method: str, path: str, allowed: str
) -> None:
    answer = client.open(path, method=method)

    assert_problem(answer, "method-not-allowed")
    assert ", ".join(sorted(answer.headers["Allow"].split(", "))) == allowed


def test_a_body_that_is_no_json_is_malformed(client: FlaskClient, staff: dict[str, str]) -> None:
    answer = client.post(URL, data="{", content_type="application/json", headers=staff)

    assert_problem(answer, "malformed")


def test_who_must_sign_in_is_told_how(client: FlaskClient) -> None:
    answer = client.get("/api/v1/users/me")

    assert_problem(answer, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="shop"'


def test_who_shows_a_bad_token_is_told_so(client: FlaskClient) -> None:
    answer = client.get("/api/v1/users/me", headers={"Authorization": "Bearer nonsense"})

    assert_problem(answer, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="shop", error="invalid_token"'


def test_a_customer_may_not_create_products_whatever_the_body_is(
    client: FlaskClient, customer: dict[str, str]
) -> None:
    assert_problem(client.post(URL, data="{", headers=customer), "forbidden")


def test_a_taken_slug_is_a_conflict(client: FlaskClient, staff: dict[str, str]) -> None:
    factories.create_product(client, staff, slug="oak")

    answer = client.post(URL, json=factories.product_body(slug="oak"), headers=staff)

    assert_problem(answer, "conflict")


def test_a_stale_or_missing_version_is_refused(client: FlaskClient, staff: dict[str, str]) -> None:
    address = f"{URL}/{factories.create_product(client, staff)['id']}"

    stale = client.patch(address, json={}, headers=staff | {"If-Match": '"7"'})
    missing = client.patch(address, json={}, headers=staff)

    assert_problem(stale, "version-conflict")
    assert_problem(missing, "version-required")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_too_large_however_it_is_sent(
    app: Flask, staff: dict[str, str], chunked: bool
) -> None:
    raw = b'{"name": "' + b"x" * app.config["MAX_CONTENT_LENGTH"] + b'"}'
    environ: dict[str, Any] = {"wsgi.input": io.BytesIO(raw)}
    if chunked:
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    else:
        environ["CONTENT_LENGTH"] = str(len(raw))

    answer = app.test_client().post(
        URL, content_type="application/json", headers=staff, environ_overrides=environ
    )

    assert_problem(answer, "too-large")


@pytest.mark.parametrize("size", ["small", "exactly the limit"])
def test_a_chunked_body_up_to_the_limit_is_read(
    app: Flask, staff: dict[str, str], size: str
) -> None:
    raw = b"{}" if size == "small" else b"{}".ljust(app.config["MAX_CONTENT_LENGTH"])

    answer = app.test_client().post(
        URL,
        content_type="application/json",
        headers=staff,
        environ_overrides={"wsgi.input": io.BytesIO(raw), "wsgi.input_terminated": True},
    )

    assert_problem(answer, "validation", "/name", "/variants")


def test_each_wrong_value_has_a_pointer(client: FlaskClient, staff: dict[str, str]) -> None:
    body = {
        "name": "",
        "attributes": {"Bad/Key": "x", "a": 1.5},
        "variants": [factories.variant_body(price={"amount": 1.5, "currency": "EUR"}, colour="x")],
    }

    answer = client.post(URL, json=body, headers=staff)

    pointers = sorted(fault["pointer"] for fault in answer.get_json()["errors"])
    assert pointers == [
        "/attributes/Bad~1Key", "/attributes/a", "/name", "/variants/0/colour",
        "/variants/0/price/amount",
    ]  # fmt: skip


def test_the_shop_tells_the_first_hundred_faults_and_no_more(
    client: FlaskClient, staff: dict[str, str]
) -> None:
    answer = client.post(URL, json={f"key{n}": n for n in range(10_000)}, headers=staff)

    assert answer.status_code == 422
    assert len(answer.get_json()["errors"]) == 100


def test_a_mistake_of_the_shop_tells_nothing_internal(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_values: Any) -> None:
        raise RuntimeError("SELECT secret FROM /srv/shop.py")

    monkeypatch.setattr(views, "read", broken)
    monkeypatch.setitem(app.config, "PROPAGATE_ERRORS", False)

    body = assert_problem(client.get(f"{URL}/1"), "internal")

    assert body["detail"] == PROBLEMS["internal"][2]


def test_an_error_of_the_database_that_is_no_outage_is_a_mistake_of_the_shop(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_values: Any) -> None:
        raise OperationalError("SELECT 1 FROM x", {}, Exception(1064, "syntax"))

    monkeypatch.setattr(views, "read", broken)
    monkeypatch.setitem(app.config, "PROPAGATE_ERRORS", False)

    assert_problem(client.get(f"{URL}/1"), "internal")


def test_the_shop_without_its_database_asks_to_come_back(tmp_path: Path) -> None:
    url = f"mysql+pymysql://root:canary@127.0.0.1:{free_port()}/shop"
    client = create_app(Config(env="testing", var=tmp_path, database_url=url)).test_client()

    answers = [client.get(URL), client.get(f"{URL}/1"), client.post("/api/v1/auth/login", json={
        "email": "a@example.com", "password": "x"})]  # fmt: skip

    for answer in answers:
        assert_problem(answer, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert "canary" not in answer.text


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
def test_each_kind_of_problem_has_a_page(client: FlaskClient, slug: str) -> None:
    answer = client.get(f"/problems/{slug}")

    assert answer.status_code == 200
    assert answer.content_type == "text/plain; charset=utf-8"
    assert PROBLEMS[slug][1] in answer.text
    assert str(PROBLEMS[slug][0]) in answer.text


def test_an_unknown_kind_of_problem_has_no_page(client: FlaskClient) -> None:
    assert_problem(client.get("/problems/nonsense"), "not-found")


@pytest.mark.parametrize(
    "path", [URL, f"{URL}/1", "/health/live", "/openapi.json", "/api/v1/users/me", "/nowhere"]
)
def test_head_is_get_without_a_body(client: FlaskClient, path: str) -> None:
    head, get = client.head(path), client.get(path)

    assert head.data == b""
    assert (head.status_code, head.content_type) == (get.status_code, get.content_type)
    assert head.headers.get("ETag") == get.headers.get("ETag")
