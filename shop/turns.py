"""Turns: how many requests a process works on at once, however many threads it has.

Threads are cheap and the interpreter is not: more than a few requests at work only get in each
other's way. So a worker has more threads than turns. A request that has to wait for something long
steps aside meanwhile, and somebody else's is worked on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_mine: ContextVar[threading.Semaphore | None] = ContextVar("turn", default=None)
_arrived: ContextVar[float | None] = ContextVar("arrived", default=None)

#: Answered also when everybody else waits for the database.
_WITHOUT_TURN = frozenset({"/health/live", "/metrics"})


class Turns:
    """A WSGI application whose requests take turns, `at_once` of them at a time."""

    def __init__(self, app: Callable[..., Iterable[bytes]], at_once: int) -> None:
        self._app = app
        self._free = threading.Semaphore(at_once)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        arrived = _arrived.set(time.monotonic())
        try:
            if environ.get("PATH_INFO") in _WITHOUT_TURN:
                return self._app(environ, start_response)
            return self._take_turn(environ, start_response)
        finally:
            _arrived.reset(arrived)

    def _take_turn(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._free:
            mine = _mine.set(self._free)
            try:
                return self._app(environ, start_response)
            finally:
                _mine.reset(mine)


def seconds_here() -> float:
    """How long ago the request arrived that is worked on; 0 outside of one."""
    arrived = _arrived.get()
    return 0.0 if arrived is None else time.monotonic() - arrived


@contextmanager
def aside() -> Iterator[None]:
    """Let others go on while this request waits. Hold no connection and no lock meanwhile."""
    turn = _mine.get()
    if turn is None:
        yield
        return
    turn.release()
    try:
        yield
    finally:
        turn.acquire()
