"""Marks: all processes of a machine see at once that something which they remember has changed."""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

_BYTES = 8


class Mark:
    """A few random bytes in a file that processes share; whoever changes a subject replaces them.

    A commit does so that has changed a row of these `models`, or says it by `changed`.
    """

    def __init__(self, folder: Path, name: str, engine: Engine, models: tuple[type, ...]) -> None:
        self.models = models
        self._file = folder / name
        self._memory: mmap.mmap | None = None
        # Sessions that commit a change to this database find the mark by it.
        engine.update_execution_options(marks=marks_of(engine) | {name: self})

    def value(self) -> bytes:
        """The mark as it is now."""
        return self._shared()[:]

    def replace(self) -> None:
        """Make everybody ask again."""
        self._shared()[:] = secrets.token_bytes(_BYTES)

    def _shared(self) -> mmap.mmap:
        if self._memory is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(file, _BYTES)
                self._memory = mmap.mmap(file, _BYTES)
            finally:
                os.close(file)
        return self._memory


def marks_of(engine: Engine) -> dict[str, Mark]:
    """The marks of a database by their names."""
    found: dict[str, Mark] = engine.get_execution_options().get("marks", {})
    return found


def changed(session: Session, name: str) -> None:
    """Say that this transaction changes what a mark is about; the mark follows its commit."""
    session.info.setdefault("marks", set()).add(name)


@event.listens_for(Session, "after_flush")
def _notice(session: Session, _context: object) -> None:
    for name, mark in _marks(session).items():
        rows = (*session.new, *session.dirty, *session.deleted)
        if any(isinstance(row, mark.models) for row in rows):
            changed(session, name)


@event.listens_for(Session, "after_commit")
def _replace_after_commit(session: Session) -> None:
    names = session.info.pop("marks", set())
    if names:
        marks = _marks(session)
        for name in names & marks.keys():
            marks[name].replace()


@event.listens_for(Session, "after_rollback")
def _nothing_after_rollback(session: Session) -> None:
    session.info.pop("marks", None)


def _marks(session: Session) -> dict[str, Mark]:
    bind = session.get_bind()
    return marks_of(bind if isinstance(bind, Engine) else bind.engine)
