"""What keeps a run from changing anything once it is another's, or took too long."""

from __future__ import annotations

import ctypes
import sqlite3
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

from sqlalchemy import Engine, exc
from sqlalchemy.orm import Session

from shop.db import watcher
from shop.jobs import operations
from shop.jobs.operations import Claim, Superseded


class TimedOut(BaseException):
    """Raised inside a run that took too long; not an Exception, so that its work lets it pass."""


class Fence:
    """Stands around the work of a run, in its thread; `cut` is called by another one.

    With `each` every transaction of the work is let through only while the run is this process's.
    Without, it is one transaction, and its last statement, `operations.finish`, is the fence.
    """

    def __init__(self, run: Claim, *, each: bool) -> None:
        self._run = run
        self._each = each
        self._lock = threading.Lock()
        self._connection: Any = None
        self.is_cut = False

    def __enter__(self) -> None:
        self._token = watcher.set(self)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:  # fmt: skip
        watcher.reset(self._token)

    def begun(self, session: Session) -> None:
        """A transaction of the work has begun.

        Raises:
            Superseded: the run was cut off.
        """
        connection = session.connection().connection.driver_connection
        with self._lock:
            if self.is_cut:
                raise Superseded(f"{self._run.job} {self._run.slot} was cut off")
            self._connection = connection

    def before_commit(self, session: Session) -> None:
        """Its changes are made. Raises Superseded when they must not be kept."""
        if self._each:
            operations.confirm(session, self._run)

    def over(self) -> None:
        """Its connection is about to go back to the pool."""
        with self._lock:
            self._connection = None

    def cut(self, engine: Engine) -> None:
        """End the connection that the work is on: its locks are free at once, and nothing that
        it did in its transaction, or does after this, is kept.
        """
        with self._lock:
            connection, self._connection = self._connection, None
            self.is_cut = True
            if isinstance(connection, sqlite3.Connection):
                _close(connection)
            elif connection is not None:
                _kill(engine, connection.thread_id())


def _close(connection: sqlite3.Connection) -> None:
    connection.interrupt()
    with suppress(sqlite3.Error):
        # What the work tries between the next two lines would stand outside any transaction.
        connection.execute("PRAGMA query_only=ON")
        connection.rollback()
    connection.close()


def _kill(engine: Engine, number: int) -> None:
    # It may have ended by itself meanwhile.
    with suppress(exc.DBAPIError), engine.connect() as own:
        own.exec_driver_sql(f"KILL {int(number)}")


def raise_in(thread: threading.Thread) -> None:
    """Raise `TimedOut` in a thread, as soon as it runs Python again.

    What waits inside a library (for a lock, say, or for a socket without a deadline) never does.
    """
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(TimedOut)
        )
