"""Every operation lets in exactly whom the document names, and nobody gets around its door."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, decode_token
from sqlalchemy import Engine, select
from werkzeug.test import TestResponse

from shop.db import Base
from shop.users.models import User
from shop.web.callers import SCOPES
from tests import factories
from tests.users.checks import (
    ME,
    PRODUCTS,
    SESSIONS,
    api_key,
    bearer,
    disable,
    served,
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
        answer.close()
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


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    """The port of the shop behind a real server."""
    with served(app) as port:
        yield port


def send(port: int, method: str, path: str, headers: Headers, body: Any = None) -> int:
    """The status of an answer; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    raw = None if body is None else json.dumps(body)
    given = {"Content-Type": "application/json", "If-Match": "*"} if raw is not None else {}
    connection.request(method, path, raw, given | headers)
    status = connection.getresponse().status
    connection.close()
    return status


@dataclass(frozen=True, slots=True)
class Closed:
    """An operation that customers may not call, and a request that would have an effect."""

    name: str
    method: str
    path: str
    body: Any


@pytest.fixture
def closed(app: Flask, client: FlaskClient, admin: Headers) -> list[Closed]:
    """Every operation that customers may not call; those that are not known get an empty body."""
    victim = factories.create_user(app, role="staff")
    factories.headers_of(app, victim)
    product = factories.create_product(client, admin)
    key = {"name": "mine", "scopes": list(SCOPES)}
    key_id = client.post("/api/v1/api-keys", json=key, headers=admin).get_json()["id"]
    known: dict[str, tuple[int, Any]] = {
        "get_user": (victim.id, None),
        "change_rights": (victim.id, {"role": "admin"}),
        "end_sessions_of": (victim.id, {}),
        "create_api_key": (0, key),
        "revoke_api_key": (key_id, {}),
        "create_product": (0, factories.product_body()),
        "change_product": (product["id"], {"name": "Mine"}),
        "delete_product": (product["id"], {}),
    }
    found = []
    for method, path, operation in documented(app):
        if "customer" not in operation["x-roles"]:
            name = operation["operationId"]
            id_, body = known.pop(name, (1, None if method == "GET" else {}))
            found.append(Closed(name, method, re.sub(r"\{[a-z_]+\}", str(id_), path), body))
    assert not known, "there is no such operation any more"
    return found


def state(engine: Engine) -> dict[str, Any]:
    """Every row that there is."""
    with engine.connect() as connection:
        return {
            table.name: connection.execute(select(table).order_by(*table.primary_key)).all()
            for table in Base.metadata.sorted_tables
        }


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
    engine: Engine, port: int, customer: Headers, closed: list[Closed]
) -> None:
    """AZ-08."""
    before = state(engine)

    for it in closed:
        for spelling in (it.method, it.method.lower(), it.method.title()):
            assert send(port, spelling, it.path, customer, it.body) == 403, it
        for detour in detours(it.path):
            status = send(port, it.method, detour, customer, it.body)
            assert status in (400, 401, 403, 404, 405), f"{it.method} {detour}: {status}"

    assert state(engine) == before


OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method")


def test_no_header_makes_another_method_of_a_request(
    engine: Engine, port: int, customer: Headers, closed: list[Closed]
) -> None:
    """AZ-08."""
    before = state(engine)

    for it in closed:
        for carrier in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
            plain = send(port, carrier, it.path, customer, it.body)
            for override in OVERRIDES:
                shown = customer | {override: it.method}
                assert send(port, carrier, it.path, shown, it.body) == plain, (carrier, it)
                for form in (f"{it.path}?_method={it.method}", f"{it.path}?method={it.method}"):
                    status = send(port, carrier, form, customer, it.body)
                    assert status in (plain, 422), (carrier, form)

    assert state(engine) == before


def test_head_is_refused_where_get_is(port: int, customer: Headers, closed: list[Closed]) -> None:
    """AZ-08."""
    read = [it for it in closed if it.method == "GET"]
    assert {it.name for it in read} >= {"list_users", "get_user", "list_api_keys"}

    for it in read:
        for headers, status in ((customer, 403), ({}, 401), (bearer("x"), 401)):
            assert send(port, "HEAD", it.path, headers) == status, it


def test_a_method_that_an_operation_does_not_name_reaches_nothing(
    engine: Engine, port: int, admin: Headers, closed: list[Closed]
) -> None:
    """AZ-08."""
    before = state(engine)

    for it in closed:
        for method in ("PROPFIND", "TRACE", "CONNECT", "GETPOST", "X"):
            status = send(port, method, it.path, admin, it.body)
            assert status in (400, 404, 405, 501), f"{method} {it}: {status}"

    assert state(engine) == before
