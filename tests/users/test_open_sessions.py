"""Which sessions an account has: what is noted of them, how long they hold, and who ends them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from shop.users.models import User, UserSession
from shop.users.sessions import Lifetimes
from tests import factories
from tests.users.checks import (
    SESSIONS,
    T0,
    USERS,
    Tokens,
    Travel,
    events,
    is_in,
    is_over,
    refresh,
    sign_in,
    travelling,
)
from tests.web.checks import assert_problem


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody with an account."""
    return factories.create_user(app, email="anna@example.com")


@pytest.fixture
def short(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refresh tokens hold for 100 seconds, sessions for 250."""
    monkeypatch.setitem(app.extensions, "lifetimes", Lifetimes(100, 250))


@pytest.fixture
def travel(engine: Engine) -> Iterator[Travel]:
    """The beginning of time."""
    with travelling(engine) as travel:
        yield travel


def test_an_access_token_expires_by_itself(client: FlaskClient, travel: Travel, anna: User) -> None:
    """AU-04."""
    tokens = sign_in(client, anna)
    travel.to(899)
    assert is_in(client, tokens)

    travel.to(900)

    assert not is_in(client, tokens)
    assert is_in(client, refresh(client, tokens.refresh))


def test_a_refresh_token_expires_and_each_refresh_begins_its_time_anew(
    client: FlaskClient, travel: Travel, short: None, anna: User, session: Session
) -> None:
    tokens = sign_in(client, anna)
    travel.to(99)
    tokens = refresh(client, tokens.refresh)
    travel.to(198)
    assert is_in(client, tokens)

    travel.to(199)

    assert is_over(client, tokens)
    # Expired is not stolen.
    assert events(session) == []


def test_no_refresh_makes_a_session_longer_than_it_may_be(
    client: FlaskClient, travel: Travel, short: None, anna: User, session: Session
) -> None:
    tokens = sign_in(client, anna)
    for moment in (90, 180, 249):
        travel.to(moment)
        tokens = refresh(client, tokens.refresh)
    assert session.scalars(select(UserSession.expires_at)).all() == [T0 + timedelta(seconds=250)]
    assert is_in(client, tokens)

    travel.to(250)

    # The access token would hold for minutes, its session does not.
    assert is_over(client, tokens)


def test_a_session_shorter_than_a_refresh_token_ends_it(
    app: Flask, client: FlaskClient, travel: Travel, anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.extensions, "lifetimes", Lifetimes(100, 60))
    tokens = sign_in(client, anna)

    travel.to(60)

    assert is_over(client, tokens)


def opened(client: FlaskClient, tokens: Tokens) -> list[dict[str, object]]:
    """One's sessions, as the shop lists them."""
    answer = client.get(SESSIONS, headers=tokens.headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, object]] = answer.get_json()["items"]
    return items


def id_of(client: FlaskClient, tokens: Tokens) -> object:
    """The id of the session of these tokens."""
    return next(item["id"] for item in opened(client, tokens) if item["current"])


def test_an_account_sees_its_sessions_last_used_first(
    client: FlaskClient, travel: Travel, anna: User
) -> None:
    """AU-20."""
    phone = sign_in(client, anna, headers={"User-Agent": "Phone/1.0"})
    travel.to(10)
    desk = sign_in(client, anna, headers={"User-Agent": "Desk/2.0"})
    sign_in(client, factories.create_user(client.application))
    travel.to(20)
    phone = refresh(client, phone.refresh)

    first, second = opened(client, desk)

    assert (first["user_agent"], second["user_agent"]) == ("Phone/1.0", "Desk/2.0")
    assert (first["current"], second["current"]) == (False, True)
    assert (first["created_at"], first["last_used_at"]) == (
        "2026-11-22T09:00:00Z", "2026-11-22T09:00:20Z"
    )  # fmt: skip
    assert first["expires_at"] == "2026-12-22T09:00:20Z"
    assert {item["address"] for item in (first, second)} == {"127.0.0.1"}
    fields = {"id", "user_agent", "address", "created_at", "last_used_at", "expires_at", "current"}
    assert set(first) == fields


def test_ended_and_expired_sessions_are_not_listed(
    client: FlaskClient, travel: Travel, short: None, anna: User
) -> None:
    """AU-20."""
    sign_in(client, anna)
    travel.to(50)
    ended, last = sign_in(client, anna), sign_in(client, anna)
    client.delete(f"{SESSIONS}/{id_of(client, ended)}", headers=last.headers)

    travel.to(100)

    assert [item["current"] for item in opened(client, last)] == [True]


def test_one_session_can_be_ended_from_another(client: FlaskClient, anna: User) -> None:
    """AU-20."""
    lost, here, third = (sign_in(client, anna) for _ in range(3))
    assert is_in(client, lost)
    address = f"{SESSIONS}/{id_of(client, lost)}"

    answer = client.delete(address, headers=here.headers)

    assert (answer.status_code, answer.data) == (204, b"")
    assert is_over(client, lost)
    assert is_in(client, here)
    assert is_in(client, third)
    assert_problem(client.delete(address, headers=here.headers), "not-found")


def test_a_session_can_end_itself(client: FlaskClient, anna: User) -> None:
    """AU-20."""
    tokens = sign_in(client, anna)

    client.delete(f"{SESSIONS}/{id_of(client, tokens)}", headers=tokens.headers)

    assert is_over(client, tokens)


def test_all_sessions_can_be_ended_at_once(client: FlaskClient, anna: User) -> None:
    """AU-20."""
    one, other = sign_in(client, anna), sign_in(client, anna)
    bystander = sign_in(client, factories.create_user(client.application))

    assert client.delete(SESSIONS, headers=one.headers).status_code == 204

    assert is_over(client, one)
    assert is_over(client, other)
    assert is_in(client, bystander)


@pytest.mark.parametrize("role", ["customer", "staff", "admin"])
def test_nobody_ends_a_session_of_somebody_else_by_its_id(
    app: Flask, client: FlaskClient, anna: User, role: str
) -> None:
    """AU-20."""
    victim = sign_in(client, anna)
    headers = factories.sign_in(app, role)

    answer = client.delete(f"{SESSIONS}/{id_of(client, victim)}", headers=headers)

    assert_problem(answer, "not-found")
    assert is_in(client, victim)


def test_an_administrator_ends_all_sessions_of_an_account(
    client: FlaskClient, anna: User, admin: dict[str, str]
) -> None:
    """AU-20."""
    victims = [sign_in(client, anna), sign_in(client, anna)]
    bystander = sign_in(client, factories.create_user(client.application))
    address = f"{USERS}/{anna.id}/sessions"

    assert client.delete(address, headers=admin).status_code == 204

    assert all(is_over(client, tokens) for tokens in victims)
    assert is_in(client, bystander)
    assert client.get(USERS, headers=admin).status_code == 200
    # Who has no session has none to end, and somebody who does not exist is not there.
    assert client.delete(address, headers=admin).status_code == 204
    assert_problem(client.delete(f"{USERS}/999999/sessions", headers=admin), "not-found")


@pytest.mark.parametrize("role", ["customer", "staff"])
def test_only_an_administrator_ends_sessions_of_others(
    app: Flask, client: FlaskClient, anna: User, role: str
) -> None:
    """AU-20."""
    victim, headers = sign_in(client, anna), factories.sign_in(app, role)

    answer = client.delete(f"{USERS}/{anna.id}/sessions", headers=headers)

    assert_problem(answer, "forbidden")
    assert is_in(client, victim)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("", ""),
        ("Browser/1.0 (X11; Linux)", "Browser/1.0 (X11; Linux)"),
        ("x" * 200, "x" * 200),
        ("x" * 5_000, "x" * 200),
        ("é" * 201, "é" * 200),
        ("<script>alert(1)</script>'; DROP TABLE users; --",) * 2,
    ],
)
def test_what_a_session_was_begun_with_is_noted_and_cut(
    client: FlaskClient, anna: User, session: Session, sent: str, kept: str
) -> None:
    """AU-20."""
    tokens = sign_in(client, anna, environ_overrides={"HTTP_USER_AGENT": sent})

    assert session.scalars(select(UserSession.user_agent)).one() == kept
    assert opened(client, tokens)[0]["user_agent"] == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%" + "e" * 60, ("fe80::1%" + "e" * 60)[:45]),
        ("", ""),
    ],
)
def test_where_a_session_was_begun_from_is_noted_and_cut(
    client: FlaskClient, anna: User, session: Session, sent: str, kept: str
) -> None:
    """AU-20."""
    sign_in(client, anna, environ_overrides={"REMOTE_ADDR": sent})

    assert session.scalars(select(UserSession.address)).one() == kept


def test_an_address_that_a_client_makes_up_is_not_noted(
    client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-20."""
    sign_in(client, anna, headers={"X-Forwarded-For": "198.51.100.1", "Forwarded": "for=10.0.0.1"})

    assert session.scalars(select(UserSession.address)).one() == "127.0.0.1"
