"""Who may do what: the document says it, and only a token of this shop proves who calls."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, create_refresh_token
from openapi_spec_validator import validate

from config import Config
from shop import create_app
from shop.users import sessions
from shop.users.models import User
from shop.web.callers import SCOPES, access_token
from tests import factories
from tests.web.checks import assert_problem

ME = "/api/v1/users/me"
#: Some that an administrator may call.
GUARDED = (
    ("GET", ME), ("GET", f"{ME}/sessions"), ("GET", "/api/v1/users"), ("GET", "/api/v1/api-keys"),
    ("POST", "/api/v1/products"), ("DELETE", "/api/v1/users/1/sessions"),
)  # fmt: skip
Operation = dict[str, Any]


def documented(app: Flask) -> list[tuple[str, str, Operation]]:
    """Method, path and description of every operation."""
    document = app.test_client().get("/openapi.json").get_json()
    return [
        (method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def test_the_document_is_valid_openapi_3_1(client: FlaskClient) -> None:
    answer = client.get("/openapi.json")

    assert answer.content_type == "application/json"
    document = answer.get_json()
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_the_document_has_every_route_of_the_api_and_no_other(app: Flask) -> None:
    routes = {
        (method, rule.rule.replace("<id:", "<").replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }

    assert {(method, path) for method, path, _ in documented(app)} == routes


def test_every_operation_says_who_may_call_it_and_how_it_refuses(app: Flask) -> None:
    operations = documented(app)
    assert len({operation["operationId"] for _, _, operation in operations}) == len(operations)
    for method, path, operation in operations:
        check_access(f"{method} {path}", operation)
        check_refusals(f"{method} {path}", operation)


def check_access(name: str, operation: Operation) -> None:
    """Roles, scope and the ways to show who one is agree."""
    roles, scope = set(operation["x-roles"]), operation.get("x-scope")
    assert roles <= {"anonymous", "customer", "staff", "admin"}, name
    assert "admin" in roles, name
    assert scope is None or scope in SCOPES, name
    assert ({} in operation["security"]) == ("anonymous" in roles), name
    assert {"access_token": []} in operation["security"], name
    takes_keys = scope is not None or "anonymous" in roles
    assert ({"api_key": []} in operation["security"]) == takes_keys, name


def check_refusals(name: str, operation: Operation) -> None:
    """What an operation may answer follows from what it takes."""
    statuses = set(operation["responses"])
    parameters = operation.get("parameters", [])
    assert operation["summary"], name
    assert {"400", "401", "500", "503"} <= statuses, name
    assert ("403" in statuses) == ("anonymous" not in operation["x-roles"]), name
    if "requestBody" in operation:
        assert {"400", "413", "415", "422"} <= statuses, name
    if any(p["in"] == "query" for p in parameters):
        assert "422" in statuses, name
    if any(p["in"] == "path" for p in parameters):
        assert "404" in statuses, name
    if any(p["name"] == "If-Match" for p in parameters):
        assert {"412", "428"} <= statuses, name


def bearer(token: str) -> dict[str, str]:
    """Headers that show this token."""
    return {"Authorization": f"Bearer {token}"}


def token_of(headers: dict[str, str]) -> str:
    """The token that these headers show."""
    return headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("who", ["anonymous", "customer"])
def test_who_may_not_create_learns_nothing_about_the_body(
    client: FlaskClient, customer: dict[str, str], who: str
) -> None:
    status, headers = {"anonymous": (401, {}), "customer": (403, customer)}[who]
    for raw in (b"{", b"{}", json.dumps(factories.product_body()).encode(), b"[" * 100_000):
        answer = client.post("/api/v1/products", data=raw, headers=headers)
        assert answer.status_code == status


def part(value: Any) -> str:
    """One part of a token: base64url of JSON, or of bytes as they are."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(head: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    """A token with any head, under HMAC-SHA256 whatever the head says."""
    content = f"{part(head)}.{part(claims)}"
    return f"{content}.{part(hmac.digest(key, content.encode(), hashlib.sha256))}"


def claims_of(token: str) -> dict[str, Any]:
    """What a token says."""
    return jwt.decode(token, options={"verify_signature": False})


def refused_everywhere(client: FlaskClient, what: str, token: str) -> None:
    """The token opens none of the guarded operations."""
    for method, path in GUARDED:
        answer = client.open(path, method=method, headers=bearer(token))
        assert answer.status_code == 401, f"{what}: {method} {path}"
        assert_problem(answer, "unauthenticated")
        challenge = answer.headers["WWW-Authenticate"]
        assert challenge == 'Bearer realm="shop", error="invalid_token"', what


def test_an_unsigned_token_is_refused_whatever_it_calls_its_algorithm(
    app: Flask, client: FlaskClient, admin: dict[str, str]
) -> None:
    """AU-01."""
    right = token_of(admin)
    claims = claims_of(right)
    _, body, signature = right.split(".")
    for method, path in GUARDED[:-1]:
        answer = client.open(path, method=method, headers=admin)
        assert answer.status_code in (200, 415), path

    for name in ("none", "None", "nOnE", "NONE", "", None, "HS256"):
        head = part({"alg": name, "typ": "JWT"})
        for mark in ("", signature if name != "HS256" else "AAAA"):
            refused_everywhere(client, f"alg {name!r}", f"{head}.{body}.{mark}")
    refused_everywhere(client, "alg missing", f"{part({'typ': 'JWT'})}.{body}.{signature}")
    refused_everywhere(client, "two parts", f"{part({'alg': 'none'})}.{part(claims)}")


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """The address of a listener, and what was asked of it."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 (named by the library)
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_what: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@cache
def rsa_key() -> tuple[bytes, bytes]:
    """A private key of somebody else, and its public half, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(pem, form, plain), public


def key_confusions(claims: dict[str, Any], url: str) -> dict[str, str]:
    """Tokens that name the key to check them with, or one that everybody knows."""
    private, public = rsa_key()
    own = {"kty": "oct", "k": part(b"own key, long enough to be one...")}
    heads: dict[str, tuple[dict[str, Any], bytes]] = {
        "public key as secret": ({}, public),
        "own jwk": ({"jwk": own}, b"own key, long enough to be one..."),
        "jku": ({"jku": f"{url}/jku.json", "kid": "1"}, b"own key, long enough to be one..."),
        "x5u": ({"x5u": f"{url}/x5u.pem"}, public),
        "x5c": ({"x5c": [part(public)]}, public),
        "kid of an empty file": ({"kid": "../../../../../../dev/null"}, b""),
        "kid of a path": ({"kid": "/proc/sys/kernel/randomize_va_space"}, b"2\n"),
        "kid of a query": ({"kid": "' UNION SELECT 'key' -- "}, b"key"),
        "kid of a command": ({"kid": f"|curl {url}/kid"}, b"key"),
        "kid of an address": ({"kid": f"{url}/kid"}, b"key"),
        "kid of 10 kB": ({"kid": "k" * 10_000}, b""),
        "kid of no text": ({"kid": {"$ne": None}}, b""),
    }
    found = {
        name: signed({"alg": "HS256", "typ": "JWT", **head}, claims, key)
        for name, (head, key) in heads.items()
    }
    for name, head in {"RS256": {}, "RS256 jku": {"jku": f"{url}/rs.json", "kid": "1"}}.items():
        found[name] = jwt.encode(claims, private, "RS256", headers=head)
    return found


def test_no_token_says_which_key_to_check_it_with(
    client: FlaskClient, admin: dict[str, str], canary: tuple[str, list[str]]
) -> None:
    """AU-02."""
    url, asked = canary

    for what, token in key_confusions(claims_of(token_of(admin)), url).items():
        refused_everywhere(client, what, token)

    assert asked == []
    # The listener would have told.
    requests.get(f"{url}/self-test", timeout=5)
    assert asked == ["/self-test"]


def open_session(app: Flask, user: User) -> str:
    """An access token of a new session."""
    return token_of(factories.headers_of(app, user))


def end_session(app: Flask, token: str) -> None:
    """End the session of a token, and commit that."""
    claims = claims_of(token)
    from shop.db import db, transactional

    with app.app_context():
        transactional(sessions.end_sessions)(db.session(), int(claims["sub"]), only=int(claims["sid"]))
