"""How far the sinks are behind the log. What it costs does not grow with the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shop import clock
from shop.audit import queries
from shop.audit.troubles import troubles
from shop.db import read

#: Entries without a position are counted so far and no further: a tenth of a second at most.
MOST_PENDING = 100_000


@dataclass(frozen=True, slots=True)
class SinkState:
    """A sink: how far it is, its failures and parked events, since when it fails now."""

    name: str
    position: int
    failures: int
    parked: int
    failing_since: datetime | None


@dataclass(frozen=True, slots=True)
class Lag:
    """`backlog` events are not acknowledged by every active sink, the oldest for so long.

    `sinks` are the active ones, and those that were active once.
    """

    backlog: int
    oldest_seconds: float
    sinks: Sequence[SinkState]

    @property
    def failing(self) -> set[str]:
        """Names of the sinks that fail now."""
        return {sink.name for sink in self.sinks if sink.failing_since is not None}


def lag_of(active: Sequence[str]) -> Lag:
    """The lag behind these sinks. A sink that was never reached has nothing yet.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    # Cursors first: they may move on, and must not seem to be ahead of the head.
    sinks = _states(active)
    if not active:
        return Lag(0, 0.0, sinks)
    slowest = min(sink.position for sink in sinks if sink.name in active)
    pending = int(read(queries.pending(MOST_PENDING))[0][0])
    ((head,),) = read(queries.HEAD)
    backlog = head - slowest + pending
    return Lag(backlog, _age_after(slowest) if backlog else 0.0, sinks)


def _states(active: Sequence[str]) -> list[SinkState]:
    positions = {row.name: row.position for row in read(queries.CURSORS)}
    known = {row.sink: row for row in read(troubles())}
    states = []
    for name in sorted({*active, *positions}):
        position, row = positions.get(name, 0), known.get(name)
        if row is None:
            states.append(SinkState(name, position, 0, 0, None))
        else:
            states.append(SinkState(name, position, row.failures, row.parked, row.since))
    return states


def _age_after(position: int) -> float:
    rows = read(queries.time_after(position)) or read(queries.time_of_first_pending())
    # Clocks of machines differ a little.
    return max((clock.now() - rows[0][0]).total_seconds(), 0.0) if rows else 0.0
