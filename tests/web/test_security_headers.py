"""What every answer tells browsers and proxies, and what the shop lets them tell it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop.limits.models import RateCounter
from shop.products.views import products as views
from shop.users.models import UserSession
from tests import factories
from tests.conftest import create_shop
from tests.running import RunningShop
from tests.users.test_accounts import limit, registration
from tests.users.test_mail_flows import FRONT, Post, code_in
from tests.web.checks import assert_problem

API = "/api/v1"
USERS, ME, LOGIN = f"{API}/users", f"{API}/users/me", f"{API}/auth/login"
HSTS = "max-age=31536000; includeSubDomains"
TLS = {"X-Forwarded-Proto": "https"}
Headers = dict[str, str]


def check_hardened(answer: TestResponse | requests.Response) -> None:
    """What holds for each and every answer."""
    headers = answer.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    # The page of the documentation has scripts: its own ones.
    assert policy.partition("script-src ")[2].partition(";")[0] in ("", "'self'")
    assert headers["X-Request-ID"]
    for name in ("Set-Cookie", "X-Powered-By", "Via", "X-AspNet-Version", "X-Runtime"):
        assert name not in headers
    # A name is no secret, a version tells what to try.
    assert not any(character.isdigit() for character in headers.get("Server", ""))


def kinds(app: Flask) -> dict[str, Callable[[FlaskClient], TestResponse]]:
    """An answer of each kind, by status."""
    user = factories.create_user(app)
    mine, boss = factories.headers_of(app, user), factories.sign_in(app, "admin")
    credentials = {"email": user.email, "password": factories.PASSWORD}
    tag = app.test_client().get(ME, headers=mine).headers["ETag"]
    json_type = {"Content-Type": "application/json"}
    fresh = (factories.headers_of(app, user) for _ in range(2))
    return {
        "200 me": lambda c: c.get(ME, headers=mine),
        "200 list": lambda c: c.get(USERS, headers=boss),
        "200 tokens": lambda c: c.post(LOGIN, json=credentials),
        "200 export": lambda c: c.get(f"{ME}/export", headers=mine),
        "200 preflight": lambda c: c.options(USERS),
        "201": lambda c: c.post(USERS, json=registration()),
        "202": lambda c: c.post(f"{API}/auth/password/forgot", json={"email": user.email}),
        "204": lambda c: c.delete(f"{ME}/sessions", headers=next(fresh)),
        "304": lambda c: c.get(ME, headers=next(fresh) | {"If-None-Match": tag}),
        "400": lambda c: c.post(LOGIN, data=b"{", headers=json_type),
        "401": lambda c: c.get(ME),
        "401 token": lambda c: c.get(ME, headers={"Authorization": "Bearer x"}),
        "403": lambda c: c.get(USERS, headers=factories.sign_in(app, "customer")),
        "404": lambda c: c.get(f"{USERS}/999999", headers=boss),
        "404 nowhere": lambda c: c.get("/nowhere"),
        "405": lambda c: c.put(ME),
        "409": lambda c: c.post(USERS, json=registration(email=user.email)),
        "412": lambda c: c.delete(ME, headers=boss | {"If-Match": '"9"'}),
        "413": lambda c: c.post(LOGIN, data=b" " * (2**20 + 1), headers=json_type),
        "415": lambda c: c.post(LOGIN, data=b"x"),
        "422": lambda c: c.post(LOGIN, json={}),
    }  # fmt: skip


def test_every_kind_of_answer_is_hardened(app: Flask, client: FlaskClient) -> None:
    """IN-19."""
    for kind, ask in kinds(app).items():
        answer = ask(client)
        assert answer.status_code == int(kind[:3]), f"{kind}: {answer.text}"
        check_hardened(answer)
        assert "Strict-Transport-Security" not in answer.headers
        if answer.status_code >= 400 or "Authorization" in answer.request.headers:
            assert answer.headers["Cache-Control"] == "no-store", kind
    assert client.post(LOGIN, json={}).headers["Cache-Control"] == "no-store"


def test_answers_to_mistakes_and_to_who_is_too_eager_are_hardened(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IN-19."""
    limit(app, monkeypatch, mail_address="1 per 1 hour")
    monkeypatch.setitem(app.config, "PROPAGATE_ERRORS", False)
    monkeypatch.setattr(views, "read", None)
    eager = [client.post(f"{API}/auth/email/resend", json={"email": "a@b.co"}) for _ in range(2)]

    for answer, slug in ((eager[1], "rate-limited"), (client.get(f"{API}/products/1"), "internal")):
        assert_problem(answer, slug)
        check_hardened(answer)
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.fixture
def behind_a_proxy(tmp_path: Path) -> Flask:
    """A shop that believes the one proxy in front of it."""
    return create_shop(tmp_path, trusted_proxies=1)


def test_browsers_are_told_to_keep_to_tls_when_they_came_by_it(behind_a_proxy: Flask) -> None:
    """IN-19."""
    client = behind_a_proxy.test_client()
    client.environ_base["HTTP_X_FORWARDED_PROTO"] = "https"

    for kind, ask in kinds(behind_a_proxy).items():
        answer = ask(client)
        assert answer.status_code == int(kind[:3]), kind
        assert answer.headers["Strict-Transport-Security"] == HSTS, kind


@pytest.mark.parametrize("proto", ["http", "", "HTTPS,http", "https, http", "ftp"])
def test_browsers_that_came_without_tls_are_not(behind_a_proxy: Flask, proto: str) -> None:
    """IN-19: the last word is the proxy's own; before it stands what the client made up."""
    answer = behind_a_proxy.test_client().get(ME, headers={"X-Forwarded-Proto": proto})

    assert "Strict-Transport-Security" not in answer.headers


def test_nobody_but_a_trusted_proxy_says_that_it_was_tls(client: FlaskClient) -> None:
    """IN-19, IN-22."""
    forged = TLS | {"X-Forwarded-Ssl": "on", "Forwarded": "proto=https", "Front-End-Https": "on"}

    assert "Strict-Transport-Security" not in client.get(ME, headers=forged).headers


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """The shop as it is run: over gunicorn."""
    folder = tmp_path_factory.mktemp("running")
    settings: dict[str, Any] = {"sinks": "none", "scheduler": "off", "trusted_proxies": 1}
    with RunningShop(folder, "", None, workers=1, **settings) as shop:
        yield shop


def test_what_leaves_the_server_is_hardened_and_names_no_version(running: RunningShop) -> None:
    """IN-19."""
    big = b'{"email": "' + b"x" * 2**20 + b'"}'
    json_type = {"Content-Type": "application/json"}
    requested: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/health/live", {}), ("GET", "/nowhere", {}), ("GET", ME, {}), ("HEAD", ME, {}),
        ("OPTIONS", USERS, {}), ("POST", LOGIN, {"json": {}}), ("TRACE", ME, {}), ("PUT", ME, {}),
        ("POST", LOGIN, {"data": big, "headers": json_type}), ("GET", "/openapi.json", {}),
        ("POST", LOGIN, {"data": "{", "headers": json_type}), ("GET", "/docs", {}),
        ("POST", LOGIN, {"json": {"email": "a@example.com", "password": "wrong horse"}}),
    ]  # fmt: skip
    for method, path, options in requested:
        options["headers"] = options.get("headers", {}) | TLS
        answer = requests.request(method, f"{running.url}{path}", timeout=20, **options)
        assert answer.status_code < 500
        check_hardened(answer)
        assert answer.headers["Strict-Transport-Security"] == HSTS
        for banner in ("Python", "Werkzeug", "Flask", "gunicorn/", "MariaDB", "SQLite"):
            assert banner not in str(answer.headers)


COOKIES = (
    "session", "token", "jwt", "access_token", "access_token_cookie", "refresh_token",
    "refresh_token_cookie", "csrf_access_token", "Authorization", "authorization", "auth", "sid",
    "remember_token", "api_key",
)  # fmt: skip


def test_no_cookie_says_who_calls(app: Flask, client: FlaskClient) -> None:
    """IN-20: so no other site can act for whoever is signed in."""
    token = factories.sign_in(app, "admin")["Authorization"]
    for name in COOKIES:
        client.set_cookie(name, token.removeprefix("Bearer "))
    document = client.get("/openapi.json").get_json()

    closed = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "anonymous" not in operation["x-roles"]:
                closed += 1
                answer = client.open(path.replace("{id}", "1"), method=method.upper(), json={})
                assert_problem(answer, "unauthenticated")
                assert "Set-Cookie" not in answer.headers
    assert closed > 20


def test_no_answer_sets_a_cookie(app: Flask, client: FlaskClient) -> None:
    """IN-20."""
    for ask in kinds(app).values():
        assert "Set-Cookie" not in ask(client).headers
    assert client.get_cookie("session") is None


FORMS: dict[str, dict[str, Any]] = {
    "form": {"data": {"email": "a@example.com", "password": "x"}},
    "multipart": {"data": {"email": "a@example.com"}, "content_type": "multipart/form-data"},
    "text/plain": {
        "data": '{"email":"a@example.com","password":"x"}',
        "content_type": "text/plain",
    },
    "no type": {"data": '{"email":"a@example.com","password":"x"}'},
    "nearly": {"data": "{}", "content_type": "application/json-patch+json"},
    "hidden": {"data": "{}", "content_type": "text/plain; application/json"},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_a_form_of_another_site_can_send_is_not_taken(
    app: Flask, client: FlaskClient, form: str
) -> None:
    """IN-20: nor can another site sign somebody in as somebody else."""
    who = factories.sign_in(app, "admin")
    document = client.get("/openapi.json").get_json()
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"} | who

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                answer = client.open(
                    path.replace("{id}", "1"), method=method.upper(), headers=headers, **FORMS[form]
                )
                # What must name a version is asked for that first, or is not there at all.
                assert answer.status_code in (404, 415, 428), f"{method} {path}: {answer.text}"
                if path.startswith((f"{API}/auth", USERS)):
                    assert_problem(answer, "unsupported-media-type")


def test_an_allowed_origin_can_read_errors_too_and_caches_are_told(tmp_path: Path) -> None:
    """IN-18."""
    allowed = ("https://shop.example", "http://localhost:3000")
    client = create_shop(tmp_path, cors_origins=allowed).test_client()

    for origin in allowed:
        for path, status in ((f"{API}/products", 200), (ME, 401), ("/nowhere", 404)):
            answer = client.get(path, headers={"Origin": origin})
            assert answer.status_code == status
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert "Origin" in answer.headers["Vary"]
            assert "Access-Control-Allow-Credentials" not in answer.headers
    for origin in ("http://localhost:3001", "https://localhost:3000", "http://localhost", "null"):
        answer = client.get(ME, headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_credentials_are_allowed_to_no_origin_even_when_all_may_call(tmp_path: Path) -> None:
    """IN-18."""
    client = create_shop(tmp_path, cors_origins=("*",)).test_client()
    wish = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

    for answer in (client.options(LOGIN, headers=wish), client.get(ME, headers=wish)):
        assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://evil.example")
        assert "Access-Control-Allow-Credentials" not in answer.headers


FORGED = {
    "Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil", "X-Forwarded-Port": "666", "X-Original-URL": "/evil",
    "X-Rewrite-URL": "/evil", "X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9",
    "True-Client-IP": "203.0.113.9", "X-Client-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=https",
}  # fmt: skip


def test_no_answer_repeats_a_forged_host(app: Flask, client: FlaskClient) -> None:
    """IN-22."""
    staff = factories.sign_in(app, "staff")
    created = client.post(USERS, json=registration(), headers=FORGED)
    listed = client.get(f"{USERS}?limit=1", headers=staff | FORGED)
    product = client.post(
        f"{API}/products", json=factories.product_body(), headers=staff | FORGED
    )  # fmt: skip

    assert created.headers["Location"] == ME
    assert listed.headers["Link"].startswith(f"<{USERS}?")
    assert product.headers["Location"].startswith(f"{API}/products/")
    for path in ("/openapi.json", "/docs", "/nowhere", ME, "/health/ready"):
        answer = client.get(path, headers=FORGED, buffered=True)
        assert "evil" not in answer.text + str(answer.headers)
    for answer in (created, listed, product):
        assert "evil" not in answer.text + str(answer.headers)


@pytest.mark.parametrize("public_url", [FRONT, f"{FRONT}/", ""])
def test_links_in_mail_lead_where_the_settings_say_whatever_a_request_says(
    app: Flask, client: FlaskClient, public_url: str
) -> None:
    """IN-22."""
    post = Post(app, public_url)
    created = client.post(USERS, json=registration(), headers=FORGED)
    assert created.headers["Location"] == ME
    client.post(f"{API}/auth/password/forgot", json={"email": "anna@example.com"}, headers=FORGED)
    client.post(f"{API}/auth/email/resend", json={"email": "anna@example.com"}, headers=FORGED)

    letters = post.deliver()

    assert len(letters) == 3
    for letter in letters:
        links = re.findall(r"[a-z]+://[^\s\"<]+", letter.text + letter.html)
        assert "evil" not in letter.text + letter.html
        assert all(link.startswith(f"{FRONT}/account/") for link in links)
        assert bool(links) == bool(public_url)
        assert len(code_in(letter.text)) == 43


def network_of_session(app: Flask, session: Session, **request: Any) -> str:
    """Where the shop takes a sign-in to come from."""
    user = factories.create_user(app)
    body = {"email": user.email, "password": factories.PASSWORD}
    answer = app.test_client().post(LOGIN, json=body, **request)
    assert answer.status_code == 200
    session.rollback()
    return (
        session.scalars(select(UserSession.address).order_by(UserSession.id.desc())).first() or ""
    )


def test_nobody_but_a_trusted_proxy_says_where_a_request_comes_from(
    app: Flask, session: Session, behind_a_proxy: Flask
) -> None:
    """IN-22."""
    here = {"REMOTE_ADDR": "198.51.100.1"}

    assert network_of_session(app, session, headers=FORGED, environ_base=here) == "198.51.100.1"
    with Session(behind_a_proxy.extensions["shop"].engine) as other:
        chain = {"X-Forwarded-For": "203.0.113.9, 192.0.2.4"}
        found = network_of_session(behind_a_proxy, other, headers=chain, environ_base=here)
        # What the proxy saw is the last one; all before it the client made up.
        assert found == "192.0.2.4"


@pytest.mark.parametrize("path", [f"{API}/auth/password/forgot", f"{API}/auth/email/resend", USERS])
def test_no_forged_header_evades_a_limit(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, session: Session
) -> None:
    """IN-22."""
    limit(app, monkeypatch, mail_address="3 per 1 hour", register="3 per 1 hour")
    taken = factories.create_user(app).email
    statuses = []
    for number in range(5):
        address = f"203.0.113.{number}"
        forged = dict.fromkeys(FORGED, address) | {"Forwarded": f"for={address}"}
        body = registration(email=taken) if path == USERS else {"email": f"a{number}@example.com"}
        statuses.append(client.post(path, json=body, headers=forged).status_code)

    assert statuses == [409 if path == USERS else 202] * 3 + [429] * 2
    counted = session.scalars(select(RateCounter.count)).all()
    assert sorted(counted)[-1] in (3, 5)
