"""Serving under gunicorn: what is checked before the fork, and workers that share connections.

One gthread worker often accepts nearly all keep-alive connections while its siblings idle. The
workers here tell each other how many they hold, and a fuller one lets an emptier one go first.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import struct
import time
from pathlib import Path
from typing import Any

from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from gunicorn.workers.gthread import ThreadWorker
from sqlalchemy import create_engine, exc
from sqlalchemy.pool import NullPool

from shop.db import reason
from shop.engines import database_url

_MOST_WORKERS = 64
#: Of glibc's malloc.h.
_M_ARENA_MAX = -8
_NOBODY = -1
#: How long a connection may wait for an emptier worker: below what anybody notices.
_COURTESY_SECONDS = 0.05
_PAUSE_SECONDS = 0.0005


def share_heaps() -> None:
    """Let all threads allocate from two heaps, before there are threads.

    glibc gives each thread one of its own, up to eight a processor, and what is free in one is of
    no use to another: after a day's work that was a fifth of a worker's memory.
    """
    # Another C library has no such function, and no such heaps.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def keep_shared() -> None:
    """Leave alone, after the fork, all objects that are there before it.

    The garbage collector writes to whatever it looks at, and a page that somebody has written to is
    no longer shared between the processes.
    """
    gc.collect()
    gc.freeze()


class Seats:
    """How many connections each worker holds, in memory that the fork shares."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4 * _MOST_WORKERS)
        for seat in range(_MOST_WORKERS):
            self.set(seat, _NOBODY)

    def set(self, seat: int, connections: int) -> None:
        """A worker says how many it holds."""
        struct.pack_into("i", self._memory, 4 * seat, connections)

    def leave(self, seat: int) -> None:
        """A worker is gone."""
        self.set(seat, _NOBODY)

    def take(self) -> int:
        """A seat for a new worker; called in the master only."""
        seat = self._counts().index(_NOBODY)
        self.set(seat, 0)
        return seat

    def fewest(self) -> int:
        """What the emptiest worker holds."""
        return min((count for count in self._counts() if count != _NOBODY), default=0)

    def _counts(self) -> tuple[int, ...]:
        return struct.unpack_from(f"{_MOST_WORKERS}i", self._memory)


class BalancedWorker(ThreadWorker):
    """A gthread worker that leaves a new connection to an emptier sibling for a moment."""

    seats: Seats
    seat: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._courteous_since: float | None = None

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End as for SIGTERM: answer what is being answered, then leave.

        gthread's own handler shuts its executor down and exits from wherever the main thread is.
        When that is inside the executor, or a handler already (Ctrl-C comes from the terminal and
        again from the master), it waits for ever for a lock that it holds itself.
        """
        self.handle_exit(sig, frame)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        self.seats.set(self.seat, self.nr_conns)
        super().wait_for_and_dispatch_events(timeout)

    def accept(self, listener: Any) -> None:
        self.seats.set(self.seat, self.nr_conns)
        if self.nr_conns > self.seats.fewest():
            now = time.monotonic()
            self._courteous_since = self._courteous_since or now
            if now - self._courteous_since < _COURTESY_SECONDS:
                time.sleep(_PAUSE_SECONDS)
                return
        self._courteous_since = None
        super().accept(listener)


def why_not_serve(database: str, migrations: Path) -> str | None:
    """Why the shop cannot be served from this database, in one line; None when it can."""
    url = database_url(database)
    address = url.render_as_string(hide_password=True)
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            present = MigrationContext.configure(connection).get_current_revision()
    except exc.SQLAlchemyError as error:
        return f"The database at {address} does not answer: {reason(error)}"
    scripts = AlembicConfig()
    scripts.set_main_option("script_location", str(migrations))
    wanted = ScriptDirectory.from_config(scripts).get_current_head()
    if present != wanted:
        return (
            f"The database at {address} is at revision {present or 'none'}, this code needs"
            f" {wanted}: run `flask db upgrade`."
        )
    return None
