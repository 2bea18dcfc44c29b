"""What callers may do: remembered for under a second, forgotten at once when it changes.

Each request that brings a token must know whether its account may still enter and as what. Asking
the database each time costs a seventh of a write. So the answer is kept, but only while a mark in
the data folder, which every process of this machine sees, is the one it was asked under; whoever
changes an account, a session or a key sets a new mark when that is committed. Processes on other
machines notice when the answer ends, within a second.
"""

from __future__ import annotations

import mmap
import os
import secrets
import time
from collections.abc import Callable, Hashable
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from shop.users.models import User
from shop.web.callers import Caller

#: Longest life of an answer.
_SECONDS = 0.8
_MARK_BYTES = 8
_MOST = 10_000


class Standing:
    """The callers that were asked for lately."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "standing"
        self._memory: mmap.mmap | None = None
        self._known: dict[Hashable, tuple[Caller | None, bytes, float]] = {}

    def of(self, key: Hashable, ask: Callable[[], Caller | None]) -> Caller | None:
        """The caller that `ask` finds, or found less than a second ago."""
        mark, now = self._mark(), time.monotonic()
        known = self._known.get(key)
        if known is not None and known[1] == mark and now < known[2]:
            return known[0]
        # Asked after the mark was read: a change meanwhile makes the answer an old one.
        caller = ask()
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (caller, mark, now + _SECONDS)
        return caller

    def forget(self) -> None:
        """Let every process of this machine ask again."""
        self._shared()[:] = secrets.token_bytes(_MARK_BYTES)

    def watch(self, engine: Engine) -> None:
        """Forget whenever a session commits a change of a deciding row to this database."""
        engine.update_execution_options(standing=self)

    def _mark(self) -> bytes:
        return self._shared()[:]

    def _shared(self) -> mmap.mmap:
        if self._memory is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(file, _MARK_BYTES)
                self._memory = mmap.mmap(file, _MARK_BYTES)
            finally:
                os.close(file)
        return self._memory


#: Rows of these tables decide what a caller may do.
_DECIDING = (User,)


@event.listens_for(Session, "after_flush")
def _notice_changes(session: Session, _context: object) -> None:
    if any(isinstance(row, _DECIDING) for row in (*session.dirty, *session.deleted)):
        session.info["standing"] = True


@event.listens_for(Session, "after_commit")
def _forget_after_commit(session: Session) -> None:
    if session.info.pop("standing", False):
        options = session.get_bind().get_execution_options()
        if standing := options.get("standing"):
            standing.forget()


@event.listens_for(Session, "after_rollback")
def _nothing_after_rollback(session: Session) -> None:
    session.info.pop("standing", None)
