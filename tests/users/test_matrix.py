"""Every operation lets in exactly whom the document names, and nobody gets around its door."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, decode_token
from sqlalchemy import Engine, text
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import TestResponse

from shop.users.models import User
from shop.web.callers import SCOPES
from tests import factories
from tests.users.checks import (
    ME,
    PRODUCTS,
    SESSIONS,
    USERS,
    api_key,
    bearer,
    disable,
)
from tests.web.test_callers import Operation, documented

Headers = dict[str, str]
ADDRESS = {
    "name": "Anna", "line1": "Elm Street 1", "city": "Uppsala", "postal_code": "75310",
    "country": "SE",
}  # fmt: skip
#: Of whom the thing is that stands behind an id, where that decides who gets it.
OWNED = {f"{ME}/addresses/{{id}}", f"{ME}/sessions/{{id}}"}


def expired(app: Flask) -> Headers:
    """Headers of an administrator whose access token has expired in a session that holds."""
    user = factories.create_user(app, role="admin")
    token = factories.headers_of(app, user)["Authorization"].removeprefix("Bearer ")
    with app.app_context():
        sid = {"sid": decode_token(token)["sid"]}
        life = timedelta(seconds=-1)
        return bearer(create_access_token(str(user.id), expires_delta=life, additional_claims=sid))


def disabled(app: Flask) -> Headers:
    """Headers of an administrator whose account was closed."""
    user = factories.create_user(app, role="admin")
    headers = factories.headers_of(app, user)
    disable(app, user)
    return headers


def with_scope(app: Flask, operation: Operation) -> Headers:
    """Headers of a machine that has the scope of the operation, and no other."""
    scope = operation.get("x-scope")
    return bearer(api_key(app, *([scope] if scope else SCOPES)))


def without_scope(app: Flask, operation: Operation) -> Headers:
    """Headers of a machine that has every scope but that of the operation."""
    return bearer(api_key(app, *(set(SCOPES) - {operation.get("x-scope")})))


#: Headers of a caller who did nothing yet: some operations end what they are called with.
CALLERS: dict[str, Callable[[Flask, Operation], Headers]] = {
    "anonymous": lambda app, _: {},
    "expired": lambda app, _: expired(app),
    "disabled": lambda app, _: disabled(app),
    "customer": lambda app, _: factories.sign_in(app, "customer"),
    "staff": lambda app, _: factories.sign_in(app, "staff"),
    "admin": lambda app, _: factories.sign_in(app, "admin"),
    "key with the scope": with_scope,
    "key without the scope": without_scope,
}


def expected(who: str, operation: Operation) -> int | None:
    """The status that the document promises a caller; None where it is let in."""
    roles = operation["x-roles"]
    if who in ("expired", "disabled"):
        return 401
    if who.startswith("key"):
        has_scope = who == "key with the scope" and "x-scope" in operation
        return None if has_scope or "anonymous" in roles else 403
    if who in roles:
        return None
    return 401 if who == "anonymous" else 403


@pytest.mark.parametrize("who", CALLERS)
def test_every_operation_lets_in_exactly_whom_the_document_names(
    app: Flask, client: FlaskClient, who: str
) -> None:
    """AZ-01."""
    operations = documented(app)
    assert len(operations) > 20
    # The last one that may administer could not be closed or deleted.
    factories.create_user(app, role="admin")

    for method, path, operation in operations:
        name = f"{who}: {method} {path}"
        assert operation.get("x-roles"), f"{name}: it does not say who may call it"
        headers = CALLERS[who](app, operation)
        # Nothing behind the door: who gets in is refused for another reason, or ends only itself.
        answer = client.open(path.replace("{id}", "999999"), method=method, headers=headers)
        status = expected(who, operation)
        if status is None:
            assert answer.status_code not in (401, 403, 500), f"{name}: {answer.text}"
        else:
            assert answer.status_code == status, f"{name}: {answer.text}"


def belongings(app: Flask, owner: User) -> dict[str, int]:
    """What an account has, by the path it stands behind."""
    headers, client = factories.headers_of(app, owner), app.test_client()
    address = client.post(f"{ME}/addresses", json=ADDRESS, headers=headers)
    (opened,) = client.get(SESSIONS, headers=headers).get_json()["items"]
    return {
        f"{ME}/addresses/{{id}}": address.get_json()["id"],
        f"{ME}/sessions/{{id}}": opened["id"],
    }


def test_every_operation_on_ones_own_things_knows_whose_they_are(
    app: Flask, client: FlaskClient
) -> None:
    """AZ-01: customer A gets what customer B, staff and administrators do not find."""
    found = [(m, path) for m, path, _ in documented(app) if path.startswith(ME) and "{id}" in path]
    assert {path for _, path in found} == OWNED

    for method, path in found:
        owner = factories.create_user(app)
        address = path.replace("{id}", str(belongings(app, owner)[path]))
        for role in ("customer", "staff", "admin"):
            stranger = factories.sign_in(app, role)
            answer = client.open(address, method=method, headers=stranger, **body_for(method))
            assert answer.status_code == 404, f"{role}: {method} {path}"
        own = factories.headers_of(app, owner)
        answer = client.open(address, method=method, headers=own, **body_for(method))
        assert answer.status_code in (200, 204), f"{method} {path}: {answer.text}"


def body_for(method: str) -> dict[str, Any]:
    """A body that changes something, for a method that takes one."""
    return {"json": {"name": "Berta"}} if method == "PATCH" else {}


def face(answer: TestResponse) -> tuple[Any, ...]:
    """All of an answer that a stranger could learn from."""
    body = answer.get_json()
    body.pop("request_id")
    headers = {name: value for name, value in answer.headers if name != "X-Request-ID"}
    return answer.status_code, body, headers


@pytest.mark.parametrize("role", ["customer", "staff", "admin"])
def test_somebody_elses_thing_looks_like_none_at_all(
    app: Flask, client: FlaskClient, role: str
) -> None:
    """AZ-10."""
    theirs = belongings(app, factories.create_user(app))
    headers = factories.sign_in(app, role)
    found = [(method, path) for method, path, _ in documented(app) if path in OWNED]
    assert {method for method, _ in found} == {"GET", "PATCH", "DELETE"}

    for method, path in found:
        real, none = (
            client.open(path.replace("{id}", id_), method=method, headers=headers, **body)
            for id_ in (str(theirs[path]), "999999")
            for body in [body_for(method)]
        )
        assert face(real) == face(none), f"{method} {path}"
        assert real.status_code == 404


@pytest.mark.parametrize("who", ["anonymous", "customer", "key"])
def test_a_product_that_is_not_public_looks_like_none_at_all(
    app: Flask, client: FlaskClient, staff: Headers, who: str
) -> None:
    """AZ-10."""
    draft = factories.create_product(client, staff, status="draft", name="Secret oak")
    known = {"customer": factories.sign_in(app, "customer"), "key": bearer(api_key(app))}
    headers = known.get(who, {})

    for id_ in (draft["id"], draft["slug"]):
        real = client.get(f"{PRODUCTS}/{id_}", headers=headers)
        none = client.get(f"{PRODUCTS}/999999", headers=headers)
        assert face(real) == face(none)


class SilentHandler(WSGIRequestHandler):
    """Writes no line for each request."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    """The port of the shop behind a real server, which passes paths on as they come."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=SilentHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    logging.disable(logging.WARNING)
    yield server.server_port
    logging.disable(logging.NOTSET)
    server.shutdown()
    thread.join()
    server.server_close()


def send(port: int, method: str, path: str, headers: Headers, body: Any = None) -> int:
    """The status of an answer; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    raw = None if body is None else json.dumps(body)
    given = {"Content-Type": "application/json", "If-Match": "*"} if raw is not None else {}
    connection.request(method, path, raw, given | headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.fixture
def effects(app: Flask, client: FlaskClient, admin: Headers) -> dict[str, tuple[str, Any]]:
    """For each operation that a customer may not call: a path and a body with an effect."""
    victim = factories.create_user(app, role="staff")
    factories.headers_of(app, victim)
    product = factories.create_product(client, admin)
    key = client.post(
        "/api/v1/api-keys", json={"name": "k", "scopes": list(SCOPES)}, headers=admin
    ).get_json()
    return {
        "list_users": (USERS, None),
        "get_user": (f"{USERS}/{victim.id}", None),
        "change_rights": (f"{USERS}/{victim.id}", {"role": "admin"}),
        "end_sessions_of": (f"{USERS}/{victim.id}/sessions", {}),
        "list_api_keys": ("/api/v1/api-keys", None),
        "create_api_key": ("/api/v1/api-keys", {"name": "mine", "scopes": list(SCOPES)}),
        "revoke_api_key": (f"/api/v1/api-keys/{key['id']}", {}),
        "create_product": (PRODUCTS, factories.product_body()),
        "change_product": (f"{PRODUCTS}/{product['id']}", {"name": "Mine"}),
        "delete_product": (f"{PRODUCTS}/{product['id']}", {}),
    }


def closed_to_customers(app: Flask) -> list[tuple[str, str]]:
    """Method and name of each operation that customers may not call."""
    return [
        (method, operation["operationId"])
        for method, _, operation in documented(app)
        if "customer" not in operation["x-roles"]
    ]


def state(engine: Engine) -> list[str]:
    """Everything that these operations could change."""
    tables = ("users", "sessions", "api_keys", "products", "variants", "stock_levels")
    with engine.connect() as connection:
        return [str(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in tables]


def detours(path: str) -> list[str]:
    """Other spellings of a path."""
    head, _, tail = path.rpartition("/")
    return [
        f"{path}/", f"{path}//", f"/{path}", f"{head}//{tail}", f"{head}/./{tail}", f"{path}/.",
        f"{head}/%2e/{tail}", f"{head}/x/../{tail}", f"{head}/x/%2e%2e/{tail}", f"{path}%2f",
        f"{head}%2f{tail}", path.upper(), path.replace("/api", "/API"), f"{path};x=1", f"{path}%00",
        f"{path}%20", f"{path}.json", f"{path}?_method=GET", path.replace("/v1", "/v2"),
        path.replace("/v1", "/v01"), path.replace("/v1", ""), path.replace("/api/v1", ""),
        path.replace("/api", "/%61pi"), f"/openapi.json/..{path}", f"{path}?admin=1#x",
    ]  # fmt: skip


def test_there_is_no_way_around_the_door_of_an_operation(
    app: Flask, engine: Engine, port: int, customer: Headers, effects: dict[str, Any]
) -> None:
    """AZ-08."""
    closed = closed_to_customers(app)
    assert {name for _, name in closed} == set(effects)
    before = state(engine)

    for method, name in closed:
        path, body = effects[name]
        for spelling in (method, method.lower(), method.title()):
            assert send(port, spelling, path, customer, body) == 403, name
        for detour in detours(path):
            status = send(port, method, detour, customer, body)
            assert status in (400, 401, 403, 404, 405), f"{method} {detour}: {status}"

    assert state(engine) == before


OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method")


def test_no_header_makes_another_method_of_a_request(
    app: Flask, engine: Engine, port: int, customer: Headers, effects: dict[str, Any]
) -> None:
    """AZ-08."""
    before = state(engine)
    for method, name in closed_to_customers(app):
        path, body = effects[name]
        for carrier in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
            plain = send(port, carrier, path, customer, body)
            for override in OVERRIDES:
                shown = customer | {override: method}
                assert send(port, carrier, path, shown, body) == plain, (carrier, name)
                for form in (f"{path}?_method={method}", f"{path}?method={method}"):
                    status = send(port, carrier, form, customer, body)
                    assert status in (plain, 422), (carrier, form)

    assert state(engine) == before


def test_head_is_refused_where_get_is(
    app: Flask, port: int, customer: Headers, effects: dict[str, Any]
) -> None:
    """AZ-08."""
    seen = 0
    for method, name in closed_to_customers(app):
        if method == "GET":
            seen += 1
            for headers, status in ((customer, 403), ({}, 401), (bearer("x"), 401)):
                assert send(port, "HEAD", effects[name][0], headers) == status, name
    assert seen == 3


def test_a_method_that_an_operation_does_not_name_reaches_nothing(
    engine: Engine, port: int, admin: Headers, effects: dict[str, Any]
) -> None:
    """AZ-08."""
    before = state(engine)

    for name, (path, body) in effects.items():
        for method in ("PROPFIND", "TRACE", "CONNECT", "PUT", "X", "GETPOST"):
            status = send(port, method, path, admin, body)
            assert status in (400, 404, 405, 501), f"{method} for {name}: {status}"

    assert state(engine) == before
