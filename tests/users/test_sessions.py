"""A session holds until it ends, and then none of its tokens does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.db import database_ms, db, transactional
from shop.users import sessions
from shop.users.models import RefreshToken, SecurityEvent, User, UserSession
from shop.users.one_time import RESET_PASSWORD
from shop.users.sessions import Lifetimes
from shop.users.tokens import digest
from tests import factories
from tests.users.checks import (
    LOGOUT,
    ME,
    OTHER_PASSWORD,
    PASSWORD,
    RESET,
    USERS,
    Tokens,
    events,
    is_in,
    is_over,
    mailed_token,
    refresh,
    sign_in,
    try_to_refresh,
    try_to_sign_in,
)
from tests.web.checks import assert_problem


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody with an account."""
    return factories.create_user(app, email="anna@example.com")


def test_a_refresh_brings_another_pair_of_tokens_of_the_same_session(
    client: FlaskClient, anna: User, session: Session
) -> None:
    first = sign_in(client, anna)

    second = refresh(client, first.refresh)

    assert second.refresh != first.refresh
    assert is_in(client, first)
    assert is_in(client, second)
    assert session.scalar(select(func.count()).select_from(UserSession)) == 1


def test_a_spent_refresh_token_ends_its_session_and_is_reported(
    client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-06."""
    other = sign_in(client, anna)
    first = sign_in(client, anna)
    second = refresh(client, first.refresh)

    assert_problem(try_to_refresh(client, first.refresh), "unauthenticated")

    assert is_over(client, second)
    assert not is_in(client, first)
    assert is_in(client, other)
    assert events(session, anna.id) == ["refresh_reuse"]
    entry = session.scalars(
        select(AuditEntry).where(AuditEntry.table_name == "security_events")
    ).one()
    assert "refresh_reuse" in entry.data
    assert entry.sequence == 1


def test_every_older_token_of_a_chain_ends_its_session(client: FlaskClient, anna: User) -> None:
    """AU-06."""
    chain = [sign_in(client, anna)]
    for _ in range(3):
        chain.append(refresh(client, chain[-1].refresh))

    assert_problem(try_to_refresh(client, chain[0].refresh), "unauthenticated")

    assert all(is_over(client, tokens) for tokens in chain)


def test_a_reuse_is_reported_once(client: FlaskClient, anna: User, session: Session) -> None:
    """AU-06: whoever shows it again learns nothing, and fills no log."""
    first = sign_in(client, anna)
    refresh(client, first.refresh)

    for _ in range(3):
        assert try_to_refresh(client, first.refresh).status_code == 401

    assert events(session) == ["refresh_reuse"]


def test_whoever_has_the_new_token_is_past_the_race_for_the_old_one(
    client: FlaskClient, anna: User
) -> None:
    """AU-06: the answer comes so late that no honest request can still be under way."""
    first = sign_in(client, anna)
    begun = time.monotonic()

    refresh(client, first.refresh)

    assert time.monotonic() - begun > sessions.RACE_SECONDS
    assert try_to_refresh(client, first.refresh).status_code == 401


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second counts as at once, so that a slow machine does not decide."""
    monkeypatch.setattr(sessions, "RACE_SECONDS", 1.0)


def refresh_in_transaction(token: str) -> Any:
    """What becomes of a refresh token, without the wait of the door."""
    return transactional(sessions.refresh)(db.session(), token, Lifetimes(3600, 3600))


def test_a_request_beside_the_one_that_refreshes_ends_nothing(
    app: Flask, client: FlaskClient, anna: User, session: Session, patient: None
) -> None:
    """AU-07."""
    token = sign_in(client, anna).refresh
    with app.app_context():
        winner = refresh_in_transaction(token)

    answer = try_to_refresh(client, token)

    assert_problem(answer, "conflict")
    assert events(session) == []
    refresh(client, winner.refresh_token)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("age", "status"), [(-9_000, 409), (0, 409), (60_000, 401), (10**9, 401)])
def test_how_long_ago_a_token_was_spent_decides(
    client: FlaskClient, anna: User, session: Session, age: int, status: int
) -> None:
    """AU-07: by the database's clock."""
    token = sign_in(client, anna).refresh
    session.execute(update(RefreshToken).values(spent_ms=database_ms() - age))
    session.commit()

    assert try_to_refresh(client, token).status_code == status


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
def test_of_two_that_both_saw_the_token_unspent_one_gets_the_next(
    app: Flask, client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-07: the second one waits for the first one's lock, and then finds the token spent."""
    token = sign_in(client, anna).refresh
    spent = update(RefreshToken).values(spent_ms=database_ms())
    session.execute(spent.where(RefreshToken.token_hash == digest(token)))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            lambda: app.test_client().post("/api/v1/auth/refresh", json={"refresh_token": token})
        )
        assert not _done_within(answer.done, 0.5)

        session.commit()

        assert answer.result().status_code == 409
    assert events(session) == []


def _done_within(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not done():
        time.sleep(0.01)
    return done()


def test_of_many_refreshes_at_once_one_wins_and_the_chain_goes_on(
    app: Flask, client: FlaskClient, anna: User, session: Session, patient: None
) -> None:
    """AU-07, with the threads of one process; test_workers.py does it with several."""
    token, start = sign_in(client, anna).refresh, threading.Barrier(6)

    def show(_number: int) -> Any:
        start.wait()
        return try_to_refresh(app.test_client(), token)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(show, range(6)))

    won = [answer for answer in answers if answer.status_code == 200]
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    refresh(client, won[0].get_json()["refresh_token"])
    assert events(session) == []


def test_a_sign_out_ends_this_session_and_no_other(client: FlaskClient, anna: User) -> None:
    """AU-08."""
    one, other = sign_in(client, anna), sign_in(client, anna)
    renewed = refresh(client, one.refresh)

    answer = client.post(LOGOUT, headers=renewed.headers)

    assert (answer.status_code, answer.data) == (204, b"")
    assert is_over(client, renewed)
    assert not is_in(client, one)
    assert is_in(client, other)
    assert_problem(client.post(LOGOUT, headers=renewed.headers), "unauthenticated")


def test_a_refresh_token_of_a_session_that_was_ended_is_no_reuse(
    client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-08."""
    tokens = sign_in(client, anna)
    client.post(LOGOUT, headers=tokens.headers)

    assert_problem(try_to_refresh(client, tokens.refresh), "unauthenticated")

    assert events(session) == []


def three(client: FlaskClient, user: User) -> list[Tokens]:
    """The newest tokens of three sessions, one of which was refreshed."""
    opened = [sign_in(client, user) for _ in range(3)]
    return [*opened[:2], refresh(client, opened[2].refresh)]


def test_another_password_ends_all_sessions_but_the_one_that_set_it(
    client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-09."""
    acting, *others = three(client, anna)
    change = {"current_password": factories.PASSWORD, "password": OTHER_PASSWORD}

    assert client.post(PASSWORD, json=change, headers=acting.headers).status_code == 204

    assert all(is_over(client, tokens) for tokens in others)
    assert is_in(client, acting)
    assert is_in(client, refresh(client, acting.refresh))
    assert events(session, anna.id) == ["password_changed"]


def reset(app: Flask, user: User) -> int:
    """Set another password with a mailed token."""
    body = {"token": mailed_token(app, user, RESET_PASSWORD), "password": OTHER_PASSWORD}
    return app.test_client().post(RESET, json=body).status_code


def close(app: Flask, user: User) -> int:
    """Close the account, as an administrator."""
    admin = factories.sign_in(app, "admin")
    body = {"disabled": True}
    answer = app.test_client().patch(f"{USERS}/{user.id}", json=body, headers=admin)
    return answer.status_code // 100 * 100 + 4


def close_and_open(app: Flask, user: User) -> int:
    """Close the account and open it again: what was ended stays ended."""
    admin, client = factories.sign_in(app, "admin"), app.test_client()
    for disabled in (True, False):
        body = {"disabled": disabled}
        answer = client.patch(f"{USERS}/{user.id}", json=body, headers=admin)
    return answer.status_code + 4


def erase(app: Flask, user: User) -> int:
    """Delete the account, as its owner."""
    headers = factories.headers_of(app, user)
    return app.test_client().delete(ME, headers=headers).status_code


@pytest.mark.parametrize("end", [reset, close, close_and_open, erase])
def test_what_ends_an_account_or_its_password_ends_every_session(
    app: Flask, client: FlaskClient, anna: User, end: Callable[[Flask, User], int]
) -> None:
    """AU-09."""
    opened, bystander = three(client, anna), sign_in(client, factories.create_user(app))
    assert all(is_in(client, tokens) for tokens in opened)

    assert end(app, anna) == 204

    assert all(is_over(client, tokens) for tokens in opened)
    assert is_in(client, bystander)


def test_an_account_that_is_closed_in_whatever_way_gets_no_new_tokens(
    client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-09: not only by the door that ends its sessions too."""
    tokens = sign_in(client, anna)
    account = session.get_one(User, anna.id)
    account.disabled = True
    session.commit()

    assert is_over(client, tokens)

    account.disabled = False
    session.commit()
    assert is_in(client, refresh(client, tokens.refresh))


@pytest.mark.parametrize("end", [close, erase])
def test_a_closed_account_cannot_begin_a_session(
    app: Flask, client: FlaskClient, anna: User, end: Callable[[Flask, User], int]
) -> None:
    """AU-09."""
    end(app, anna)

    assert_problem(try_to_sign_in(client, anna.email, factories.PASSWORD), "unauthenticated")


def test_an_event_of_a_deleted_account_stays(
    app: Flask, client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-06: who stole tokens cannot hide it by deleting the account."""
    first = sign_in(client, anna)
    refresh(client, first.refresh)
    try_to_refresh(client, first.refresh)

    assert erase(app, anna) == 204

    assert events(session, anna.id) == ["refresh_reuse"]
    assert session.scalar(select(func.count()).select_from(UserSession)) == 0
    assert session.scalar(select(func.count()).select_from(RefreshToken)) == 0
    assert session.scalars(select(SecurityEvent.detail)).one().keys() == {"session"}
