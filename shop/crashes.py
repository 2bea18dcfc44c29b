"""Crash points: places where a test kills the process, to see that nothing is lost or doubled.

Each has a line in `POINTS`; the code calls `crash_point(name)` where it is passed. Nothing happens
there unless `arm` was told its name, which only SHOP_CRASH_AT in SHOP_ENV=testing does.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Iterator

#: Every point, and the moment that it is passed. A new one is a line here and a call there.
POINTS: dict[str, str] = {
    "before-commit": "A transaction has done all it wants and is not committed.",
    "after-commit": "A transaction is committed, and nobody was told yet.",
    "after-stamp": "Entries have got their positions, and no publisher was woken.",
    "after-publish": "An event was handed to a sink, which has not acknowledged it.",
    "after-acknowledgement": "A sink has acknowledged events, and its cursor is not moved.",
    "after-cursor": "A sink's cursor was moved behind acknowledged events.",
    "in-job": "A job has done its work, and the record that it is done is missing.",
    "in-migration": "A step of a migration is done, and the next one is not begun.",
    "idempotency-claimed": "An Idempotency-Key is claimed, and its request has done nothing.",
    "order-stock-taken": "An order has taken its stock, and is not written.",
    "order-inserted": "An order is written with its lines and movements, and is not committed.",
    "payment-claimed": "A payment is claimed and committed, and its provider knows nothing.",
    "payment-answered": "A provider has answered about a payment, which is not recorded.",
    "refund-claimed": "A refund is claimed and committed, and its provider knows nothing.",
    "refund-answered": "A provider has answered about a refund, which is not recorded.",
    "before-answer-kept": "A request with a key has its answer, which is not kept yet.",
}

_SETTING = re.compile(r"([a-z-]+)(?::([1-9][0-9]{0,8}))?\Z")
_armed: tuple[str, int] | None = None
# Made when this module is loaded, which gunicorn does before it forks: so all workers of a server
# count together, and exactly one of them dies, once. One each would never come to an end.
_passes = multiprocessing.get_context("fork").Value("q", 0)


def parse(setting: str) -> tuple[str, int]:
    """Name and number in `name[:n]`; the number is 1 when it is left out.

    Raises:
        ValueError: there is no such point, or it is spelt otherwise.
    """
    found = _SETTING.match(setting)
    if found is None or found[1] not in POINTS:
        raise ValueError("no crash point is called so")
    return found[1], int(found[2] or 1)


def unsafe(crash_at: str, env: str) -> Iterator[tuple[str, str]]:
    """Name of the setting and what is wrong with it in this SHOP_ENV, if anything."""
    if crash_at and env != "testing":
        yield "crash_at", "is only for SHOP_ENV=testing"
    elif crash_at:
        try:
            parse(crash_at)
        except ValueError:
            yield "crash_at", "must be name or name:n with a name from `flask shop crash-points`"


def arm(setting: str) -> None:
    """Die at the n-th pass from now of the point in `name[:n]`; at none for an empty setting."""
    global _armed
    _armed = parse(setting) if setting else None


def crash_point(name: str) -> None:
    """Die here, at once and with no chance to save anything, if it was asked for."""
    if name not in POINTS:
        raise LookupError(f"the crash point {name!r} is not declared in shop.crashes.POINTS")
    if _armed is not None and name == _armed[0]:
        _pass(_armed[1])


def _pass(wanted: int) -> None:
    with _passes.get_lock():
        _passes.value += 1
        count = _passes.value
    # Not under the lock: it would stay taken for the other workers.
    if count == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
