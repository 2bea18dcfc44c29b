"""The registry of callers: who may enter, and as what.

Each request that brings a token asks, and asking the database each time costs a seventh of a write.
So an answer is kept for under a second, and only while the mark is the one that it was asked under:
a change counts at once on this machine, and within a second on others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shop import clock
from shop.db import read, writing
from shop.marks import Mark
from shop.users import api_keys, queries
from shop.web.callers import KEY, Caller

#: Longest life of an answer.
_SECONDS = 0.8
_MOST = 10_000


class Registry:
    """Answers who is behind an access token or an API key."""

    def __init__(self, engine: Engine, mark: Mark) -> None:
        self._engine = engine
        self._mark = mark
        self._known: dict[Hashable, tuple[Caller, bytes, float]] = {}

    def of_session(self, user_id: int, session_id: int) -> Caller | None:
        """The account, if it may enter and the session holds."""

        def ask() -> Caller | None:
            values = {"id": user_id, "session_id": session_id, "now": clock.now()}
            found = read(queries.ROLE_OF_SESSION, **values)
            return Caller(user_id, found[0].role, session_id) if found else None

        return self._remembered((user_id, session_id), ask)

    def of_key(self, key: str) -> Caller | None:
        """The API key that reads so, if it holds."""
        parts = api_keys.parts(key)
        if parts is None:
            return None
        lookup, secret = parts

        def ask() -> Caller | None:
            found = read(queries.KEY_BY_LOOKUP, lookup=lookup, now=clock.now())
            if not found or not api_keys.is_secret(secret, found[0].secret_hash):
                return None
            self._note_use(found[0].id, found[0].last_used_at)
            return Caller(None, KEY, key_id=found[0].id, scopes=frozenset(found[0].scopes))

        return self._remembered(key, ask)

    def _note_use(self, key_id: int, last: datetime | None) -> None:
        before = clock.now() - api_keys.NOTED_EVERY
        if last is None or last < before:
            # A machine is not turned away because of a note.
            with contextlib.suppress(SQLAlchemyError), writing(self._engine) as connection:
                api_keys.note_use(connection, key_id, before)

    def _remembered(self, key: Hashable, ask: Callable[[], Caller | None]) -> Caller | None:
        mark, now = self._mark.value(), time.monotonic()
        known = self._known.get(key)
        if known is not None and known[1] == mark and now < known[2]:
            return known[0]
        # Asked after the mark was read: a change meanwhile makes the answer an old one.
        caller = ask()
        if caller is not None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = (caller, mark, now + _SECONDS)
        return caller
