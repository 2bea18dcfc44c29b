"""Who may do what: the document says it, and only a token of this shop proves who calls."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from config import Config
from shop import create_app
from shop.web.callers import SCOPES
from tests import factories
from tests.users.checks import served
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
        (method, re.sub(r"<(?:\w+(?:\([^)]*\))?:)?(\w+)>", r"{\1}", rule.rule))
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


@pytest.mark.parametrize("scheme", ["Basic", "Token", "", "Bearer:", "JWT", "Bearer\t", "BearerX"])
def test_another_scheme_opens_nothing(
    client: FlaskClient, admin: dict[str, str], scheme: str
) -> None:
    """AU-21."""
    answer = client.get(ME, headers={"Authorization": f"{scheme} {token_of(admin)}".strip()})

    assert_problem(answer, "unauthenticated")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
def test_the_case_of_the_scheme_does_not_matter(
    client: FlaskClient, admin: dict[str, str], scheme: str
) -> None:
    """AU-21, as RFC 9110, section 11.1, has it."""
    answer = client.get(ME, headers={"Authorization": f"{scheme} {token_of(admin)}"})

    assert answer.status_code == 200


ODD: dict[str, Callable[[str], str]] = {
    "nothing": lambda token: "",
    "space": lambda token: "  ",
    "scheme alone": lambda token: "Bearer",
    "scheme and space": lambda token: "Bearer ",
    "token alone": lambda token: token,
    "tab": lambda token: f"Bearer\t{token}",
    "quotes": lambda token: f'Bearer "{token}"',
    "not ASCII": lambda token: f"Bearer {token}\xe9",
    "only not ASCII": lambda token: "Bearer \xe9\xff",
    "UTF-8": lambda token: "Bearer \u0161\U0001f98a".encode().decode("latin-1"),
    "no-break space": lambda token: f"Bearer\xa0{token}",
    "parameter": lambda token: f"Bearer token={token}",
    "two schemes": lambda token: f"Bearer Bearer {token}",
    "long": lambda token: f"Bearer {token}" + "A" * 60_000,
    "key like": lambda token: "Bearer shop_\xe9_" + "a" * 43,
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_header_opens_nothing(client: FlaskClient, admin: dict[str, str], what: str) -> None:
    """AU-21."""
    header = ODD[what](token_of(admin))

    answer = client.get(ME, environ_overrides={"HTTP_AUTHORIZATION": header})

    assert_problem(answer, "unauthenticated")
    # Where nobody needs to sign in, what proves nothing is not passed over either.
    listed = client.get("/api/v1/products", environ_overrides={"HTTP_AUTHORIZATION": header})
    assert_problem(listed, "unauthenticated")


def test_two_authorization_headers_are_refused(
    app: Flask, client: FlaskClient, admin: dict[str, str]
) -> None:
    """AU-21; servers join them by a comma."""
    header = admin["Authorization"]

    for joined in (
        f"{header},{header}",
        f"{header}, Bearer x",
        f"Basic eA==, {header}",
        f"{header},",
    ):
        answer = client.get(ME, environ_overrides={"HTTP_AUTHORIZATION": joined})
        assert_problem(answer, "malformed")


def test_two_authorization_lines_are_refused_by_a_real_server(
    app: Flask, admin: dict[str, str]
) -> None:
    """AU-21; tests/users/test_workers.py does it with gunicorn."""
    right = admin["Authorization"]
    with served(app) as port:
        for values, status in (((right,), 200), ((right, right), 400), (("Bearer x", right), 400)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.putrequest("GET", ME)
            for value in values:
                connection.putheader("Authorization", value)
            connection.endheaders()
            assert connection.getresponse().status == status, values
            connection.close()


def test_a_token_is_read_from_nowhere_but_its_header(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    """AU-19."""
    token = token_of(admin)
    for name in ("access_token_cookie", "access_token", "token", "session", "Authorization"):
        client.set_cookie(name, token)
    names = ("jwt", "access_token", "token", "bearer", "authorization", "api_key", "key")

    for name in names:
        assert_problem(client.get(f"{ME}?{name}={token}"), "unauthenticated")
    body = dict.fromkeys(names, token)
    assert_problem(client.patch(ME, json=body), "unauthenticated")
    assert_problem(client.patch(ME, data=body), "unauthenticated")
    proxied = {
        "X-Access-Token": token,
        "X-Api-Key": token,
        "Proxy-Authorization": f"Bearer {token}",
    }
    assert_problem(client.get(ME, headers=proxied), "unauthenticated")


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
