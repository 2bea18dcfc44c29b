"""What the shop holds on a person: all of it is shown, and all of it goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.db import Base
from shop.users.models import Address, OneTimeToken, SecurityEvent, User, UserSession
from tests import factories
from tests.users.checks import (
    FORGOT,
    ME,
    OTHER_PASSWORD,
    PASSWORD,
    REFRESH,
    RESEND,
    RESET,
    USERS,
    VERIFY,
    Tokens,
    disable,
    events,
    is_in,
    is_over,
    mailed_token,
    tokens_of,
    try_to_sign_in,
)
from tests.users.test_accounts import registration, snapshot
from tests.users.test_addresses import BOOK, add, at_once
from tests.users.test_mail_flows import Post
from tests.web.checks import assert_problem

EXPORT = f"{ME}/export"
EMAIL = "anna.canary@example.com"
#: What only this person has told the shop; nothing else in the database reads so.
TOLD = {
    "name": "Anna Canary", "line1": "Canary Wharf 7", "line2": "c/o Canary", "city": "Canaryville",
    "region": "Canaria", "postal_code": "CNRY 1", "phone": "+46 555 777 999",
}  # fmt: skip
BROWSER = "CanaryBrowser/7.0"
TRACES = (*TOLD.values(), EMAIL, BROWSER, "203.0.113.77", "anna.canary", "Canar")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with something of everything."""

    id: int
    tokens: Tokens
    reset: str

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the newest session."""
        return self.tokens.headers


def person(client: FlaskClient) -> Person:
    """A customer with an address book, sessions, codes and a history."""
    opened = client.post(USERS, json=registration(email=EMAIL, name=TOLD["name"]))
    where: dict[str, Any] = {
        "headers": {"User-Agent": BROWSER}, "environ_base": {"REMOTE_ADDR": "203.0.113.77"},
    }  # fmt: skip
    first = tokens_of(try_to_sign_in(client, EMAIL, factories.PASSWORD, **where))
    add(client, first.headers, **TOLD)
    add(client, first.headers, **TOLD)
    change = {"current_password": factories.PASSWORD, "password": OTHER_PASSWORD}
    assert client.post(PASSWORD, json=change, headers=first.headers).status_code == 204
    newest = tokens_of(try_to_sign_in(client, EMAIL, OTHER_PASSWORD, **where))
    Post(client.application).deliver()
    client.post(FORGOT, json={"email": EMAIL})
    return Person(opened.get_json()["id"], newest, Post(client.application).code(EMAIL))


def export(client: FlaskClient, who: Person) -> dict[str, Any]:
    """All that the shop says that it holds."""
    answer = client.get(EXPORT, headers=who.headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def test_an_export_holds_all_that_the_shop_knows_of_an_account(
    client: FlaskClient, session: Session
) -> None:
    anna = person(client)
    kept = snapshot(session)

    shown = export(client, anna)

    parts = {part.name for part in client.application.extensions["personal_data"]}
    assert set(shown) == {"account", *parts}
    assert shown["account"] == client.get(ME, headers=anna.headers).get_json()
    assert [part | TOLD for part in shown["addresses"]] == shown["addresses"]
    assert [part["user_agent"] for part in shown["sessions"]] == [BROWSER] * 2
    assert [part["address"] for part in shown["sessions"]] == ["203.0.113.77"] * 2
    assert [part["kind"] for part in shown["security_events"]] == ["password_changed"]
    for name in ("addresses", "sessions", "security_events"):
        columns = set(Base.metadata.tables[name].columns.keys())
        assert len(shown[name]) == len(kept[name])
        assert all(set(part) == columns for part in shown[name])


def naming_accounts() -> dict[str, str]:
    """Tables that name accounts, and the features that they are of."""
    found = [mapper.class_ for mapper in Base.registry.mappers]
    return {
        model.__tablename__: model.__module__.split(".")[1]
        for model in found
        if "user_id" in model.__table__.columns
    }


def test_every_table_that_names_an_account_is_part_of_the_export(client: FlaskClient) -> None:
    """A feature that keeps something about accounts registers how to show it."""
    parts = {part.name for part in client.application.extensions["personal_data"]}

    # Codes are secrets: their mailbox and purpose were told by mail.
    tables = naming_accounts().items() - {("one_time_tokens", "users")}

    assert {"sessions", "addresses", "security_events"} <= dict(tables).keys()
    assert all(table in parts or feature in parts for table, feature in tables)


def test_an_export_holds_no_secret_and_nothing_of_anybody_else(
    client: FlaskClient, session: Session, admin: dict[str, str]
) -> None:
    """AZ-07."""
    other = factories.create_user(client.application, email="bert@example.com")
    add(client, factories.headers_of(client.application, other), name="Bert Berg")
    disable(client.application, other)
    assert events(session, other.id) == ["rights_changed"]
    anna = person(client)

    answer = client.get(EXPORT, headers=anna.headers)

    kept = snapshot(session)
    secrets = [
        str(value) for row in kept["refresh_tokens"] for value in row if len(str(value)) > 40
    ]
    secrets += [
        str(value) for row in kept["one_time_tokens"] for value in row if len(str(value)) > 40
    ]
    secrets += [anna.reset, anna.tokens.access, anna.tokens.refresh, "argon2", "password_hash"]
    assert len(secrets) > 7
    for secret in (*secrets, "Bert", "bert@", "token", factories.PASSWORD, OTHER_PASSWORD):
        assert secret not in answer.text
    shown = answer.get_json()
    rows = [*shown["addresses"], *shown["sessions"], *shown["security_events"]]
    assert {row["user_id"] for row in rows} == {anna.id}
    assert answer.headers["Content-Disposition"] == 'attachment; filename="export.json"'
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", [ME, EXPORT])
def test_only_the_person_is_asked(client: FlaskClient, path: str) -> None:
    method = "DELETE" if path == ME else "GET"

    assert_problem(client.open(path, method=method), "unauthenticated")


def found(kept: dict[str, list[tuple[Any, ...]]]) -> set[tuple[str, str]]:
    """Which traces of the person are left, and in which tables."""
    return {
        (name, trace)
        for name, rows in kept.items()
        for trace in TRACES
        if trace.lower() in str(rows).lower()
    }


def test_an_erased_person_leaves_no_trace(client: FlaskClient, session: Session) -> None:
    """DO-15: the log and the security events never had the person."""
    anna = person(client)
    assert {name for name, _ in found(snapshot(session))} == {"users", "addresses", "sessions",
                                                              "one_time_tokens"}  # fmt: skip

    answer = client.delete(ME, headers=anna.headers)

    assert (answer.status_code, answer.data) == (204, b"")
    kept = snapshot(session)
    assert found(kept) == set()
    for name in ("users", "addresses", "sessions", "refresh_tokens", "one_time_tokens"):
        assert kept[name] == []
    for name in naming_accounts().keys() - {"security_events"}:
        table = Base.metadata.tables[name]
        assert session.execute(select(table).where(table.c.user_id == anna.id)).all() == []
    assert events(session, anna.id) == ["password_changed"]
    erased = [row for row in kept["audit_log"] if "delete" in row]
    assert len(erased) == 3
    assert "a***@example.com" in str(erased)


def test_mail_that_is_still_to_be_sent_goes_with_the_person(
    client: FlaskClient, session: Session
) -> None:
    """Some of it may be kept for a month."""
    anna = person(client)
    client.post(FORGOT, json={"email": EMAIL})
    change = {"email": f"new.{EMAIL}", "current_password": OTHER_PASSWORD}
    assert client.patch(ME, json=change, headers=anna.headers).status_code == 200

    assert client.delete(ME, headers=anna.headers).status_code == 204

    assert found(snapshot(session)) == set()


def test_an_erased_person_gets_in_nowhere(client: FlaskClient) -> None:
    """AU-09."""
    anna = person(client)
    assert is_in(client, anna.tokens)

    client.delete(ME, headers=anna.headers)

    assert is_over(client, anna.tokens)
    body = {"token": anna.reset, "password": factories.PASSWORD}
    assert_problem(client.post(RESET, json=body), "unauthenticated")
    assert_problem(client.post(VERIFY, json={"token": anna.reset}), "unauthenticated")
    assert_problem(try_to_sign_in(client, EMAIL, OTHER_PASSWORD), "unauthenticated")
    for path in (FORGOT, RESEND):
        client.post(path, json={"email": EMAIL})
    assert [letter.recipient for letter in Post(client.application).deliver()] == []


def test_the_address_of_an_erased_person_is_free_for_somebody_new(
    client: FlaskClient, session: Session
) -> None:
    anna = person(client)
    client.delete(ME, headers=anna.headers)

    answer = client.post(USERS, json=registration(email=EMAIL))

    assert answer.status_code == 201
    assert answer.get_json()["id"] > anna.id
    tokens = tokens_of(try_to_sign_in(client, EMAIL, factories.PASSWORD))
    shown = client.get(EXPORT, headers=tokens.headers).get_json()
    assert (shown["addresses"], shown["security_events"]) == ([], [])
    assert_problem(client.get(ME, headers=anna.headers), "unauthenticated")


def test_nobody_elses_belongings_go_along(client: FlaskClient, session: Session) -> None:
    """AZ-03."""
    bert = factories.create_user(client.application, email="bert@example.com")
    add(client, factories.headers_of(client.application, bert))
    mailed_token(client.application, bert)
    names = ("users", "addresses", "sessions", "refresh_tokens", "one_time_tokens")
    before = snapshot(session)

    client.delete(ME, headers=person(client).headers)

    after = snapshot(session)
    assert [after[name] for name in names] == [before[name] for name in names]


def test_the_last_administrator_cannot_go(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """AZ-09."""
    user = factories.create_user(app, role="admin")
    headers = factories.headers_of(app, user)
    closed = factories.create_user(app, role="admin")
    disable(app, closed)
    factories.create_user(app, role="staff")
    add(client, headers)
    before = snapshot(session)

    assert_problem(client.delete(ME, headers=headers), "conflict")

    assert snapshot(session) == before
    assert client.get(ME, headers=headers).status_code == 200
    factories.create_user(app, role="admin")
    assert client.delete(ME, headers=headers).status_code == 204


def test_who_changed_meanwhile_is_not_erased(client: FlaskClient, session: Session) -> None:
    anna = person(client)
    old = client.get(ME, headers=anna.headers).headers["ETag"]
    client.patch(ME, json={"name": "Ann"}, headers=anna.headers)
    before = snapshot(session)

    answer = client.delete(ME, headers=anna.headers | {"If-Match": old})

    assert_problem(answer, "version-conflict")
    assert snapshot(session) == before


def test_what_an_erased_member_of_staff_did_stays_in_the_log(
    client: FlaskClient, session: Session
) -> None:
    user = factories.create_user(client.application, role="staff")
    headers = factories.headers_of(client.application, user)
    factories.create_product(client, headers)

    assert client.delete(ME, headers=headers).status_code == 204

    session.rollback()
    wanted = select(AuditEntry.table_name).where(AuditEntry.actor == f"users/{user.id}")
    assert {"products", "variants", "users"} <= set(session.scalars(wanted))


def test_security_events_outlive_the_account_and_name_a_number_only(
    client: FlaskClient, session: Session
) -> None:
    anna = person(client)
    client.post(REFRESH, json={"refresh_token": anna.tokens.refresh})

    client.delete(ME, headers=anna.headers)

    session.rollback()
    kept = session.scalars(select(SecurityEvent)).all()
    assert [event.user_id for event in kept] == [anna.id]
    assert [event.detail for event in kept] == [{}]


ROUNDS = 4


def test_whoever_acts_while_being_erased_is_refused_and_leaves_nothing(
    app: Flask, session: Session
) -> None:
    """No mistake of the shop, and no row without its account."""
    statuses: Counter[int] = Counter()
    for _ in range(ROUNDS):
        user = factories.create_user(app)
        headers = factories.headers_of(app, user)
        tokens = tokens_of(try_to_sign_in(app.test_client(), user.email, factories.PASSWORD))
        change = {"current_password": factories.PASSWORD, "password": OTHER_PASSWORD}
        acts: list[tuple[str, str, dict[str, Any]]] = [
            ("DELETE", ME, {"headers": headers}),
            ("POST", REFRESH, {"json": {"refresh_token": tokens.refresh}}),
            ("POST", BOOK, {"json": {**TOLD, "country": "SE"}, "headers": headers}),
            ("POST", PASSWORD, {"json": change, "headers": headers}),
            ("DELETE", f"{ME}/sessions", {"headers": tokens.headers}),
            ("PATCH", ME, {"json": {"name": "Ann"}, "headers": tokens.headers}),
            ("POST", FORGOT, {"json": {"email": user.email}}),
        ]

        def act(number: int, acts: Any = acts) -> int:
            method, path, options = acts[number]
            return app.test_client().open(path, method=method, **options).status_code

        answers = at_once(act, len(acts))
        Post(app).deliver()
        statuses.update(answers)
        # Somebody else's deed may have ended the session first.
        if answers[0] == 204:
            session.rollback()
            assert session.get(User, user.id) is None
            for kept in (Address, UserSession, OneTimeToken):
                assert session.scalars(select(kept).where(kept.user_id == user.id)).all() == []
    assert set(statuses) <= {200, 201, 202, 204, 401, 404, 409}, statuses
