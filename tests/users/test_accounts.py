"""Opening an account: what is asked for, what comes of it, and what nobody can smuggle in."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from email_validator import validate_email
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.db import Base
from shop.limits.storage import SqlStorage
from shop.limits.throttle import Throttle
from shop.mail.models import OutgoingMail
from shop.users.models import User
from shop.users.passwords import verify_password
from tests import factories
from tests.users.test_addresses import BOOK, address_body
from tests.web.checks import assert_problem

USERS, ME, LOGIN = "/api/v1/users", "/api/v1/users/me", "/api/v1/auth/login"
KEYS = "/api/v1/api-keys"
FIELDS = {
    "id", "email", "email_verified", "name", "role", "disabled", "version", "created_at",
    "updated_at",
}  # fmt: skip


def registration(**changes: Any) -> dict[str, Any]:
    """What somebody sends to open an account."""
    body = {"email": "anna@example.com", "name": "Anna", "password": factories.PASSWORD}
    return body | changes


def sign_in(client: FlaskClient, email: str, password: str = factories.PASSWORD) -> dict[str, str]:
    """Headers of a new session, by the door that everybody takes."""
    answer = client.post(LOGIN, json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.get_json()['access_token']}"}


def snapshot(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table as it is committed now, but for the counters of tries."""
    session.rollback()
    return {
        table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.c))]
        for table in Base.metadata.sorted_tables
        if table.name != "rate_counters"
    }


def limit(app: Flask, monkeypatch: pytest.MonkeyPatch, **rates: str) -> None:
    """Give the app these rates instead of its own: `register="3 per 1 hour"`."""
    shop = app.extensions["shop"]
    rules = shop.config.limits | {name.replace("_", "-"): rate for name, rate in rates.items()}
    throttle = Throttle(SqlStorage(shop.engine, shop.reader), rules)
    monkeypatch.setitem(app.extensions, "throttle", throttle)


def unlimited(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody try as often as they like."""
    shop = app.extensions["shop"]
    storage = SqlStorage(shop.engine, shop.reader)
    throttle = Throttle(storage, shop.config.limits, enabled=False)
    monkeypatch.setitem(app.extensions, "throttle", throttle)


def test_who_registers_gets_a_customers_account(client: FlaskClient, session: Session) -> None:
    wish = registration(email=" Anna.Larsson@Example.com ", name=" Anna Larsson ")

    answer = client.post(USERS, json=wish)

    body = answer.get_json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == ME
    assert answer.headers["ETag"].startswith('"1-')
    assert set(body) == FIELDS
    assert body["created_at"] <= body["updated_at"]
    assert body["created_at"].endswith("Z")
    shown = {name: body[name] for name in FIELDS - {"id", "created_at", "updated_at"}}
    assert shown == {
        "email": "anna.larsson@example.com", "name": "Anna Larsson", "role": "customer",
        "email_verified": False, "disabled": False, "version": 1,
    }  # fmt: skip
    user = session.scalars(select(User)).one()
    assert user.id == body["id"]
    assert verify_password(user.password_hash, factories.PASSWORD)


def test_who_registered_may_sign_in_at_once_and_sees_the_same_account(client: FlaskClient) -> None:
    created = client.post(USERS, json=registration())

    me = client.get(created.headers["Location"], headers=sign_in(client, "anna@example.com"))

    assert (me.get_json(), me.headers["ETag"]) == (created.get_json(), created.headers["ETag"])


def test_registering_does_not_sign_in(client: FlaskClient, session: Session) -> None:
    client.post(USERS, json=registration())

    assert snapshot(session)["sessions"] == []


@pytest.mark.parametrize(
    "spelling",
    ["anna.müller@example.com", "ANNA.MÜLLER@EXAMPLE.COM", "  Anna.Müller@example.com\t",
     unicodedata.normalize("NFD", "anna.müller@example.com"), "ａｎｎａ.müller@example.com",
     "anna.müller@ｅxample.com", "anna．müller@example.com",
     "anna.müller＠example.com"],
)  # fmt: skip
def test_an_address_is_taken_in_every_spelling(
    client: FlaskClient, session: Session, spelling: str
) -> None:
    factories.create_user(client.application, email="anna.müller@example.com")
    before = snapshot(session)

    answer = client.post(USERS, json=registration(email=spelling))

    assert_problem(answer, "conflict")
    assert snapshot(session) == before


ACCENTED = ("jos\u00e9@example.com", "jose\u0301@example.com", "JOS\u00c9@example.com",
            " JOSE\u0301@Example.com")  # fmt: skip
SPELLINGS = ("anna@example.com", "ANNA@example.com", "Anna@Example.Com", "ａnna@example.com",
             " anna@example.com", "annA@EXAMPLE.com", "ANNA@ｅxample.com")  # fmt: skip


@pytest.mark.parametrize("spellings", [SPELLINGS, ACCENTED], ids=["case", "accents"])
def test_of_a_hundred_registrations_of_one_address_at_once_one_succeeds(
    app: Flask, session: Session, monkeypatch: pytest.MonkeyPatch, spellings: tuple[str, ...]
) -> None:
    """CC-06."""
    unlimited(app, monkeypatch)

    def register(number: int) -> int:
        wish = registration(email=spellings[number % len(spellings)], name=f"Anna {number}")
        return app.test_client().post(USERS, json=wish).status_code

    with ThreadPoolExecutor(50) as pool:
        statuses = Counter(pool.map(register, range(100)))

    assert statuses[201] == 1
    assert set(statuses) <= {201, 409, 503}
    assert [user.email for user in session.scalars(select(User))] == [spellings[0]]
    assert session.scalar(select(func.count()).select_from(OutgoingMail)) == 1


def test_a_rush_of_registrations_is_throttled_by_default(app: Flask, session: Session) -> None:
    def register(number: int) -> int:
        wish = registration(email=SPELLINGS[number % len(SPELLINGS)])
        return app.test_client().post(USERS, json=wish).status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(register, range(100)))

    assert statuses[201] == 1
    assert statuses[429] > 0
    assert set(statuses) <= {201, 409, 429, 503}
    assert session.scalar(select(func.count()).select_from(User)) == 1


@pytest.mark.parametrize(
    "email",
    ["", "anna", "anna@", "@example.com", "a b@example.com", "anna@localhost", "anna@example",
     "anna@exa mple.com", "<anna@example.com>", "Anna <anna@example.com>", "anna@[127.0.0.1]",
     "anna@127.0.0.1", "anna\n@example.com", "anna\0@example.com", "anna@example.com,b@example.com",
     "an\u200bna@example.com", "an\u202ena@example.com", "=cmd()@example.com",
     "a@" + "x" * 64 + ".com", "x" * 243 + "@example.com", None, 1, True, ["anna@example.com"], {}],
)  # fmt: skip
def test_what_is_no_address_is_refused(
    client: FlaskClient, session: Session, email: object
) -> None:
    answer = client.post(USERS, json=registration(email=email))

    assert_problem(answer, "validation", "/email")
    assert snapshot(session)["users"] == []


@pytest.mark.parametrize(
    "email",
    ["ﷺ@example.com", "eve＠example.com@evil.example", "ﷺ" * 13 + "@example.com"],
    ids=["a space", "two at-signs", "13 characters that become 234"],
)  # fmt: skip
def test_what_is_no_address_once_it_is_normalised_is_refused(
    client: FlaskClient, session: Session, email: str
) -> None:
    """What is stored and written to is the normalised address."""
    answer = client.post(USERS, json=registration(email=email))

    assert_problem(answer, "validation", "/email")
    assert snapshot(session)["users"] == []


#: 72 characters, and 1,092 of them normalised.
GROWING = "ﷺ" * 60 + "@example.com"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", USERS), ("PATCH", ME), ("POST", "/api/v1/auth/password/forgot"),
     ("POST", "/api/v1/auth/email/resend"), ("POST", LOGIN)],
)  # fmt: skip
def test_an_address_that_grows_too_long_when_normalised_is_never_a_mistake_of_the_shop(
    client: FlaskClient, customer: dict[str, str], session: Session, method: str, path: str
) -> None:
    before = snapshot(session)
    body = registration(email=GROWING)
    if path == ME:
        body = {"email": GROWING, "current_password": factories.PASSWORD}
    elif path != USERS:
        del body["name"]
    if path.startswith("/api/v1/auth/") and path != LOGIN:
        del body["password"]

    answer = client.open(path, method=method, json=body, headers=customer)

    if path in (USERS, ME):
        assert_problem(answer, "validation", "/email")
    else:
        # As for anybody who has no account, or as for what is no address.
        assert answer.status_code in (422, 401 if path == LOGIN else 202)
    assert snapshot(session) == before


@pytest.mark.parametrize(
    "email", ["anna@straße.example", "anna@bücher.example", "ANNA@Ὀδυσσεύς.gr"]
)
def test_the_mailbox_that_is_written_to_is_in_the_domain_that_was_named(
    client: FlaskClient, session: Session, email: str
) -> None:
    """A code for it in another domain would hand the account over."""
    assert client.post(USERS, json=registration(email=email)).status_code == 201

    recipient = session.scalars(select(OutgoingMail.recipient)).one()

    assert ascii_domain(recipient) == ascii_domain(email)


def ascii_domain(address: str) -> str:
    """The domain as DNS is asked for it."""
    return validate_email(address, check_deliverability=False).ascii_domain


NO_NAMES: tuple[Any, ...] = ("", " ", "a\nb", "a\r\nb", "a\0b", "x" * 201, None, 7)
NO_PASSWORDS: tuple[Any, ...] = (None, 12345678, True, [], {}, "with\0nul")


def test_what_cannot_be_a_name_or_a_password_is_refused(
    client: FlaskClient, session: Session
) -> None:
    for field, values in (("name", NO_NAMES), ("password", NO_PASSWORDS)):
        for value in values:
            answer = client.post(USERS, json=registration(**{field: value}))
            assert_problem(answer, "validation", f"/{field}")
    assert snapshot(session)["users"] == []


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "{{7*7}}", "=cmd()", "' OR 1=1 --", "O'Neil", "王小明", "🦊",
     "a\u202eb", "\\r\\n", "x" * 200],
)  # fmt: skip
def test_hostile_names_come_back_as_they_were(client: FlaskClient, name: str) -> None:
    """IN-21."""
    created = client.post(USERS, json=registration(name=name))
    me = client.get(ME, headers=sign_in(client, "anna@example.com"))

    assert created.get_json()["name"] == me.get_json()["name"] == name
    assert me.content_type == "application/json"
    changed = client.patch(
        ME, json={"name": f"{name[:199]}!"}, headers=sign_in(client, "anna@example.com")
    )
    assert changed.get_json()["name"] == f"{name[:199]}!"


def test_only_registrations_of_taken_addresses_are_throttled(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(app, monkeypatch, register="3 per 1 hour")

    def status(number: int, **options: Any) -> int:
        wish = registration(email=f"anna{number}@example.com")
        return client.post(USERS, json=wish, **options).status_code

    assert [status(number) for number in range(5)] == [201] * 5
    assert [status(0) for _ in range(3)] == [409] * 3

    refused = client.post(USERS, json=registration(email="anna0@example.com"))
    assert_problem(refused, "rate-limited")
    assert 0 < int(refused.headers["Retry-After"]) <= 3600
    # Else the free ones could be told from the taken ones.
    assert status(99) == 429
    elsewhere = {"environ_base": {"REMOTE_ADDR": "198.51.100.7"}}
    assert [status(99, **elsewhere), status(0, **elsewhere)] == [201, 409]


@pytest.mark.parametrize(
    ("email", "password"),
    [("admin", "admin"), ("admin@example.com", "admin"), ("admin@localhost", "password"),
     ("root", "root"), ("root@localhost", ""), ("shop@localhost", "shop"), ("", ""),
     ("admin@example.com", "correct horse battery"), ("user@example.com", "password")],
)  # fmt: skip
def test_a_new_shop_lets_nobody_in(
    client: FlaskClient, session: Session, email: str, password: str
) -> None:
    """AU-18."""
    answer = client.post(LOGIN, json={"email": email, "password": password})

    assert answer.status_code in (401, 422)
    assert snapshot(session)["users"] == []


@pytest.mark.parametrize("role", ["admin", "staff", "customer", "", None])
def test_nobody_chooses_a_role_at_the_registration(
    client: FlaskClient, session: Session, role: str | None
) -> None:
    """AU-18, AZ-06."""
    answer = client.post(USERS, json=registration(role=role))

    assert_problem(answer, "validation", "/role")
    assert snapshot(session)["users"] == []


SMUGGLED = (
    "id", "user_id", "owner_id", "role", "roles", "is_admin", "admin", "permissions", "price",
    "total", "status", "stock", "created_at", "updated_at", "verified", "email_verified",
    "email_verified_at", "disabled", "password_hash", "version", "audit_noun", "lookup",
    "secret_hash", "key", "created_by", "last_used_at", "revoked_at", "__class__", "", "Email",
    "email ", "purpose", "session_id",
)  # fmt: skip
Body = dict[str, Any]
#: Every operation of the area that takes a body, with one that it would take.
WRITES: dict[tuple[str, str], Callable[[], Body]] = {
    ("POST", LOGIN): lambda: {"email": "a@example.com", "password": "x"},
    ("POST", "/api/v1/auth/refresh"): lambda: {"refresh_token": "x"},
    ("POST", "/api/v1/auth/password/forgot"): lambda: {"email": "a@example.com"},
    ("POST", "/api/v1/auth/email/resend"): lambda: {"email": "a@example.com"},
    ("POST", "/api/v1/auth/password/reset"): lambda: {"token": "x", "password": "long enough"},
    ("POST", "/api/v1/auth/email/verify"): lambda: {"token": "x"},
    ("POST", USERS): registration,
    ("PATCH", ME): lambda: {"name": "Eve"},
    ("POST", f"{ME}/password"): lambda: {
        "current_password": factories.PASSWORD, "password": "long enough"
    },
    ("POST", BOOK): address_body,
    ("PATCH", f"{BOOK}/{{id}}"): lambda: {"city": "Lund"},
    ("PATCH", f"{USERS}/{{id}}"): lambda: {"role": "staff"},
    ("POST", KEYS): lambda: {"name": "till", "scopes": ["products:write"]},
}  # fmt: skip


def documented_writes(client: FlaskClient) -> dict[tuple[str, str], set[str]]:
    """The operations of the area that take a body, and the fields that they document."""
    document = client.get("/openapi.json").get_json()
    found = {}
    for path, operations in document["paths"].items():
        if path.startswith(("/api/v1/auth", USERS, KEYS)):
            for method, operation in operations.items():
                if "requestBody" in operation:
                    shape = operation["requestBody"]["content"]["application/json"]["schema"]
                    name = shape["$ref"].rpartition("/")[2]
                    fields = document["components"]["schemas"][name]["properties"]
                    found[method.upper(), path] = set(fields)
    return found


def test_no_write_takes_a_field_that_is_not_its_own(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """AZ-06."""
    writes = documented_writes(client)
    assert set(writes) == set(WRITES)
    admin = factories.create_user(app, role="admin")
    who = factories.headers_of(app, admin)
    home = client.post(BOOK, json=address_body(), headers=who).get_json()["id"]
    before = snapshot(session)

    for (method, path), fields in writes.items():
        place = path.replace("{id}", str(home if path.startswith(BOOK) else admin.id))
        for name in set(SMUGGLED) - fields:
            for value in (1, None):
                body = WRITES[method, path]() | {name: value}
                answer = client.open(place, method=method, json=body, headers=who)
                assert_problem(answer, "validation", f"/{name}")
    assert snapshot(session) == before


def test_all_that_is_smuggled_at_once_is_named(client: FlaskClient) -> None:
    """AZ-06."""
    answer = client.post(USERS, json=registration() | dict.fromkeys(SMUGGLED, 1))

    body = answer.get_json()
    assert answer.status_code == 422
    assert {fault["pointer"] for fault in body["errors"]} == {f"/{name}" for name in SMUGGLED}


def test_every_own_field_of_the_writes_is_none_that_only_the_shop_sets(client: FlaskClient) -> None:
    """AZ-06: what a write documents is what it is for."""
    rights = {"role", "disabled"}
    for (method, path), fields in documented_writes(client).items():
        allowed = rights if (method, path) == ("PATCH", f"{USERS}/{{id}}") else set()
        assert fields & set(SMUGGLED) <= allowed, path
