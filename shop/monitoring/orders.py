"""How many orders there are, without counting all of them each time."""

from __future__ import annotations

import threading
from datetime import timedelta

from shop import clock
from shop.db import read
from shop.orders import queries

#: A transaction that has taken an id has come to its end after so long, one way or the other.
_SETTLED = timedelta(minutes=5)


class OrderCount:
    """Orders up to some id, none of which will come any more, are counted once a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._through = 0
        self._count = 0

    def total(self) -> int:
        """All orders. Orders are never deleted, and ids never used again."""
        with self._lock:
            self._go_on()
            return self._count + self._between(None)

    def _go_on(self) -> None:
        settled = read(queries.newest_before(clock.now() - _SETTLED))
        if settled and settled[0][0] > self._through:
            self._count += self._between(settled[0][0])
            self._through = settled[0][0]

    def _between(self, through: int | None) -> int:
        return int(read(queries.how_many_between(self._through, through))[0][0])
