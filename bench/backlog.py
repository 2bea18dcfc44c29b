"""A large backlog: does the drain keep its rate, and does it stay small?"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from bench.drain import cursor
from bench.stage import Gunicorn, Shop, fill_log, query
from tests.servers import MariaDB

#: The drain should do at least so much of what it does with a small one.
TARGET = 0.5
_SMALL = 30_000
_PATIENCE_SECONDS = 600.0


@dataclass
class Backlog:
    """Events a second out of a small backlog and out of a large one; memory of all processes."""

    events: int = 0
    small: float = 0.0
    large: float = 0.0
    #: MiB that are this server's alone, every second.
    memory: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The large one's rate to the small one's."""
        return self.large / self.small


def measure(shop: Shop, database: MariaDB, events: int) -> Backlog:
    """Fill the log with entries that nobody has stamped, and let a server publish them."""
    found = Backlog(events)
    fill_log(database, _SMALL)
    with shop.server() as server:
        found.small = _drain(database, server, Backlog())
    fill_log(database, events)
    with shop.server() as server:
        found.large = _drain(database, server, found)
    return found


def _drain(database: MariaDB, server: Gunicorn, watched: Backlog) -> float:
    """Wait until all is published; events a second from the first one on."""
    ((last,),) = query(
        database,
        "SELECT (SELECT position FROM audit_head WHERE id = 1)"
        " + (SELECT COUNT(*) FROM audit_log WHERE position IS NULL)",
    )
    before = cursor(database)
    while (first := cursor(database)) == before:
        time.sleep(0.05)
    begun = time.perf_counter()
    while (now := cursor(database)) < last:
        if time.perf_counter() - begun > _PATIENCE_SECONDS:
            break
        watched.memory.append(
            sum(process.memory_full_info().uss for process in server.processes()) / 2**20
        )
        time.sleep(1.0)
    return (now - first) / (time.perf_counter() - begun)
