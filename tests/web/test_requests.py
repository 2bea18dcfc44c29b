"""What every answer carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shop.products.views import products as views
from tests import factories
from tests.conftest import create_shop

URL = "/api/v1/products"
ANSWERS = (
    ("GET", URL), ("GET", f"{URL}/1"), ("GET", "/nowhere"), ("PUT", URL), ("OPTIONS", URL),
    ("POST", URL), ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/openapi.json"),
    ("GET", "/docs"), ("GET", "/docs/docs.js"), ("GET", "/problems/conflict"), ("HEAD", URL),
)  # fmt: skip


@pytest.mark.parametrize("given", ["a", "A-1.b_2", "x" * 64])
def test_a_sane_request_id_is_taken(client: FlaskClient, given: str) -> None:
    answer = client.get("/nowhere", headers={"X-Request-ID": given})

    assert answer.headers["X-Request-ID"] == given
    assert answer.get_json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "ä", '"', "a;b", "<b>", "{}"])
def test_any_other_request_id_is_replaced_by_one_of_our_own(
    client: FlaskClient, given: str
) -> None:
    ids = {
        client.get(URL, headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)
    }

    assert len(ids) == 2
    assert all(len(id_) == 24 and id_.isalnum() for id_ in ids)


@pytest.mark.parametrize(("method", "path"), ANSWERS)
def test_every_answer_is_hardened(client: FlaskClient, method: str, path: str) -> None:
    check_headers(client.open(path, method=method, buffered=True).headers)


def check_headers(headers: Any) -> None:
    assert headers["X-Request-ID"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Set-Cookie" not in headers
    assert "Access-Control-Allow-Origin" not in headers


def test_even_the_answer_to_a_mistake_of_the_shop_is_hardened(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_values: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(views, "read", broken)
    monkeypatch.setitem(client.application.config, "PROPAGATE_ERRORS", False)

    answer = client.get(f"{URL}/1")

    assert answer.status_code == 500
    check_headers(answer.headers)


def test_what_somebody_signed_in_reads_is_kept_by_no_cache(
    client: FlaskClient, customer: dict[str, str]
) -> None:
    for path in (URL, "/api/v1/users/me", "/nowhere"):
        assert client.get(path, headers=customer).headers["Cache-Control"] == "no-store"


def test_tokens_and_refusals_are_kept_by_no_cache(client: FlaskClient) -> None:
    user = factories.create_user(client.application)
    credentials = {"email": user.email, "password": factories.PASSWORD}

    tokens = client.post("/api/v1/auth/login", json=credentials)
    refusal = client.get("/nowhere")

    assert tokens.status_code == 200
    assert tokens.headers["Cache-Control"] == "no-store"
    assert refusal.headers["Cache-Control"] == "no-store"


ORIGINS = (
    "https://evil.example", "null", "https://shop.example.evil.example", "http://shop.example",
    "https://evil-shop.example", "https://shop.example:8443", "https://sub.shop.example", "*",
    "https://shopxexample", "HTTPS://shop.example/", "https://shop.example/path",
)  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_origin_is_allowed_unless_it_is_configured(client: FlaskClient, method: str) -> None:
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}

    answer = client.open(URL, method=method, headers=headers)

    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_only_the_configured_origin_is_allowed(tmp_path: Path) -> None:
    client = create_shop(tmp_path, cors_origins=("https://shop.example",)).test_client()
    wish = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "If-Match"}

    allowed = client.options(URL, headers={"Origin": "https://shop.example"} | wish)

    assert allowed.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "PATCH" in allowed.headers["Access-Control-Allow-Methods"]
    assert "if-match" in allowed.headers["Access-Control-Allow-Headers"].lower()
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    for origin in ORIGINS:
        for method in ("GET", "OPTIONS"):
            answer = client.open(URL, method=method, headers={"Origin": origin} | wish)
            assert "Access-Control-Allow-Origin" not in answer.headers, origin
