"""The time by which slots are due: the database's, so that hosts need not agree on theirs."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from shop import clock, logs

log = logs.get(__name__)

_WORTH_A_WARNING = 2.0
_PAUSE_SECONDS = 60.0


class DatabaseClock:
    """The database's clock, asked now and then, and in between counted on monotonically."""

    def __init__(self) -> None:
        self._ms = 0.0
        self._at = 0.0
        self._warned = 0.0

    def set(self, ms: int, asked: float) -> None:
        """It showed `ms` some time between `asked` and now, on the monotonic clock."""
        self._ms, self._at = ms, (asked + time.monotonic()) / 2
        self._compare()

    def now(self) -> datetime:
        """The present instant in UTC, by the database's clock."""
        return datetime.fromtimestamp(self._ms / 1000 + time.monotonic() - self._at, UTC)

    def _compare(self) -> None:
        off = (clock.now() - self.now()).total_seconds()
        if abs(off) < _WORTH_A_WARNING or time.monotonic() < self._warned:
            return
        self._warned = time.monotonic() + _PAUSE_SECONDS
        log.warning("scheduler.clocks-differ", ahead_of_the_database_seconds=round(off, 1))
