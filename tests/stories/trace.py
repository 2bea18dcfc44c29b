"""A trace: requests that are recorded at one shop and played again at another one.

What a request takes from an earlier answer (an id, a version, a cursor, a token) stands in it as a
`Ref`, so that each shop gets its own. Both shops live at the same times: the clock stands still
during a request, and moves on as the trace says.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

import time_machine
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from werkzeug.datastructures import Headers

from shop import clock, provenance
from shop.ads.rolling import roll_up_days, roll_up_hours
from shop.db import db, transactional, writing
from shop.notifications import streaming
from shop.orders.payments.base import sign
from shop.products.jobs import publish
from shop.users.models import RefreshToken, User
from tests import factories
from tests.orders.checks import secret_of
from tests.transfers.checks import work
from tests.users.checks import mailed_token

#: When the first request comes; each later one has other microseconds.
BEGIN = datetime(2026, 11, 22, 9, 0, 0, 123_457, UTC)
STEP = timedelta(seconds=1, microseconds=7)


@dataclass(frozen=True, slots=True)
class Ref:
    """A value in the answer to the request number `step`: `header` or what is at `path` inside."""

    step: int
    path: tuple[str | int, ...] = ()
    header: str | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """A text made of texts and references."""

    parts: tuple[str | int | Ref, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. The method `DO` is something that happens behind the doors; see `_DEEDS`."""

    method: str
    url: Parts
    headers: dict[str, Any] = field(default_factory=dict)
    json: Any = None
    raw: Any = None
    query: tuple[tuple[str, Any], ...] = ()
    wait: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `body` is JSON where it was JSON, else text. `path` is what was asked."""

    path: str
    status: int
    headers: Headers
    body: Any

    def at(self, ref: Ref) -> Any:
        """What the reference means here; None if there is no such thing."""
        if ref.header is not None:
            return self.headers.get(ref.header)
        found = self.body
        for step in ref.path:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                return None
        return found


class Player:
    """Sends requests to a shop, one after the other, and keeps them with their answers."""

    def __init__(self, app: Flask, clock: time_machine.Traveller) -> None:
        self.app, self.requests, self.answers = app, list[Request](), list[Answer]()
        self._client, self._clock, self._now = app.test_client(), clock, BEGIN

    @property
    def now(self) -> datetime:
        """The time at the last request."""
        return self._now

    def send(self, request: Request) -> Answer:
        """Send one; the next one comes a second later."""
        self._now += STEP + request.wait
        self._clock.move_to(self._now)
        path = self._text(request.url)
        answer = self._do(path, request) if request.method == "DO" else self._ask(path, request)
        self.requests.append(request)
        self.answers.append(answer)
        return answer

    def _do(self, deed: str, request: Request) -> Answer:
        # Whoever sent the request before it has nothing to do with it.
        provenance.actor.set(None)
        done = _DEEDS[deed](self.app, **(self._own(request.json) or {}))
        return Answer(deed, 200, Headers(), done)

    def _ask(self, path: str, request: Request) -> Answer:
        data, headers = request.raw, {"X-Request-ID": f"trace-{len(self.requests)}"}
        headers |= {name: str(self._own(value)) for name, value in request.headers.items()}
        if isinstance(data, Parts):
            data = self._text(data)
        if request.json is not None:
            data = json.dumps(self._own(request.json), ensure_ascii=False)
            headers = {"Content-Type": "application/json"} | headers
        query = [(name, self._own(value)) for name, value in request.query]
        answer = self._client.open(
            path, method=request.method, data=data, headers=headers,
            query_string={name: str(value) for name, value in query}, buffered=True,
        )  # fmt: skip
        found = answer.get_json() if answer.is_json and answer.data else answer.text
        return Answer(path, answer.status_code, answer.headers, found)

    def _own(self, value: Any) -> Any:
        """The value with what this shop answered in place of references."""
        if isinstance(value, Ref):
            return self.answers[value.step].at(value)
        if isinstance(value, Parts):
            return self._text(value)
        if isinstance(value, dict):
            return {name: self._own(part) for name, part in value.items()}
        return [self._own(part) for part in value] if isinstance(value, list) else value

    def _text(self, parts: Parts) -> str:
        return "".join(str(self._own(part)) for part in parts.parts)


def _account(app: Flask, email: str, role: str) -> dict[str, Any]:
    return {"id": factories.create_user(app, email=email, role=role).id}


def _mail(app: Flask, email: str, purpose: str) -> dict[str, Any]:
    """The code that a mail would bring."""
    with Session(app.extensions["shop"].engine) as session:
        user = session.scalars(select(User).where(User.email == email)).one_or_none()
    return {} if user is None else {"token": mailed_token(app, user, purpose)}


def _minute(app: Flask) -> dict[str, Any]:
    """Refresh tokens that are spent were so a minute ago, on the database's clock."""
    spent = update(RefreshToken).values(spent_ms=RefreshToken.spent_ms - 60_000)
    with writing(app.extensions["shop"].engine) as connection:
        connection.execute(spent)
    return {}


def _publish(app: Flask) -> dict[str, Any]:
    with app.app_context():
        done: dict[str, Any] = transactional(partial(publish, moment=clock.now()))(db.session())
        return done


def _message(app: Flask, kind: str, id: str, reference: str, amount: Any) -> dict[str, Any]:
    """A message of the test provider, signed."""
    told = {"id": id, "type": kind, "reference": reference, "amount": amount}
    body = json.dumps(told)
    return {"body": body, "signature": sign(secret_of(app), body.encode(), clock.now())}


def _roll_up(app: Flask) -> dict[str, Any]:
    with app.app_context():
        hours, days = roll_up_hours(clock.now()), roll_up_days(clock.now(), ZoneInfo("UTC"))
    return {"hours": len(hours), "days": len(days)}


_DEEDS: dict[str, Callable[..., Any]] = {
    "account": _account,
    "mail": _mail,
    "message": _message,
    "minute": _minute,
    "publish": _publish,
    "roll_up": _roll_up,
    "transfers": lambda app: {"done": work(app)},
}


@contextmanager
def playing(app: Flask) -> Iterator[Player]:
    """Somebody who sends requests to this shop from `BEGIN` on. Streams end at once."""
    # What comes is logged, and hundreds of requests are refused.
    logging.disable(logging.WARNING)
    try:
        with (
            time_machine.travel(BEGIN, tick=False) as clock,
            mock.patch.object(streaming, "_MARGIN_SECONDS", 1e6),
        ):
            yield Player(app, clock)
    finally:
        logging.disable(logging.NOTSET)
