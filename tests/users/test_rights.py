"""Roles: who may give which, who may see whom, and that somebody is always in charge."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop.audit.models import AuditEntry
from shop.db import db, transactional
from shop.users import operations, queries
from shop.users.models import ROLES, SecurityEvent, User
from tests import factories
from tests.users.checks import (
    KEYS,
    LOGIN,
    ME,
    REFRESH,
    SESSIONS,
    USERS,
    VERIFY,
    api_key,
    bearer,
    disable,
    events,
    is_in,
    is_over,
    mailed_token,
    sign_in,
    try_to_sign_in,
)
from tests.users.test_accounts import registration, snapshot
from tests.users.test_addresses import BOOK, add, at_once
from tests.web.checks import assert_problem

Headers = dict[str, str]
USER_FIELDS = {
    "id", "email", "email_verified", "name", "role", "disabled", "version", "created_at",
    "updated_at",
}  # fmt: skip
ADDRESS_FIELDS = {
    "id", "version", "name", "line1", "line2", "city", "region", "postal_code", "country", "phone",
    "default_shipping", "default_billing",
}  # fmt: skip
SESSION_FIELDS = {
    "id", "user_agent", "address", "created_at", "last_used_at", "expires_at", "current",
}  # fmt: skip
KEY_FIELDS = {
    "id", "name", "lookup", "scopes", "created_by", "created_at", "expires_at", "last_used_at",
    "revoked_at",
}  # fmt: skip


def change(client: FlaskClient, who: Headers, user_id: int, **rights: Any) -> TestResponse:
    """Ask for other rights of an account."""
    return client.patch(f"{USERS}/{user_id}", json=rights, headers=who)


@pytest.mark.parametrize("role", ROLES)
def test_an_administrator_gives_roles(
    app: Flask, client: FlaskClient, admin: Headers, session: Session, role: str
) -> None:
    user = factories.create_user(app, role="staff" if role == "customer" else "customer")

    answer = change(client, admin, user.id, role=role)

    assert answer.status_code == 200
    assert (answer.get_json()["role"], answer.get_json()["version"]) == (role, 2)
    assert answer.headers["ETag"].startswith('"2-')
    session.expire_all()
    assert session.get_one(User, user.id).role == role
    (event,) = session.scalars(select(SecurityEvent)).all()
    assert (event.kind, event.user_id) == ("rights_changed", user.id)
    before = {"role": user.role, "disabled": False}
    assert event.detail == {"before": before, "after": {"role": role, "disabled": False}}


def test_another_role_counts_at_the_next_request_of_an_open_session(
    app: Flask, client: FlaskClient, admin: Headers
) -> None:
    """AU-10."""
    user = factories.create_user(app)
    tokens = sign_in(client, user)
    assert_problem(client.get(USERS, headers=tokens.headers), "forbidden")

    change(client, admin, user.id, role="staff")
    assert client.get(USERS, headers=tokens.headers).status_code == 200
    change(client, admin, user.id, role="customer")
    assert_problem(client.get(USERS, headers=tokens.headers), "forbidden")
    assert is_in(client, tokens)


def test_a_closed_account_gets_in_nowhere_until_it_is_opened_again(
    app: Flask, client: FlaskClient, admin: Headers
) -> None:
    """AU-09."""
    user = factories.create_user(app)
    opened = [sign_in(client, user) for _ in range(2)]

    assert change(client, admin, user.id, disabled=True).get_json()["disabled"] is True

    assert all(is_over(client, tokens) for tokens in opened)
    assert_problem(try_to_sign_in(client, user.email, factories.PASSWORD), "unauthenticated")
    assert change(client, admin, user.id, disabled=False).get_json()["disabled"] is False
    assert not any(is_in(client, tokens) for tokens in opened)
    assert is_in(client, sign_in(client, user))


def test_what_changes_nothing_leaves_no_trace(
    app: Flask, client: FlaskClient, admin: Headers, session: Session
) -> None:
    user = factories.create_user(app)
    before = snapshot(session)

    for rights in ({}, {"role": "customer"}, {"disabled": False}):
        answer = change(client, admin, user.id, **rights)
        assert (answer.status_code, answer.get_json()["version"]) == (200, 1)
    assert snapshot(session) == before


NO_RIGHTS: dict[str, tuple[Any, ...]] = {
    "role": ("root", "Admin", "", None, 1, ["admin"], "admin "),
    "disabled": (None, 0, 1, "true", "", []),
    "email": ("x@example.com",), "name": ("x",), "password": ("x",), "version": (1,), "id": (1,),
}  # fmt: skip


def test_what_is_no_right_is_refused(
    app: Flask, client: FlaskClient, admin: Headers, session: Session
) -> None:
    """AZ-06."""
    user = factories.create_user(app)
    before = snapshot(session)

    for name, values in NO_RIGHTS.items():
        for value in values:
            answer = change(client, admin, user.id, **{name: value})
            assert_problem(answer, "validation", f"/{name}")

    assert snapshot(session) == before


def test_rights_are_not_changed_over_somebody_elses_change(
    app: Flask, client: FlaskClient, admin: Headers
) -> None:
    user = factories.create_user(app)
    path = f"{USERS}/{user.id}"
    old = client.get(path, headers=admin).headers["ETag"]
    change(client, admin, user.id, role="staff")

    stale = client.patch(path, json={"role": "admin"}, headers=admin | {"If-Match": old})
    assert_problem(stale, "version-conflict")
    new = client.get(path, headers=admin).headers["ETag"]
    fresh = client.patch(path, json={"role": "admin"}, headers=admin | {"If-Match": new})
    assert fresh.status_code == 200


@pytest.mark.parametrize("role", ["customer", "staff"])
def test_nobody_below_an_administrator_raises_anybody(
    app: Flask, client: FlaskClient, admin: Headers, session: Session, role: str
) -> None:
    """AZ-09, AZ-08."""
    me, other = factories.create_user(app, role=role), factories.create_user(app)
    who = factories.headers_of(app, me)
    before = snapshot(session)

    for user_id in (me.id, other.id, 999_999):
        for rights in ({"role": "admin"}, {"role": "staff"}, {"disabled": True}, {"x": 1}, {}):
            assert_problem(change(client, who, user_id, **rights), "forbidden")
        assert_problem(client.delete(f"{USERS}/{user_id}/sessions", headers=who), "forbidden")
    for field in ({"role": "admin"}, {"disabled": False}, {"id": other.id}):
        answer = client.patch(ME, json=field, headers=who)
        assert_problem(answer, "validation", f"/{next(iter(field))}")
    key = {"name": "x", "scopes": ["products:write"]}
    assert_problem(client.post(KEYS, json=key, headers=who), "forbidden")
    assert_problem(client.get(KEYS, headers=who), "forbidden")
    assert_problem(client.delete(f"{KEYS}/1", headers=who), "forbidden")
    new = client.post(USERS, json=registration(role="admin"), headers=who)
    assert_problem(new, "validation", "/role")
    assert snapshot(session) == before


TRICKS: list[tuple[str, str, Headers]] = [
    ("POST", "{}", {"X-HTTP-Method-Override": "PATCH"}), ("GET", "{}", {"X-HTTP-Method": "PATCH"}),
    ("POST", "{}?_method=PATCH", {}), ("PATCH", "{}/", {}), ("PATCH", "//{}", {}),
    ("PATCH", "{}/.", {}), ("PATCH", "{}%2f", {}), ("PATCH", "{}%00", {}), ("PATCH", "{};x", {}),
    ("PUT", "{}", {}), ("DELETE", "{}", {}), ("PATCH", "{}/sessions", {}), ("HEAD", "{}", {}),
]  # fmt: skip


def test_no_detour_leads_around_the_check(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """AZ-08."""
    number = factories.create_user(app).id
    who = factories.sign_in(app, "customer")
    places = (f"{USERS}/{number}", f"/API/v1/users/{number}", f"/api/v2/users/{number}",
              f"/api/v1/%75sers/{number}", f"/api/v1/products/../users/{number}")  # fmt: skip
    before = snapshot(session)

    for method, path, extra in TRICKS:
        for place in places:
            address, headers = path.format(place), who | extra
            answer = client.open(address, method=method, json={"role": "admin"}, headers=headers)
            assert answer.status_code in (401, 403, 404, 405), address
    assert snapshot(session) == before


@pytest.mark.parametrize("rights", [{"role": "staff"}, {"role": "customer"}, {"disabled": True},
                                    {"role": "admin", "disabled": True}])  # fmt: skip
def test_the_last_administrator_stays_one(
    app: Flask, client: FlaskClient, session: Session, rights: dict[str, Any]
) -> None:
    """AZ-09: one whose account is closed does not count."""
    user = factories.create_user(app, role="admin")
    who = factories.headers_of(app, user)
    closed = factories.create_user(app, role="admin")
    disable(app, closed)
    before = snapshot(session)

    assert_problem(change(client, who, user.id, **rights), "conflict")

    assert snapshot(session) == before
    assert change(client, who, closed.id, disabled=False).status_code == 200
    assert change(client, who, user.id, **rights).status_code == 200


def test_a_closed_administrator_can_be_demoted_by_the_last_open_one(
    app: Flask, client: FlaskClient, admin: Headers
) -> None:
    closed = factories.create_user(app, role="admin")
    disable(app, closed)

    assert change(client, admin, closed.id, role="customer").status_code == 200


def let_rule(app: Flask, *users: User) -> None:
    """Make these the only administrators."""

    @transactional
    def crown() -> None:
        session = db.session()
        for user in session.scalars(select(User).where(User.role == "admin")):
            user.role = "customer"
        session.flush()
        for user in users:
            found = session.execute(queries.for_change(user.id)).scalar_one()
            operations.change_rights(session, found, role="admin", disabled=False)

    with app.app_context():
        crown()


def in_charge(session: Session) -> int:
    """How many administrators may enter."""
    session.rollback()
    wanted = select(func.count()).where(User.role == "admin", User.disabled.is_(False))
    return session.execute(wanted).scalar_one()


ROUNDS = 25


@pytest.mark.parametrize("rights", [{"role": "customer"}, {"disabled": True}])
def test_administrators_who_demote_each_other_at_once_leave_one(
    app: Flask, session: Session, rights: dict[str, Any]
) -> None:
    """AZ-09."""
    users = [factories.create_user(app, role="admin") for _ in range(2)]
    for _ in range(ROUNDS):
        let_rule(app, *users)
        headers = [factories.headers_of(app, user) for user in users]

        def demote_the_other(number: int, headers: list[Headers] = headers) -> int:
            client = app.test_client()
            return change(client, headers[number], users[1 - number].id, **rights).status_code

        statuses = sorted(at_once(demote_the_other, 2))

        assert statuses[0] == 200
        assert statuses[1] in (401, 403, 409)
        assert in_charge(session) == 1


def test_administrators_who_all_resign_at_once_leave_one(app: Flask, session: Session) -> None:
    """AZ-09."""
    users = [factories.create_user(app, role="admin") for _ in range(4)]
    for _ in range(ROUNDS // 2):
        let_rule(app, *users)
        headers = [factories.headers_of(app, user) for user in users]

        def resign(number: int, headers: list[Headers] = headers) -> int:
            rights: dict[str, Any] = {"role": "staff"} if number % 2 else {"disabled": True}
            client = app.test_client()
            return change(client, headers[number], users[number].id, **rights).status_code

        assert sorted(at_once(resign, 4)) == [200, 200, 200, 409]
        assert in_charge(session) == 1


def test_administrators_who_are_erased_at_once_leave_one(app: Flask, session: Session) -> None:
    """AZ-09."""
    for _ in range(ROUNDS // 2):
        users = [factories.create_user(app, role="admin") for _ in range(2)]
        let_rule(app, *users)
        headers = [factories.headers_of(app, user) for user in users]

        def go(number: int, headers: list[Headers] = headers) -> int:
            return app.test_client().delete(ME, headers=headers[number]).status_code

        assert sorted(at_once(go, 2)) == [204, 409]
        assert in_charge(session) == 1


def ids(client: FlaskClient, who: Headers, query: str = "") -> list[int]:
    """Ids on the first page of the list of accounts."""
    answer = client.get(f"{USERS}{query}", headers=who)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.get_json()["items"]]


def test_staff_list_and_look_up_accounts(app: Flask, client: FlaskClient) -> None:
    """AZ-09."""
    me = factories.create_user(app, role="staff")
    who = factories.headers_of(app, me)
    ann = factories.create_user(app, email="ann@example.com")
    boss = factories.create_user(app, role="admin")

    assert ids(client, who) == [boss.id, ann.id, me.id]
    assert ids(client, who, "?role=customer") == [ann.id]
    assert ids(client, who, "?role=admin") == [boss.id]
    assert ids(client, who, "?email=ANN@Example.com") == [ann.id]
    assert ids(client, who, "?email=%EF%BD%81nn@example.com") == [ann.id]
    assert ids(client, who, "?email=ann@example.com&role=staff") == []
    for nobody in ("ann", "%25", "a__@example.com", "' OR 1=1 --", "ann@example.com."):
        assert ids(client, who, f"?email={nobody}") == []
    one = client.get(f"{USERS}/{ann.id}", headers=who)
    assert one.get_json()["email"] == "ann@example.com"
    tag = {"If-None-Match": one.headers["ETag"]}
    assert client.get(f"{USERS}/{ann.id}", headers=who | tag).status_code == 304
    assert_problem(client.get(f"{USERS}/999999", headers=who), "not-found")


def test_the_pages_of_the_list_hold_everybody_once(
    app: Flask, client: FlaskClient, admin: Headers
) -> None:
    made = [factories.create_user(app).id for _ in range(7)]
    path, seen = f"{USERS}?limit=3&role=customer", []
    while path:
        answer = client.get(path, headers=admin)
        seen.append([item["id"] for item in answer.get_json()["items"]])
        link = answer.headers.get("Link", "")
        cursor = answer.get_json()["next_cursor"]
        assert bool(link) == bool(cursor)
        path = link.partition("<")[2].partition(">")[0]
        # Who comes meanwhile is on no page that is still to come.
        factories.create_user(app)

    assert seen == [made[:3:-1], made[3:0:-1], made[:1]]


@pytest.mark.parametrize(
    "query",
    ["sort=password_hash", "filter[role]=admin", "user_id=1", "include=sessions", "fields=*",
     "password_hash=x", "disabled=true", "q=ann", "name=ann", "order=id", "offset=1", "page=2",
     "limit=0", "limit=101", "limit=-1", "limit=1e1", "limit=%D9%A1", "limit=", "cursor=",
     "cursor=x", "role=root", "role=", "email=", "role=admin&role=staff", "email=%00",
     "access_token=x", "expand=addresses", "email__like=a", "role[]=admin", "limit=5&limit=5"],
)  # fmt: skip
def test_the_list_answers_no_other_question(
    client: FlaskClient, staff: Headers, query: str
) -> None:
    """AZ-05."""
    answer = client.get(f"{USERS}?{query}", headers=staff)

    pointer = f"/{query.partition('=')[0]}"
    assert_problem(answer, "validation", pointer)


def test_a_cursor_of_another_list_is_refused(client: FlaskClient, staff: Headers) -> None:
    """AZ-05."""
    for _ in range(2):
        factories.create_product(client, staff)
    foreign = client.get("/api/v1/products?limit=1").get_json()["next_cursor"]

    assert_problem(client.get(f"{USERS}?cursor={foreign}", headers=staff), "validation", "/cursor")


@pytest.mark.parametrize("who", ["anonymous", "customer", "API key"])
def test_accounts_are_not_shown_to_others(app: Flask, client: FlaskClient, who: str) -> None:
    """AZ-02, AZ-10: nor whether there are any."""
    other = factories.create_user(app)
    headers: dict[str, Headers] = {
        "anonymous": {}, "customer": factories.sign_in(app, "customer"),
        "API key": bearer(api_key(app, "products:write")),
    }  # fmt: skip
    seen = []
    for path in (USERS, f"{USERS}?role=x", f"{USERS}/{other.id}", f"{USERS}/999999"):
        answer = client.get(path, headers=headers[who])
        body = assert_problem(answer, "unauthenticated" if who == "anonymous" else "forbidden")
        seen.append({name: body[name] for name in body if name != "request_id"})
    assert seen == [seen[0]] * 4


def test_somebody_elses_session_cannot_be_told_from_one_that_never_was(
    app: Flask, client: FlaskClient, session: Session, admin: Headers
) -> None:
    """AZ-03."""
    theirs = sign_in(client, factories.create_user(app))
    number = client.get(SESSIONS, headers=theirs.headers).get_json()["items"][0]["id"]
    before = snapshot(session)

    seen = []
    for wanted in (number, 987_654_321):
        answer = client.delete(f"{SESSIONS}/{wanted}", headers=admin)
        body = assert_problem(answer, "not-found")
        seen.append({name: body[name] for name in body if name != "request_id"})

    assert seen[0] == seen[1]
    assert snapshot(session) == before
    assert is_in(client, theirs)


@pytest.mark.parametrize("role", ROLES)
def test_answers_have_exactly_the_documented_fields(
    app: Flask, client: FlaskClient, role: str
) -> None:
    """AZ-07."""
    user = factories.create_user(app, role=role)
    who = factories.headers_of(app, user)
    home = add(client, who)
    shown: list[tuple[Any, set[str]]] = [(home, ADDRESS_FIELDS)]

    def see(path: str, fields: set[str], *, listed: bool = False) -> None:
        body = client.get(path, headers=who).get_json()
        items = body["items"] if listed else [body]
        assert items
        shown.extend((item, fields) for item in items)

    see(ME, USER_FIELDS)
    see(BOOK, ADDRESS_FIELDS, listed=True)
    see(f"{BOOK}/{home['id']}", ADDRESS_FIELDS)
    see(SESSIONS, SESSION_FIELDS, listed=True)
    if role != "customer":
        see(USERS, USER_FIELDS, listed=True)
        see(f"{USERS}/{user.id}", USER_FIELDS)
    if role == "admin":
        key = {"name": "till", "scopes": ["products:write"]}
        shown.append((client.post(KEYS, json=key, headers=who).get_json(), KEY_FIELDS | {"key"}))
        see(KEYS, KEY_FIELDS, listed=True)
        shown.append((change(client, who, user.id, disabled=False).get_json(), USER_FIELDS))
    for item, fields in shown:
        assert set(item) == fields


def test_what_everybody_is_answered_has_exactly_the_documented_fields(
    app: Flask, client: FlaskClient
) -> None:
    """AZ-07."""
    created = client.post(USERS, json=registration())
    user = factories.create_user(app)
    credentials = {"email": user.email, "password": factories.PASSWORD}
    tokens = client.post(LOGIN, json=credentials).get_json()
    body = {"refresh_token": tokens["refresh_token"]}
    refreshed = client.post(REFRESH, json=body).get_json()
    code = mailed_token(app, user, "verify_email")
    verified = client.post(VERIFY, json={"token": code}).get_json()

    assert set(created.get_json()) == set(verified) == USER_FIELDS
    fields = {"access_token", "refresh_token", "token_type", "expires_in"}
    assert set(tokens) == set(refreshed) == fields


def test_the_document_tells_of_the_same_fields(client: FlaskClient) -> None:
    """AZ-07."""
    shapes = client.get("/openapi.json").get_json()["components"]["schemas"]

    expected = {
        "UserOut": USER_FIELDS, "AddressOut": ADDRESS_FIELDS, "SessionOut": SESSION_FIELDS,
        "ApiKeyOut": KEY_FIELDS, "NewApiKey": KEY_FIELDS | {"key"},
    }  # fmt: skip
    assert {name: set(shapes[name]["properties"]) for name in expected} == expected


@pytest.mark.parametrize("role", ["anonymous", *ROLES])
def test_nobody_changes_the_audit_log(
    app: Flask, client: FlaskClient, session: Session, role: str
) -> None:
    """AZ-14."""
    who = {} if role == "anonymous" else factories.sign_in(app, role)
    entry = session.scalars(select(AuditEntry.id).order_by(AuditEntry.id.desc())).first() or 1
    before = snapshot(session)

    for path in ("/audit", f"/audit/{entry}", "/audit/events", f"/audit-log/{entry}",
                 f"/audit_log/{entry}", f"/security-events/{entry}"):  # fmt: skip
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = client.open(f"/api/v1{path}", method=method, json={}, headers=who)
            assert answer.status_code in (404, 405)
    assert snapshot(session) == before


def test_no_route_with_the_audit_log_in_its_name_takes_a_write(app: Flask) -> None:
    """AZ-14."""
    routes = [rule for rule in app.url_map.iter_rules() if "audit" in rule.rule.lower()]

    assert all((rule.methods or set()) <= {"GET", "HEAD", "OPTIONS"} for rule in routes)


def test_a_change_of_rights_is_told_to_nobody_but_the_log(
    app: Flask, client: FlaskClient, admin: Headers, session: Session
) -> None:
    user = factories.create_user(app)
    change(client, admin, user.id, role="staff", disabled=True)

    assert events(session, user.id) == ["rights_changed"]
    assert snapshot(session)["outgoing_mails"] == []
