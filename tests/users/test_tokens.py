"""Opaque tokens: long, kept as digests, good for one thing, and never matched by another type."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shop.users.models import OneTimeToken, RefreshToken, User, UserSession
from shop.users.one_time import CHANGE_EMAIL, RESET_PASSWORD, VERIFY_EMAIL
from shop.users.tokens import digest, new_secret
from tests import factories
from tests.limits.test_throttle import end_windows
from tests.users.checks import (
    ME,
    OTHER_PASSWORD,
    REFRESH,
    RESET,
    VERIFY,
    api_key,
    bearer,
    mailed_token,
    sign_in,
    try_to_sign_in,
)
from tests.web.checks import assert_problem

#: Each door that takes a token, and what else it wants.
DOORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "refresh": (REFRESH, "refresh_token", {}),
    "reset": (RESET, "token", {"password": OTHER_PASSWORD}),
    "verify": (VERIFY, "token", {}),
}
#: What a careless comparison finds equal to some text (M9), or cannot compare at all.
NO_TOKENS: tuple[Any, ...] = (
    0, 1, -1, 0.0, True, False, None, "", [], {}, [""], [0], [True], {"$ne": None}, {"": ""},
    "0", "1", "true", "null", "%", "_", "*", "' OR '1'='1", "0 OR 1=1", "\0", "x" * 201, 2**63,
)  # fmt: skip


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody with an account and a token of each kind, so that a wrong one could match."""
    user = factories.create_user(app)
    for purpose in (RESET_PASSWORD, VERIFY_EMAIL, CHANGE_EMAIL):
        mailed_token(app, user, purpose)
    sign_in(app.test_client(), user)
    return user


def state(session: Session) -> list[Any]:
    """All that a match would have changed."""
    session.rollback()
    tables = (User.version, UserSession.ended_at, RefreshToken.spent_ms, OneTimeToken.id)
    return [session.scalars(select(column)).all() for column in tables]


@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_token_matches_none(
    client: FlaskClient, anna: User, session: Session, door: str
) -> None:
    """AU-16."""
    address, name, rest = DOORS[door]
    before = state(session)

    for value in NO_TOKENS:
        answer = client.post(address, json={name: value, **rest})
        assert_problem(answer, *_refusal(value, name))
    assert_problem(client.post(address, json=rest), "validation", f"/{name}")

    assert state(session) == before


def _refusal(value: Any, name: str) -> tuple[str, ...]:
    sane = isinstance(value, str) and 0 < len(value) <= 200 and "\0" not in value
    return ("unauthenticated",) if sane else ("validation", f"/{name}")


@pytest.mark.parametrize("password", [0, True, None, "", [], {}, ["x"], {"$ne": ""}, 0.5])
def test_what_is_no_password_fits_no_account(
    client: FlaskClient, anna: User, password: Any
) -> None:
    """AU-16."""
    assert try_to_sign_in(client, anna.email, password).status_code == 422


@pytest.mark.parametrize("email", [0, True, None, "", [], {}, {"$ne": ""}, ["a@example.com"]])
def test_what_is_no_address_finds_no_account(client: FlaskClient, anna: User, email: Any) -> None:
    """AU-16."""
    assert try_to_sign_in(client, email, factories.PASSWORD).status_code == 422


def test_a_secret_has_256_bits_and_is_never_the_same() -> None:
    """AU-16."""
    made = {new_secret() for _ in range(1_000)}

    assert len(made) == 1_000
    assert {len(base64.urlsafe_b64decode(secret + "=")) for secret in made} == {32}
    # Every bit is set in about half of them: none is constant.
    numbers = [int.from_bytes(base64.urlsafe_b64decode(secret + "=")) for secret in made]
    for bit in range(256):
        assert 350 < sum(number >> bit & 1 for number in numbers) < 650


def test_only_digests_of_tokens_are_stored(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """AU-16."""
    user = factories.create_user(app)
    tokens, mailed = sign_in(client, user), mailed_token(app, user)

    kept = [
        str(row)
        for table in ("sessions", "refresh_tokens", "one_time_tokens", "security_events")
        for row in session.execute(text(f"SELECT * FROM {table}"))
    ]
    logged = [str(row) for row in session.execute(text("SELECT * FROM audit_log"))]

    assert digest(tokens.refresh) in "".join(kept)
    assert digest(mailed) in "".join(kept)
    for secret in (tokens.refresh, mailed, tokens.access.rpartition(".")[2]):
        assert secret not in "".join(kept + logged)
    assert digest(tokens.refresh) not in "".join(logged)
    assert digest(mailed) not in "".join(logged)


def all_tokens(app: Flask, user: User) -> dict[str, str]:
    """One of each kind, all of them good, and the digests that are stored of them."""
    tokens = sign_in(app.test_client(), user)
    found = {
        "access": tokens.access,
        "refresh": tokens.refresh,
        "API key": api_key(app, "products:write"),
        **{purpose: mailed_token(app, user, purpose) for purpose in (RESET_PASSWORD, VERIFY_EMAIL)},
    }
    return found | {f"digest of {name}": digest(token) for name, token in found.items()}


USES: dict[str, tuple[set[str], Callable[[FlaskClient, str], Any]]] = {
    "as an access token": ({"access", "API key"}, lambda c, t: c.get(ME, headers=bearer(t))),
    "at refresh": ({"refresh"}, lambda c, t: c.post(REFRESH, json={"refresh_token": t})),
    "at reset": (
        {RESET_PASSWORD},
        lambda c, t: c.post(RESET, json={"token": t, "password": OTHER_PASSWORD}),
    ),
    "at verify": ({VERIFY_EMAIL}, lambda c, t: c.post(VERIFY, json={"token": t})),
}


@pytest.mark.parametrize("use", USES)
def test_a_token_is_good_for_nothing_but_what_it_was_made_for(
    app: Flask, client: FlaskClient, anna: User, use: str
) -> None:
    """AU-04."""
    good, show = USES[use]

    for name, token in all_tokens(app, anna).items():
        if name in good:
            continue
        answer = show(client, token)
        assert answer.status_code in (401, 422), f"{name} {use}: {answer.text}"
        assert "access_token" not in answer.text
        # Too many wrong ones in a row would be refused for that reason.
        end_windows(app.extensions["shop"].engine)
