"""Signing in: what opens an account, how passwords are kept, and what strangers learn: nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop import clock
from shop.mail.models import OutgoingMail
from shop.users import passwords
from shop.users.models import User, UserSession
from tests import factories
from tests.limits.test_throttle import end_windows
from tests.users.checks import (
    FORGOT,
    LOGIN,
    ME,
    OTHER_PASSWORD,
    PASSWORD,
    RESEND,
    USERS,
    bearer,
    disable,
    is_in,
    sign_in,
    tokens_of,
    try_to_sign_in,
)
from tests.web.checks import assert_problem


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody with an account."""
    return factories.create_user(app, email="Anna.Müller@Example.com")


def test_a_sign_in_gives_a_token_that_opens_the_own_account(
    client: FlaskClient, anna: User
) -> None:
    answer = try_to_sign_in(client, anna.email, factories.PASSWORD)

    body = answer.get_json()
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    assert answer.headers["Cache-Control"] == "no-store"
    me = client.get(ME, headers=bearer(body["access_token"]))
    assert me.get_json()["id"] == anna.id


def test_each_sign_in_begins_a_session_of_its_own(
    client: FlaskClient, anna: User, session: Session
) -> None:
    one, other = sign_in(client, anna), sign_in(client, anna)

    assert len({one.access, other.access, one.refresh, other.refresh}) == 4
    assert session.scalar(select(func.count()).select_from(UserSession)) == 2


def test_an_account_shows_its_owner_all_but_the_password(
    client: FlaskClient, customer: dict[str, str]
) -> None:
    answer = client.get(ME, headers=customer)

    body = answer.get_json()
    fields = {"id", "email", "email_verified", "name", "role", "disabled", "version"}
    assert set(body) == fields | {"created_at", "updated_at"}
    assert (body["role"], body["disabled"], body["email_verified"]) == ("customer", False, False)
    assert body["created_at"].endswith("Z")
    assert answer.headers["ETag"].startswith('"1-')
    assert "argon2" not in answer.text


@pytest.mark.parametrize(
    "spelling",
    ["anna.müller@example.com", "ANNA.MÜLLER@EXAMPLE.COM", "  anna.müller@example.com ",
     unicodedata.normalize("NFD", "Anna.Müller@example.com"), "ａｎｎａ.müller@example.com"],
)  # fmt: skip
def test_an_address_is_found_however_it_is_spelt(
    client: FlaskClient, anna: User, spelling: str
) -> None:
    assert is_in(client, tokens_of(try_to_sign_in(client, spelling, factories.PASSWORD)))


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("anna.müller@example.com", "wrong horse battery"),
        ("anna.müller@example.com", factories.PASSWORD.upper()),
        ("anna.müller@example.com", factories.PASSWORD + " "),
        ("anna.müller@example.com", factories.PASSWORD + "x" * 900),
        ("anna.muller@example.com", factories.PASSWORD),
        ("anna.müller@example.co", factories.PASSWORD),
        ("nobody@example.com", factories.PASSWORD),
        ("no address", factories.PASSWORD),
        ("%", factories.PASSWORD),
        ("' OR 1=1 --", factories.PASSWORD),
        ("🦊@example.com", factories.PASSWORD),
    ],
)
def test_every_failed_sign_in_gets_the_same_answer(
    client: FlaskClient, anna: User, session: Session, email: str, password: str
) -> None:
    """AU-13."""
    answer = try_to_sign_in(client, email, password)

    body = assert_problem(answer, "unauthenticated")
    assert body["detail"] == "The e-mail address or the password is wrong."
    assert session.scalar(select(func.count()).select_from(UserSession)) == 0


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/email", "/password"]),
        ({"email": "a@example.com"}, ["/password"]),
        ({"email": "", "password": ""}, ["/email", "/password"]),
        ({"email": None, "password": None}, ["/email", "/password"]),
        ({"email": ["a@example.com"], "password": {}}, ["/email", "/password"]),
        ({"email": "x" * 255, "password": "x" * 1_001}, ["/email", "/password"]),
        ({"email": "a@example.com", "password": "x", "admin": True}, ["/admin"]),
    ],
)
def test_what_cannot_be_credentials_is_refused(
    client: FlaskClient, body: dict[str, Any], pointers: list[str]
) -> None:
    assert_problem(client.post(LOGIN, json=body), "validation", *pointers)


def stored_hash(session: Session, email: str) -> str:
    """What is kept of a password, by SQL."""
    session.rollback()
    found = session.execute(
        text("SELECT password_hash FROM users WHERE email = :email"), {"email": email}
    )
    return str(found.scalar_one())


def registered(client: FlaskClient, email: str) -> str:
    """The address of an account that was opened over HTTP."""
    body = {"email": email, "name": "Berta", "password": factories.PASSWORD}
    assert client.post(USERS, json=body).status_code == 201
    return email


def test_a_password_is_kept_as_a_salted_argon2id_hash(
    client: FlaskClient, session: Session
) -> None:
    """AU-12: at least the parameters of ASVS, appendix C."""
    one, other = (
        stored_hash(session, registered(client, f"{name}@example.com")) for name in ("a", "b")
    )

    assert one.startswith("$argon2id$v=19$")
    kept = extract_parameters(one)
    assert kept.memory_cost >= 19 * 1024
    assert kept.time_cost >= 2
    assert kept.parallelism >= 1
    assert (kept.salt_len, kept.hash_len) == (16, 32)
    assert one != other
    assert one.split("$")[4] != other.split("$")[4]


def test_every_way_to_set_a_password_keeps_it_so(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """AU-12."""
    email = registered(client, "berta@example.com")
    tokens = tokens_of(try_to_sign_in(client, email, factories.PASSWORD))
    before = stored_hash(session, email)
    change = {"current_password": factories.PASSWORD, "password": OTHER_PASSWORD}

    client.post(PASSWORD, json=change, headers=tokens.headers)

    after = stored_hash(session, email)
    assert after != before
    assert extract_parameters(after) == extract_parameters(before)


@pytest.fixture
def stronger(monkeypatch: pytest.MonkeyPatch) -> PasswordHasher:
    """The parameters are raised."""
    hasher = PasswordHasher(time_cost=3, memory_cost=20_480, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", hasher)
    return hasher


def test_a_hash_with_old_parameters_is_made_anew_at_the_next_sign_in(
    client: FlaskClient, anna: User, session: Session, stronger: PasswordHasher
) -> None:
    """AU-12."""
    old = stored_hash(session, anna.email)
    earlier = sign_in(client, anna)

    new = stored_hash(session, anna.email)

    assert old.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert new.startswith("$argon2id$v=19$m=20480,t=3,p=1$")
    assert stronger.verify(new, factories.PASSWORD)
    # That is no change of the password: nothing ends, and it is made anew once.
    sign_in(client, anna)
    assert is_in(client, earlier)
    assert stored_hash(session, anna.email) == new


def test_a_failed_sign_in_makes_no_hash_anew(
    app: Flask, client: FlaskClient, anna: User, session: Session, stronger: PasswordHasher
) -> None:
    """AU-12."""
    old = stored_hash(session, anna.email)
    assert_problem(try_to_sign_in(client, anna.email, OTHER_PASSWORD), "unauthenticated")
    disable(app, anna)
    assert_problem(try_to_sign_in(client, anna.email, factories.PASSWORD), "unauthenticated")

    assert stored_hash(session, anna.email) == old


def test_a_password_that_was_changed_while_it_was_checked_opens_nothing(
    client: FlaskClient, anna: User, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-09: who signs in with the old one at that moment must not outlive the change."""
    verify = passwords._verify

    def verify_and_be_overtaken(password_hash: str | None, password: str) -> bool:
        right = verify(password_hash, password)
        session.get_one(User, anna.id).password_hash = passwords._NOBODYS_HASH
        session.commit()
        return right

    monkeypatch.setattr(passwords, "_verify", verify_and_be_overtaken)

    assert_problem(try_to_sign_in(client, anna.email, factories.PASSWORD), "conflict")

    assert session.scalar(select(func.count()).select_from(UserSession)) == 0


def face(answer: TestResponse) -> tuple[Any, ...]:
    """All of an answer that a stranger could learn from."""
    body = answer.get_json()
    body.pop("request_id", None)
    # How many seconds are left of a window depends on the moment.
    headers = {
        name: re.sub(r";t=[0-9]+", "", value)
        for name, value in answer.headers
        if name not in ("X-Request-ID", "Retry-After", "Content-Length")
    }
    if "detail" in body:
        body["detail"] = re.sub(r"[0-9]+ seconds", "", body["detail"])
    return answer.status_code, body, headers


def kinds(app: Flask) -> dict[str, str]:
    """An address of each kind that must not be told from the others."""
    known, closed, proved, staff = (factories.create_user(app) for _ in range(4))
    disable(app, closed)
    with Session(app.extensions["shop"].engine) as session:
        session.get_one(User, proved.id).email_verified_at = clock.now()
        session.get_one(User, staff.id).role = "staff"
        session.commit()
    return {
        "unknown": "nobody@example.com",
        "no address": "nobody",
        "known": known.email,
        "disabled": closed.email,
        "verified": proved.email,
        "staff": staff.email,
    }


DOORS: dict[str, Callable[[FlaskClient, str], TestResponse]] = {
    "sign in with a wrong password": lambda c, email: try_to_sign_in(c, email, OTHER_PASSWORD),
    "forgot": lambda c, email: c.post(FORGOT, json={"email": email}),
    "resend": lambda c, email: c.post(RESEND, json={"email": email}),
}


@pytest.mark.parametrize("door", DOORS)
def test_nobody_learns_from_answers_who_has_an_account(
    app: Flask, client: FlaskClient, door: str
) -> None:
    """AU-13: nor from those to many tries, the last of which are refused."""
    seen = {}

    for kind, address in kinds(app).items():
        end_windows(app.extensions["shop"].engine)
        seen[kind] = [face(DOORS[door](client, address)) for _ in range(12)]

    for kind, faces in seen.items():
        assert faces == seen["unknown"], kind


def test_the_right_password_of_a_closed_account_is_answered_like_any(
    app: Flask, client: FlaskClient, anna: User
) -> None:
    """AU-13."""
    disable(app, anna)

    closed = face(try_to_sign_in(client, anna.email, factories.PASSWORD))
    end_windows(app.extensions["shop"].engine)

    assert closed == face(try_to_sign_in(client, "nobody@example.com", OTHER_PASSWORD))


def test_a_mail_is_noted_for_whoever_is_asked_for(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """AU-13: looking first whether there is an account would take its time, and so tell."""
    addresses = list(kinds(app).values())

    for address in addresses:
        for door in (FORGOT, RESEND):
            answer = client.post(door, json={"email": address})
            assert (answer.status_code, answer.get_json()) == (202, {})

    noted = session.execute(select(OutgoingMail.recipient, OutgoingMail.kind)).all()
    wanted = [(address, kind) for address in addresses
              for kind in ("reset_password", "verify_email")]  # fmt: skip
    assert sorted(map(tuple, noted)) == sorted(wanted)
