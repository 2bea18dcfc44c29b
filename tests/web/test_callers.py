"""Who may do what: the document says it, and the shop does what the document says."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, create_refresh_token
from openapi_spec_validator import validate
from sqlalchemy.orm import Session

from config import Config
from shop import create_app
from shop.users.models import User
from tests import factories
from tests.web.checks import assert_problem

ME = "/api/v1/users/me"
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
        check_operation(f"{method} {path}", operation)


def check_operation(name: str, operation: Operation) -> None:
    roles = set(operation["x-roles"])
    statuses = set(operation["responses"])
    assert roles <= {"anonymous", "customer", "staff", "admin"}, name
    assert "admin" in roles, name
    assert ({} in operation["security"]) == ("anonymous" in roles), name
    assert {"access_token": []} in operation["security"], name
    assert operation["summary"], name
    assert {"401", "500", "503"} <= statuses, name
    assert ("403" in statuses) == (not {"customer", "staff"} <= roles), name
    if "requestBody" in operation:
        assert {"400", "413", "415", "422"} <= statuses, name
    if any(p["in"] == "query" for p in operation.get("parameters", [])):
        assert "422" in statuses, name
    if any(p["in"] == "path" for p in operation.get("parameters", [])):
        assert "404" in statuses, name
    if any(p["name"] == "If-Match" for p in operation.get("parameters", [])):
        assert {"412", "428"} <= statuses, name


@pytest.fixture
def callers(app: Flask, session: Session) -> dict[str, dict[str, str]]:
    """Headers of each kind of caller."""
    headers = {role: factories.sign_in(app, role) for role in ("customer", "staff", "admin")}
    barred = factories.create_user(app, role="admin")
    with app.app_context():
        old = create_access_token(str(barred.id), expires_delta=timedelta(seconds=-1))
        headers["disabled"] = bearer(create_access_token(str(barred.id)))
    account = session.get_one(User, barred.id)
    account.disabled = True
    session.commit()
    return headers | {"anonymous": {}, "expired": bearer(old), "nonsense": bearer("x.y.z")}


def bearer(token: str) -> dict[str, str]:
    """Headers that show this token."""
    return {"Authorization": f"Bearer {token}"}


def test_every_operation_lets_in_exactly_whom_the_document_names(
    app: Flask, client: FlaskClient, callers: dict[str, dict[str, str]]
) -> None:
    for method, path, operation in documented(app):
        for who, headers in callers.items():
            # Nothing behind the door: who gets in is refused for another reason.
            answer = client.open(path.replace("{id}", "999"), method=method, headers=headers)
            name = f"{who}: {method} {path}: {answer.text}"
            if who in operation["x-roles"]:
                assert answer.status_code not in (401, 403), name
            elif who in ("customer", "staff"):
                assert answer.status_code == 403, name
            else:
                assert answer.status_code == 401, name


@pytest.mark.parametrize("who", ["anonymous", "customer"])
def test_who_may_not_create_learns_nothing_about_the_body(
    client: FlaskClient, callers: dict[str, dict[str, str]], who: str
) -> None:
    status = {"anonymous": 401, "customer": 403}[who]
    for raw in (b"{", b"{}", json.dumps(factories.product_body()).encode(), b"[" * 100_000):
        answer = client.post("/api/v1/products", data=raw, headers=callers[who])
        assert answer.status_code == status


def forged(app: Flask) -> dict[str, str]:
    """Tokens for a real administrator, each wrong in one way."""
    user = factories.create_user(app, role="admin")
    key = app.config["SECRET_KEY"]
    with app.app_context():
        right = create_access_token(str(user.id))
        refresh = create_refresh_token(str(user.id))
    assert app.test_client().get(ME, headers=bearer(right)).status_code == 200
    claims = jwt.decode(right, options={"verify_signature": False})
    head, body, signature = right.split(".")

    def sign(key: str = key, algorithm: str = "HS256", **changes: Any) -> str:
        wanted = {name: value for name, value in (claims | changes).items() if value is not None}
        return jwt.encode(wanted, key, algorithm)

    other = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "1"}).encode()).decode()
    return {
        "refresh": refresh,
        "no algorithm": jwt.encode(claims, "", "none"),
        "no signature": f"{head}.{body}.",
        "cut signature": right[:-5],
        "other claims": f"{head}.{other.rstrip('=')}.{signature}",
        "foreign key": sign("another key that is also long enough for it"),
        "another algorithm": sign(key * 2, "HS512"),
        "expired": sign(exp=int(time.time()) - 1),
        "not yet": sign(nbf=int(time.time()) + 60),
        "other audience": sign(aud="blog"),
        "no audience": sign(aud=None),
        "other issuer": sign(iss="blog"),
        "no issuer": sign(iss=None),
        "no subject": sign(sub=None),
        "nobody": sign(sub="999999999"),
        "no number": sign(sub="admin"),
        "Arabic digit": sign(sub="١"),
        "huge number": sign(sub="9" * 30),
        "endless number": sign(sub="9" * 5_000),
        "empty": "",
        "two tokens": f"{right} {right}",
    }


def test_a_forged_token_opens_nothing(app: Flask, client: FlaskClient) -> None:
    for what, token in forged(app).items():
        answer = client.get(ME, headers=bearer(token))
        assert answer.status_code == 401, what
        assert_problem(answer, "unauthenticated")


@pytest.mark.parametrize("scheme", ["Basic", "Token", "", "Bearer:", "JWT"])
def test_another_scheme_opens_nothing(
    client: FlaskClient, admin: dict[str, str], scheme: str
) -> None:
    token = admin["Authorization"].removeprefix("Bearer ")

    answer = client.get(ME, headers={"Authorization": f"{scheme} {token}".strip()})

    assert_problem(answer, "unauthenticated")


def test_a_token_is_read_from_nowhere_but_its_header(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    token = admin["Authorization"].removeprefix("Bearer ")
    client.set_cookie("access_token_cookie", token)

    answer = client.get(f"{ME}?jwt={token}&access_token={token}")

    assert_problem(answer, "unauthenticated")


def test_a_token_of_another_shop_opens_nothing(app: Flask, admin: dict[str, str]) -> None:
    config: Config = app.extensions["shop"].config
    other = create_app(
        Config(
            env="testing",
            var=config.var,
            database_url=config.database_url,
            sinks=(),
            secret_key="the key of another shop, long enough",
        )
    )

    assert_problem(other.test_client().get(ME, headers=admin), "unauthenticated")
    other.extensions["shop"].engine.dispose()


def test_a_change_of_role_counts_at_the_next_request(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    user = factories.create_user(app, role="staff")
    with app.app_context():
        headers = bearer(create_access_token(str(user.id)))
    assert client.post("/api/v1/products", headers=headers).status_code == 415

    session.get_one(User, user.id).role = "customer"
    session.commit()

    assert_problem(client.post("/api/v1/products", headers=headers), "forbidden")
