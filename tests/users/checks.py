"""What tests about sign-in and sessions do at the doors of the shop, and look up behind them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import TestResponse

from shop.db import db, transactional
from shop.marks import marks_of
from shop.users import api_keys, one_time, operations
from shop.users.models import SecurityEvent, User
from tests import factories

LOGIN, REFRESH, LOGOUT = (f"/api/v1/auth/{name}" for name in ("login", "refresh", "logout"))
ME, SESSIONS, PASSWORD = (f"/api/v1/users/me{name}" for name in ("", "/sessions", "/password"))
FORGOT, RESET = "/api/v1/auth/password/forgot", "/api/v1/auth/password/reset"
VERIFY, RESEND = "/api/v1/auth/email/verify", "/api/v1/auth/email/resend"
KEYS, PRODUCTS, USERS = "/api/v1/api-keys", "/api/v1/products", "/api/v1/users"
#: Long and rare enough for the shop, and not the one of `tests.factories`.
OTHER_PASSWORD = "another horse battery"


def bearer(token: str) -> dict[str, str]:
    """Headers that show this token."""
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a sign-in or a refresh answers."""

    access: str
    refresh: str

    @property
    def headers(self) -> dict[str, str]:
        """Headers that show the access token."""
        return bearer(self.access)


def tokens_of(answer: TestResponse) -> Tokens:
    """The tokens in an answer that has some."""
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    return Tokens(body["access_token"], body["refresh_token"])


def try_to_sign_in(client: FlaskClient, email: str, password: str, **options: Any) -> TestResponse:
    """Show an address and a password."""
    return client.post(LOGIN, json={"email": email, "password": password}, **options)


def sign_in(client: FlaskClient, user: User, **options: Any) -> Tokens:
    """The tokens of a new session."""
    return tokens_of(try_to_sign_in(client, user.email, factories.PASSWORD, **options))


def try_to_refresh(client: FlaskClient, token: str) -> TestResponse:
    """Show a refresh token."""
    return client.post(REFRESH, json={"refresh_token": token})


def refresh(client: FlaskClient, token: str) -> Tokens:
    """The tokens that a refresh token brings."""
    return tokens_of(try_to_refresh(client, token))


def is_in(client: FlaskClient, tokens: Tokens) -> bool:
    """Whether the access token opens the account; otherwise it is refused as it should be."""
    answer = client.get(ME, headers=tokens.headers)
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


def is_over(client: FlaskClient, tokens: Tokens) -> bool:
    """Whether neither token of the pair holds."""
    return not is_in(client, tokens) and try_to_refresh(client, tokens.refresh).status_code == 401


def events(session: Session, user_id: int | None = None) -> list[str]:
    """The kinds of security events, of one account or of all, oldest first."""
    session.rollback()
    found = select(SecurityEvent.kind).order_by(SecurityEvent.id)
    if user_id is not None:
        found = found.where(SecurityEvent.user_id == user_id)
    return list(session.scalars(found))


def disable(app: Flask, user: User) -> None:
    """Close an account, as an administrator would."""

    @transactional
    def close() -> None:
        found = operations.find_for_change(db.session(), user.id)
        operations.change_rights(db.session(), found, disabled=True)

    with app.app_context():
        close()


def mailed_token(app: Flask, user: User, purpose: str = one_time.RESET_PASSWORD) -> str:
    """A one-time token as a mail would bring it."""

    @transactional
    def issue() -> str:
        found = operations.find_for_change(db.session(), user.id)
        return one_time.issue(db.session(), found, purpose, user.email)

    with app.app_context():
        return issue()


def api_key(app: Flask, *scopes: str) -> str:
    """The text of a new API key with these scopes."""

    @transactional
    def create() -> str:
        return api_keys.create_key(
            db.session(), name="till", scopes=list(scopes), expires_at=None, created_by=None
        )[1]

    with app.app_context():
        return create()


def forget_callers(engine: Engine) -> None:
    """Let the shop ask anew who calls: it remembers callers for most of a second."""
    marks_of(engine)["callers"].replace()


#: When tests that move the clock begin.
T0 = datetime(2026, 11, 22, 9, tzinfo=UTC)


class Travel:
    """A clock that the test moves; callers are asked for anew after each move."""

    def __init__(self, engine: Engine, clock: time_machine.Traveller) -> None:
        self._engine, self._clock = engine, clock

    def to(self, seconds: float) -> None:
        """Go to so many seconds after the beginning."""
        self._clock.move_to(T0 + timedelta(seconds=seconds))
        forget_callers(self._engine)


@contextmanager
def travelling(engine: Engine) -> Iterator[Travel]:
    """Begin at `T0`; the clock stands still until it is moved."""
    with time_machine.travel(T0, tick=False) as clock:
        yield Travel(engine, clock)


class SilentHandler(WSGIRequestHandler):
    """Writes no line for each request."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def served(app: Flask) -> Iterator[int]:
    """The port of an app behind a real server, which passes paths and headers on as they come."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=SilentHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    # What comes is logged, and may be hostile by the thousand.
    logging.disable(logging.WARNING)
    try:
        yield server.server_port
    finally:
        logging.disable(logging.NOTSET)
        server.shutdown()
        thread.join()
        server.server_close()
