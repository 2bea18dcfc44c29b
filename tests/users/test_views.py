"""Signing in, and one's own account."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from shop.users.models import User
from tests import factories
from tests.web.checks import assert_problem

LOGIN, ME = "/api/v1/auth/login", "/api/v1/users/me"


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody with an account."""
    return factories.create_user(app, email="Anna.Müller@Example.com")


def test_a_sign_in_gives_a_token_that_opens_the_own_account(
    client: FlaskClient, anna: User
) -> None:
    answer = client.post(LOGIN, json={"email": anna.email, "password": factories.PASSWORD})

    tokens = answer.get_json()
    assert answer.status_code == 200
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 900
    me = client.get(ME, headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert me.status_code == 200
    assert me.get_json()["id"] == anna.id


def test_an_account_shows_its_owner_all_but_the_password(
    client: FlaskClient, customer: dict[str, str]
) -> None:
    answer = client.get(ME, headers=customer)

    body = answer.get_json()
    fields = {"id", "email", "name", "role", "version", "created_at", "updated_at"}
    assert set(body) == fields
    assert body["role"] == "customer"
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
    answer = client.post(LOGIN, json={"email": spelling, "password": factories.PASSWORD})

    assert answer.status_code == 200


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
    client: FlaskClient, anna: User, email: str, password: str
) -> None:
    answer = client.post(LOGIN, json={"email": email, "password": password})

    body = assert_problem(answer, "unauthenticated")
    assert body["detail"] == "The e-mail address or the password is wrong."


def test_a_disabled_account_cannot_sign_in_and_its_tokens_end_at_once(
    client: FlaskClient, anna: User, session: Session
) -> None:
    credentials = {"email": anna.email, "password": factories.PASSWORD}
    token = client.post(LOGIN, json=credentials).get_json()["access_token"]

    session.get_one(User, anna.id).disabled = True
    session.commit()

    assert_problem(client.post(LOGIN, json=credentials), "unauthenticated")
    answer = client.get(ME, headers={"Authorization": f"Bearer {token}"})
    assert_problem(answer, "unauthenticated")


def test_a_token_of_a_deleted_account_opens_nothing(
    client: FlaskClient, anna: User, session: Session
) -> None:
    credentials = {"email": anna.email, "password": factories.PASSWORD}
    token = client.post(LOGIN, json=credentials).get_json()["access_token"]

    session.delete(session.get_one(User, anna.id))
    session.commit()

    answer = client.get(ME, headers={"Authorization": f"Bearer {token}"})
    assert_problem(answer, "unauthenticated")


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
