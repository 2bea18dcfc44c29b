"""What ended long ago is forgotten, some of it at a time."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop import clock
from shop.db import db, transactional
from shop.users.jobs import forget_sessions
from shop.users.models import OneTimeToken, RefreshToken, User, UserSession
from tests import factories

NOW = clock.now()
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
_numbers = itertools.count(1)


def forget(app: Flask) -> dict[str, Any]:
    """Run the job as the scheduler does."""
    with app.app_context():
        return transactional(forget_sessions)(db.session(), NOW)


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody with an account."""
    return factories.create_user(app)


def opened(user: User, **times: Any) -> UserSession:
    """A session that would hold for a month."""
    plain = {"created_at": NOW - 90 * DAY, "expires_at": NOW + 30 * DAY, "ended_at": None}
    return UserSession(user_id=user.id, user_agent="", address="", **(plain | times))


def link(session_id: int) -> RefreshToken:
    """A link of a session's chain."""
    return RefreshToken(session_id=session_id, token_hash=f"{next(_numbers):064}")


def rows(session: Session, model: type[Any]) -> int:
    """How many there are now."""
    session.rollback()
    return session.execute(select(func.count()).select_from(model)).scalar_one()


GONE = {
    "expired a week ago": {"expires_at": NOW - 7 * DAY - SECOND},
    "ended a week ago": {"ended_at": NOW - 7 * DAY - SECOND},
    "both, long ago": {"expires_at": NOW - 60 * DAY, "ended_at": NOW - 70 * DAY},
    "ended long ago, would hold": {"ended_at": NOW - 8 * DAY, "expires_at": NOW + 80 * DAY},
}  # fmt: skip
KEPT = {
    "holds": {},
    "is old and holds": {"created_at": NOW - 900 * DAY},
    "expired just now": {"expires_at": NOW - SECOND},
    "ended just now": {"ended_at": NOW - SECOND},
    "expired not yet a week ago": {"expires_at": NOW - 7 * DAY + SECOND},
    "ended not yet a week ago": {"ended_at": NOW - 7 * DAY + SECOND},
}


def test_sessions_that_ended_a_week_ago_are_forgotten_with_their_tokens(
    app: Flask, session: Session, anna: User
) -> None:
    made = {what: opened(anna, **times) for what, times in (GONE | KEPT).items()}
    session.add_all(made.values())
    session.flush()
    session.add_all(link(one.id) for one in made.values() for _ in range(3))
    session.commit()
    ids = {one.id: what for what, one in made.items()}

    assert forget(app)["sessions"] == len(GONE)

    session.rollback()
    left = session.scalars(select(UserSession.id)).all()
    assert {ids[number] for number in left} == set(KEPT)
    assert rows(session, RefreshToken) == 3 * len(KEPT)
    assert set(session.scalars(select(RefreshToken.session_id))) == set(left)
    assert forget(app) == {"sessions": 0, "one_time_tokens": 0}


def test_codes_that_expired_are_forgotten(app: Flask, session: Session) -> None:
    ends = {"gone": NOW - SECOND, "long gone": NOW - 90 * DAY, "good": NOW + SECOND, "now": NOW}
    for what, expires_at in ends.items():
        user = factories.create_user(app)
        session.add(
            OneTimeToken(user_id=user.id, purpose="reset_password", token_hash=what.rjust(64),
                         email=what, expires_at=expires_at)
        )  # fmt: skip
    session.commit()

    assert forget(app)["one_time_tokens"] == 2

    session.rollback()
    assert set(session.scalars(select(OneTimeToken.email))) == {"good", "now"}


def test_nothing_else_is_forgotten(app: Flask, session: Session, anna: User) -> None:
    headers = factories.headers_of(app, anna)

    assert forget(app) == {"sessions": 0, "one_time_tokens": 0}

    assert rows(session, User) == 1
    assert app.test_client().get("/api/v1/users/me", headers=headers).status_code == 200


def test_a_run_forgets_five_hundred_and_the_next_one_goes_on(
    app: Flask, session: Session, anna: User
) -> None:
    """SQLite has one write lock for all."""
    long_ago: Any = {"ended_at": NOW - 8 * DAY}
    session.add_all(opened(anna, **long_ago) for _ in range(1100))
    session.add(opened(anna))
    session.commit()

    assert [forget(app)["sessions"] for _ in range(4)] == [500, 500, 100, 0]

    assert rows(session, UserSession) == 1
