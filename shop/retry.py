"""Waiting longer after each failure, with jitter so that many do not come back at once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator


class Backoff:
    """Delays in seconds that double from `first` up to `most`, each shortened by up to a half."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._next = first

    def delay(self) -> float:
        """The next delay to wait."""
        ceiling, self._next = self._next, min(self._next * 2, self._most)
        return ceiling * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again from the first delay, after a success."""
        self._next = self._first


def attempts(most: int, seconds: float, backoff: Backoff) -> Iterator[int]:
    """Numbers of attempts, each after a delay but the first; none after so many seconds."""
    started = time.monotonic()
    for number in range(1, most + 1):
        yield number
        if time.monotonic() - started > seconds:
            return
        time.sleep(backoff.delay())
