"""The mark: all processes of this machine see at once that some caller's rights changed."""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from shop.users.models import User

_BYTES = 8


class Mark:
    """A few random bytes in a file that processes share; whoever changes rights replaces them."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._file = folder / "callers"
        self._memory: mmap.mmap | None = None
        # Sessions that commit a change to this database find the mark by it.
        engine.update_execution_options(callers_mark=self)

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


def changes_rights(session: Session) -> None:
    """Say that this transaction changes what some caller may do; the mark follows its commit."""
    session.info["changes_rights"] = True


@event.listens_for(Session, "after_flush")
def _notice_accounts(session: Session, _context: object) -> None:
    if any(isinstance(row, User) for row in (*session.dirty, *session.deleted)):
        changes_rights(session)


@event.listens_for(Session, "after_commit")
def _replace_after_commit(session: Session) -> None:
    if session.info.pop("changes_rights", False):
        mark: Mark | None = session.get_bind().get_execution_options().get("callers_mark")
        if mark is not None:
            mark.replace()


@event.listens_for(Session, "after_rollback")
def _nothing_after_rollback(session: Session) -> None:
    session.info.pop("changes_rights", None)
