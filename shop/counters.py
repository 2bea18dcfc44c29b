"""Counters of requests in memory that all workers of a server share.

Each worker counts in a region of its own, so nobody waits for anybody; whoever is asked adds the
regions up. A region outlives its worker and the next one goes on in it: a killed worker takes no
count with it, and leaves nothing behind. Everything begins at 0 when the server starts anew.
"""

from __future__ import annotations

import mmap
import re
import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event

#: Upper ends of the buckets, in seconds; one more bucket holds what took longer.
BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Requests that no route took.
UNMATCHED = "unmatched"
#: What is counted here when a region is full, or when a client makes methods up.
OTHER = "other"

_MOST_REGIONS = 64
# Of each region only the pages that were written to take up memory.
_REGION_WORDS = 32 * 1024
_KEY_BYTES = 128
_KEY_WORDS = _KEY_BYTES // 8
_RECORD_WORDS = _KEY_WORDS + len(BUCKETS) + 2
_MOST_RECORDS = _REGION_WORDS // _RECORD_WORDS
# Before the regions, by seat: how many records there are, and connections in use. They are read
# for every seat, and are together lest that touch a page of each region.
_RECORDS, _IN_USE = 0, _MOST_REGIONS
_FIRST_REGION = 2 * _MOST_REGIONS
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CONVERTER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")

_Key = tuple[str, str, int]


@dataclass(slots=True)
class Requests:
    """Requests of one method, route and status: how many took how long."""

    method: str
    route: str
    status: str
    buckets: list[int]
    seconds: float

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self.buckets)


class Counters:
    """The memory; made before the fork, with a region for each seat."""

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, 8 * (_FIRST_REGION + _REGION_WORDS * _MOST_REGIONS)))
        self._words = memory.cast("Q")
        self._floats = memory.cast("d")
        self._lock = threading.Lock()
        self.sit(0)

    def sit(self, seat: int) -> None:
        """Count in the region of this seat from now on; nobody else may have it."""
        # Somebody may have held the lock at the fork.
        self._lock = threading.Lock()
        self._seat = seat
        self._places: dict[_Key, int] = {}
        self._known = dict(self._records(seat))
        self.leave(seat)

    def leave(self, seat: int) -> None:
        """Whoever had this seat is gone, and its connections are. What it counted stays."""
        self._words[_IN_USE + seat] = 0

    def count(self, method: str, rule: str, status: int, seconds: float) -> None:
        """Count a request to a route, which took so long."""
        key = (method if method in _METHODS else OTHER, rule, status)
        with self._lock:
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = self._place(key)
            self._words[place + bisect_left(BUCKETS, seconds)] += 1
            self._floats[place + len(BUCKETS) + 1] += seconds

    def borrow(self, connections: int) -> None:
        """So many more connections to the database are in use."""
        with self._lock:
            now = self._words[_IN_USE + self._seat] + connections
            self._words[_IN_USE + self._seat] = max(now, 0)

    def in_use(self) -> int:
        """Connections to the database that are in use, in all workers."""
        return sum(self._words[_IN_USE : _IN_USE + _MOST_REGIONS])

    def requests(self) -> list[Requests]:
        """What all workers counted, by method, route and status."""
        found: dict[bytes, Requests] = {}
        for seat in range(_MOST_REGIONS):
            for key, place in self._records(seat):
                total = found.setdefault(key, Requests(*_names(key), [0] * (len(BUCKETS) + 1), 0.0))
                for bucket in range(len(BUCKETS) + 1):
                    total.buckets[bucket] += self._words[place + bucket]
                total.seconds += self._floats[place + len(BUCKETS) + 1]
        return [found[key] for key in sorted(found)]

    def _records(self, seat: int) -> Iterator[tuple[bytes, int]]:
        for number in range(self._words[_RECORDS + seat]):
            record = _record(seat, number)
            key = self._words[record : record + _KEY_WORDS].tobytes().rstrip(b"\0")
            yield key, record + _KEY_WORDS

    def _place(self, key: _Key) -> int:
        """Where a key is counted; called with the lock held, once for each key."""
        name = _name(*key)
        if name not in self._known and len(self._known) >= _MOST_RECORDS - 1:
            name = _name(OTHER, OTHER, 0)
        if name not in self._known:
            self._known[name] = self._begin(name)
        return self._known[name]

    def _begin(self, name: bytes) -> int:
        number = self._words[_RECORDS + self._seat]
        record = _record(self._seat, number)
        words = memoryview(name.ljust(_KEY_BYTES, b"\0")).cast("Q")
        self._words[record : record + _KEY_WORDS] = words
        # Whoever reads meanwhile sees the record only when it has its name.
        self._words[_RECORDS + self._seat] = number + 1
        return record + _KEY_WORDS


def _record(seat: int, number: int) -> int:
    return _FIRST_REGION + seat * _REGION_WORDS + number * _RECORD_WORDS


def _name(method: str, rule: str, status: int) -> bytes:
    return b"\0".join((method.encode(), route_of(rule).encode()[:100], str(status).encode()))


def route_of(rule: str) -> str:
    """A rule of the router as the path of an OpenAPI document: `/products/{id}`."""
    return _CONVERTER.sub(r"{\1}", rule)


def _names(key: bytes) -> tuple[str, str, str]:
    method, route, status = key.decode(errors="replace").split("\0")
    return method, route, status


#: Of this process and, when it was forked after this module was loaded, of its siblings.
counters = Counters()


def watch_pool(engine: Engine) -> None:
    """Count the connections of this engine that are in use."""
    event.listen(engine, "checkout", _on_checkout)
    event.listen(engine, "checkin", _on_checkin)


def _on_checkout(_connection: Any, record: Any, _proxy: Any) -> None:
    # A connection that proved dead is checked out again without having been checked in.
    if not record.record_info.get("in_use"):
        record.record_info["in_use"] = True
        counters.borrow(1)


def _on_checkin(_connection: Any, record: Any) -> None:
    if record.record_info.pop("in_use", False):
        counters.borrow(-1)
