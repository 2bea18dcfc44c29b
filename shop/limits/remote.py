"""Counters at a Redis server, which may go away: then the database counts."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from limits.storage import RedisStorage, Storage
from sqlalchemy import Engine

from shop import logs
from shop.limits.storage import SqlStorage

T = TypeVar("T")
log = logs.get(__name__)

#: An answer takes a millisecond; whoever waits longer had better ask the database.
_ANSWER_SECONDS = 1.0
#: How long a server that failed is left alone, so that not every request waits for it.
_REST_SECONDS = 5.0
_WARNING_SECONDS = 60.0


def storage_for(url: str, engine: Engine, reader: Engine) -> Storage:
    """Counters at the Redis server of this URL with the database to spare, or in the database."""
    counters = SqlStorage(engine, reader)
    return SparedStorage(redis_counters(url), counters) if url else counters


def redis_counters(url: str) -> RedisStorage:
    """The library's counters in Redis, which do not wait long. They connect when asked."""
    return RedisStorage(url, socket_connect_timeout=_ANSWER_SECONDS, socket_timeout=_ANSWER_SECONDS)


class SparedStorage(Storage):
    """Counters of `first`, and of `spare` whenever that fails.

    What was counted here is not known there: for a while a limit allows up to twice as much, which
    beats both refusing everybody and refusing nobody.
    """

    def __init__(
        self, first: Storage, spare: Storage, *, rest_seconds: float = _REST_SECONDS
    ) -> None:
        super().__init__()
        self._first = first
        self._spare = spare
        self._rest_seconds = rest_seconds
        self._rests_until = -math.inf
        self._warned = -math.inf
        self._lock = threading.Lock()

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What the spare ones fail with."""
        return self._spare.base_exceptions

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """See `limits.storage.Storage`."""
        return self._ask(lambda counters: counters.incr(key, expiry, amount))

    def get(self, key: str) -> int:
        """See `limits.storage.Storage`."""
        return self._ask(lambda counters: counters.get(key))

    def get_expiry(self, key: str) -> float:
        """See `limits.storage.Storage`."""
        return self._ask(lambda counters: counters.get_expiry(key))

    def check(self) -> bool:
        """Whether anybody can count."""
        return self._first.check() or self._spare.check()

    def reset(self) -> int | None:
        """Forget everything, here and there."""
        self._ask(lambda counters: counters.reset())
        return self._spare.reset()

    def clear(self, key: str) -> None:
        """Forget what was counted under this key, here and there."""
        self._ask(lambda counters: counters.clear(key))
        self._spare.clear(key)

    def _ask(self, question: Callable[[Storage], T]) -> T:
        if time.monotonic() >= self._rests_until:
            try:
                return question(self._first)
            except self._first.base_exceptions as error:
                self._rest(error)
        return question(self._spare)

    def _rest(self, error: Exception) -> None:
        with self._lock:
            now = time.monotonic()
            self._rests_until = now + self._rest_seconds
            if now - self._warned < _WARNING_SECONDS:
                return
            self._warned = now
        # Not in the error's words: they may repeat what the URL says.
        log.warning("limits.storage-away", reason=type(error).__name__)
