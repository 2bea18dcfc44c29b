"""API keys: shown once, kept as a digest, good for their scopes until they expire or end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.users import api_keys
from shop.users.models import ApiKey, SecurityEvent
from shop.users.tokens import digest
from tests import factories
from tests.users.checks import (
    KEYS,
    LOGIN,
    ME,
    PRODUCTS,
    REFRESH,
    SESSIONS,
    T0,
    USERS,
    Travel,
    api_key,
    bearer,
    events,
    travelling,
)
from tests.web.checks import assert_problem

SCOPE = "products:write"
BODY: dict[str, Any] = {"name": "Till 7", "scopes": [SCOPE]}


def create(client: FlaskClient, admin: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A key made over HTTP; what the API answered."""
    answer = client.post(KEYS, json=BODY | changes, headers=admin)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.get_json()
    return created


def rows(session: Session) -> list[ApiKey]:
    """Every key, as it is stored now."""
    session.rollback()
    session.expire_all()
    return list(session.scalars(select(ApiKey).order_by(ApiKey.id)))


def test_a_new_key_is_shown_in_the_answer_and_nowhere_else(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    created = client.post(KEYS, json=BODY, headers=admin)

    body = created.get_json()
    assert re.fullmatch(r"shop_[a-z0-9]{12}_[A-Za-z0-9_-]{43}", body["key"])
    assert body["key"].split("_")[1] == body["lookup"]
    assert created.headers["Cache-Control"] == "no-store"
    assert (body["name"], body["scopes"]) == ("Till 7", [SCOPE])
    assert (body["expires_at"], body["last_used_at"], body["revoked_at"]) == (None, None, None)
    listed = client.get(KEYS, headers=admin).get_json()["items"]
    assert listed == [{name: value for name, value in body.items() if name != "key"}]
    assert not {"key", "secret", "secret_hash"} & set(listed[0])


def test_only_the_digest_of_the_secret_is_stored(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    key = create(client, admin)["key"]
    _, lookup, secret = key.split("_", 2)

    (kept,) = session.execute(text("SELECT * FROM api_keys"))

    assert digest(secret) in kept
    assert secret not in str(kept)
    assert lookup in kept


def test_keys_are_listed_newest_first_with_who_made_them(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    me = client.get(ME, headers=admin).get_json()["id"]
    ids = [create(client, admin, name=name)["id"] for name in ("one", "two", "three")]

    listed = client.get(KEYS, headers=admin).get_json()["items"]

    assert [item["id"] for item in listed] == ids[::-1]
    assert [item["name"] for item in listed] == ["three", "two", "one"]
    assert {item["created_by"] for item in listed} == {me}


@pytest.mark.parametrize("who", ["nobody", "customer", "staff", "key"])
def test_only_an_administrator_makes_sees_and_ends_keys(
    app: Flask, client: FlaskClient, admin: dict[str, str], session: Session, who: str
) -> None:
    old = create(client, admin)
    headers = bearer(old["key"]) if who == "key" else {}
    if who in ("customer", "staff"):
        headers = factories.sign_in(app, who)
    status = 403 if headers else 401

    assert client.post(KEYS, json=BODY, headers=headers).status_code == status
    assert client.get(KEYS, headers=headers).status_code == status
    assert client.delete(f"{KEYS}/{old['id']}", headers=headers).status_code == status

    (kept,) = rows(session)
    assert kept.revoked_at is None


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["*"]}, "/scopes/0"),
        ({"scopes": ["products"]}, "/scopes/0"),
        ({"scopes": [SCOPE, "admin"]}, "/scopes"),
        ({"scopes": SCOPE}, "/scopes"),
        ({"scopes": None}, "/scopes"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"expires_at": "2027-01-01T00:00:00"}, "/expires_at"),
        ({"expires_at": 1}, "/expires_at"),
        ({"role": "admin"}, "/role"),
        ({"created_by": 1}, "/created_by"),
        ({"lookup": "a" * 12}, "/lookup"),
        ({"revoked_at": None}, "/revoked_at"),
    ],
)
def test_what_cannot_be_a_key_is_refused(
    client: FlaskClient, admin: dict[str, str], session: Session, changes: Any, pointer: str
) -> None:
    answer = client.post(KEYS, json=BODY | changes, headers=admin)

    assert answer.status_code == 422, answer.text
    assert any(fault["pointer"].startswith(pointer) for fault in answer.get_json()["errors"])
    assert rows(session) == []


def test_a_key_does_what_its_scope_says_and_stands_in_the_audit_log(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    created = create(client, admin)
    headers = bearer(created["key"])

    product = factories.create_product(client, headers)
    address = f"{PRODUCTS}/{product['id']}"
    tag = {"If-Match": "*"}
    assert client.patch(address, json={"name": "Ash"}, headers=headers | tag).status_code == 200
    assert client.delete(address, headers=headers | tag).status_code == 204

    entries = select(AuditEntry.actor).where(AuditEntry.table_name == "products")
    assert session.scalars(entries).all() == [f"api-keys/{created['id']}"] * 3


def test_a_key_opens_nothing_else(client: FlaskClient, admin: dict[str, str]) -> None:
    headers = bearer(create(client, admin)["key"])
    doors = [("GET", ME), ("PATCH", ME), ("DELETE", ME), ("GET", SESSIONS), ("GET", USERS),
             ("GET", f"{USERS}/1"), ("PATCH", f"{USERS}/1"), ("GET", f"{ME}/export"),
             ("POST", "/api/v1/auth/logout")]  # fmt: skip

    for method, path in doors:
        answer = client.open(path, method=method, headers=headers)
        assert_problem(answer, "forbidden")


def test_a_key_without_the_scope_may_only_what_everybody_may(
    app: Flask, client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    headers = bearer(api_key(app))
    product = factories.create_product(client, staff, status="draft")
    address, tag = f"{PRODUCTS}/{product['id']}", {"If-Match": "*"}

    answers = [
        client.post(PRODUCTS, json=factories.product_body(), headers=headers),
        client.patch(address, json={"name": "Ash"}, headers=headers | tag),
        client.delete(address, headers=headers | tag),
    ]

    for answer in answers:
        assert_problem(answer, "forbidden")
    assert client.get(PRODUCTS, headers=headers).get_json()["items"] == []
    assert client.get(address, headers=headers).status_code == 404
    assert session.scalars(text("SELECT name FROM products")).all() == [product["name"]]


def test_a_key_is_no_employee(app: Flask, client: FlaskClient, staff: dict[str, str]) -> None:
    headers = bearer(api_key(app, SCOPE))
    draft = factories.create_product(client, staff, status="draft")
    active = factories.create_product(client, staff, status="active")

    listed = client.get(PRODUCTS, headers=headers).get_json()["items"]

    assert [item["id"] for item in listed] == [active["id"]]
    assert_problem(client.get(f"{PRODUCTS}/{draft['id']}", headers=headers), "not-found")


def test_a_key_is_no_password_and_no_other_token(
    app: Flask, client: FlaskClient, admin: dict[str, str]
) -> None:
    key = create(client, admin)["key"]

    assert client.post(REFRESH, json={"refresh_token": key}).status_code == 401
    body = {"email": "admin@example.com", "password": key}
    assert client.post(LOGIN, json=body).status_code == 401


@pytest.fixture
def travel(engine: Engine) -> Iterator[Travel]:
    """The beginning of time."""
    with travelling(engine) as travel:
        yield travel


def test_a_key_expires(app: Flask, client: FlaskClient, travel: Travel) -> None:
    admin = factories.sign_in(app, "admin")
    created = create(client, admin, expires_at="2026-11-22T11:00:00+01:00")
    assert created["expires_at"] == "2026-11-22T10:00:00Z"
    headers = bearer(created["key"])
    travel.to(3_599)
    assert client.get(PRODUCTS, headers=headers).status_code == 200

    travel.to(3_600)

    assert_problem(client.get(PRODUCTS, headers=headers), "unauthenticated")


def test_a_key_that_is_ended_opens_nothing_at_once_and_for_good(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    created, other = create(client, admin), create(client, admin)
    address = f"{KEYS}/{created['id']}"
    for key in (created, other):
        assert client.get(PRODUCTS, headers=bearer(key["key"])).status_code == 200

    answer = client.delete(address, headers=admin)

    assert (answer.status_code, answer.data) == (204, b"")
    answer = client.get(PRODUCTS, headers=bearer(created["key"]))
    assert_problem(answer, "unauthenticated")
    assert client.get(PRODUCTS, headers=bearer(other["key"])).status_code == 200
    assert [key.revoked_at is None for key in rows(session)] == [False, True]
    assert_problem(client.delete(address, headers=admin), "not-found")
    assert_problem(client.delete(f"{KEYS}/999999", headers=admin), "not-found")


def test_making_and_ending_a_key_are_security_events(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    me = client.get(ME, headers=admin).get_json()["id"]
    created = create(client, admin)
    client.delete(f"{KEYS}/{created['id']}", headers=admin)
    client.delete(f"{KEYS}/{created['id']}", headers=admin)

    assert events(session, me) == ["api_key_created", "api_key_revoked"]
    for found in session.scalars(select(SecurityEvent)):
        expected = {"api_key": created["id"], "name": "Till 7", "scopes": [SCOPE]}
        assert found.detail == expected
    entries = select(func.count()).where(AuditEntry.table_name == "security_events")
    assert session.scalar(entries) == 2


def test_no_part_of_a_key_enters_the_audit_log(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    created = create(client, admin)
    _, lookup, secret = created["key"].split("_", 2)
    factories.create_product(client, bearer(created["key"]))
    client.delete(f"{KEYS}/{created['id']}", headers=admin)

    logged = "".join(str(row) for row in session.execute(text("SELECT * FROM audit_log")))

    assert "api_key_created" in logged
    for part in (created["key"], secret, lookup, digest(secret)):
        assert part not in logged


def twists(key: str) -> dict[str, str]:
    """What is almost the key."""
    _, lookup, secret = key.split("_", 2)
    return {
        "prefix alone": "shop_",
        "lookup alone": f"shop_{lookup}",
        "no secret": f"shop_{lookup}_",
        "short secret": key[:-1],
        "long secret": f"{key}A",
        "other secret": f"shop_{lookup}_{secret[::-1]}",
        "other case": f"shop_{lookup}_{secret.swapcase()}",
        "digest": f"shop_{lookup}_{digest(secret)[:43]}",
        "other lookup": f"shop_{lookup[::-1]}_{secret}",
        "lookup in capitals": f"shop_{lookup.upper()}_{secret}",
        "any lookup": f"shop_{'%' * 12}_{secret}",
        "any character": f"shop_{'_' * 12}_{secret}",
        "prefix in capitals": key.upper(),
        "no prefix": f"{lookup}_{secret}",
        "query": f"shop_{lookup}_' OR '1'='1",
        "line feed": f"{key}\n.",
        "NUL": f"{key}\0",
        "not ASCII": f"shop_{lookup}_{'é' * 43}",
        "Arabic digits": f"shop_{'٣' * 12}_{secret}".encode().decode("latin-1"),
        "endless": key + "A" * 100_000,
    }


def test_what_is_almost_a_key_opens_nothing(client: FlaskClient, admin: dict[str, str]) -> None:
    key = create(client, admin)["key"]
    assert client.get(PRODUCTS, headers=bearer(key)).status_code == 200

    for what, twisted in twists(key).items():
        header = {"HTTP_AUTHORIZATION": f"Bearer {twisted}"}
        answer = client.get(PRODUCTS, environ_overrides=header)
        assert answer.status_code == 401, what
        body = assert_problem(answer, "unauthenticated")
        assert body["detail"] == "The access token is malformed, expired or not ours.", what


@pytest.fixture
def notes(engine: Engine) -> Iterator[list[str]]:
    """Every statement that notes the use of a key."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE api_keys"):
            found.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


def test_the_use_of_a_key_is_noted_once_a_minute(
    client: FlaskClient, session: Session, travel: Travel, notes: list[str]
) -> None:
    headers = bearer(api_key(client.application, SCOPE))
    noted = []

    for moment in (0, 1, 30, 59, 60.5, 61, 120, 121):
        travel.to(moment)
        assert client.get(PRODUCTS, headers=headers).status_code == 200
        last = rows(session)[0].last_used_at
        noted.append(None if last is None else (last - T0).total_seconds())

    assert noted == [0, 0, 0, 0, 60.5, 60.5, 60.5, 121]
    assert len(notes) == 3


def test_several_workers_note_the_same_use_once(
    app: Flask, client: FlaskClient, engine: Engine, session: Session
) -> None:
    client.get(PRODUCTS, headers=bearer(api_key(app, SCOPE)))
    key_id, noted = rows(session)[0].id, rows(session)[0].last_used_at

    # Another worker has read the row before this one noted its use.
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        api_keys.note_use(connection, key_id, datetime.now(UTC) - api_keys.NOTED_EVERY)

    assert rows(session)[0].last_used_at == noted


def test_a_wrong_secret_is_no_use(app: Flask, client: FlaskClient, session: Session) -> None:
    key = api_key(app, SCOPE)

    client.get(PRODUCTS, headers=bearer(key[:-43] + "A" * 43))

    assert rows(session)[0].last_used_at is None


def test_a_machine_is_not_turned_away_because_its_use_cannot_be_noted(
    app: Flask, client: FlaskClient, engine: Engine
) -> None:
    headers = bearer(api_key(app, SCOPE))

    def fail(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE api_keys"):
            raise OperationalError(statement, {}, Exception("the disk is full"))

    event.listen(engine, "before_cursor_execute", fail)
    try:
        assert client.get(PRODUCTS, headers=headers).status_code == 200
    finally:
        event.remove(engine, "before_cursor_execute", fail)


def test_a_key_outlives_the_administrator_who_made_it(
    app: Flask, client: FlaskClient, admin: dict[str, str]
) -> None:
    factories.sign_in(app, "admin")
    created = create(client, admin)

    assert client.delete(ME, headers=admin).status_code == 204

    assert client.get(PRODUCTS, headers=bearer(created["key"])).status_code == 200
