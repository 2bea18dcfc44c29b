"""Crash points: places where a test kills the process, to see that nothing is lost or doubled.

Each has a line in `POINTS`; the code calls `crash_point(name)` where it is passed. Nothing happens
there unless `arm` was told its name, which only SHOP_CRASH_AT in SHOP_ENV=testing does. It may also
freeze the process, until it is sent SIGCONT, or raise an exception: see `WAYS`.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
    "before-reader-commit": "A reader has done what events ask for, and nothing is committed.",
    "after-reader-commit": "A reader has done what events ask for, and its cursor is moved.",
    "in-fan-out": "A piece of a message's recipients has it, and is not committed.",
    "before-answer-kept": "A request with a key has its answer, which is not kept yet.",
}

#: What can happen at a point; the first one is what happens when nothing is said.
WAYS: dict[str, str] = {
    "kill": "The process dies by SIGKILL.",
    "stop": "The process is frozen by SIGSTOP until somebody sends SIGCONT.",
    "raise": "An exception is raised that nobody expects.",
}

_SETTING = re.compile(rf"([a-z-]+)(?::([1-9][0-9]{{0,8}}))?(?::({'|'.join(WAYS)}))?\Z")


class Crash(NamedTuple):
    """What is to happen: at which point, at which of its passes, in which way."""

    point: str
    number: int
    way: str


class Crashed(Exception):
    """Raised at a crash point because a test asked for it."""


_armed: Sequence[Crash] = ()
# Made when this module is loaded, which gunicorn does before it forks: so all workers of a server
# count together, and exactly one of them dies, once. One each would never come to an end.
# The first number is how many crashes are over, the second how often the next point was passed.
_passes = multiprocessing.get_context("fork").Array("q", 2)
# Whoever crashes holds this, so that no thread of the same process has the lock of the array,
# which the other workers would then wait for in vain.
_turn = threading.Lock()


def parse(setting: str) -> list[Crash]:
    """The crashes in `name[:n][:way]`, several by commas; n is 1 and way `kill` when left out.

    Raises:
        ValueError: there is no such point or way, or it is spelt otherwise.
    """
    crashes = []
    for part in setting.split(","):
        found = _SETTING.match(part)
        if found is None or found[1] not in POINTS:
            raise ValueError("no crash point is called so")
        crashes.append(Crash(found[1], int(found[2] or 1), found[3] or next(iter(WAYS))))
    return crashes


def unsafe(crash_at: str, env: str) -> Iterator[tuple[str, str]]:
    """Name of the setting and what is wrong with it in this SHOP_ENV, if anything."""
    if crash_at and env != "testing":
        yield "crash_at", "is only for SHOP_ENV=testing"
    elif crash_at:
        try:
            parse(crash_at)
        except ValueError:
            yield (
                "crash_at",
                "must be name, name:n or name:n:way, as `flask shop crash-points` lists them",
            )


def arm(setting: str) -> None:
    """Crash as `setting` says: the next one is waited for when the one before it has happened."""
    global _armed
    _armed = parse(setting) if setting else ()


def crash_point(name: str) -> None:
    """Crash here, at once and with no chance to save anything, if it was asked for.

    Raises:
        Crashed: it was asked for, and in this way.
    """
    if name not in POINTS:
        raise LookupError(f"the crash point {name!r} is not declared in shop.crashes.POINTS")
    if _armed:
        _pass(name)


def _pass(name: str) -> None:
    with _turn:
        crash = _due(name)
        if crash is None:
            return
        # Not through the log: nobody would wait for a line to be written by another thread.
        sys.stderr.write(f"crash point {name}: {crash.way} of {os.getpid()}\n")
        sys.stderr.flush()
        if crash.way == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            # The threads of a process stop a moment later. What comes next waits for the thaw.
            time.sleep(0.05)
            _go_on()
            return
        _go_on()
        if crash.way == "raise":
            raise Crashed(name)
        os.kill(os.getpid(), signal.SIGKILL)


def _due(name: str) -> Crash | None:
    """Count this pass; the crash that it was the turn of, if any."""
    with _passes.get_lock():
        if _passes[0] == len(_armed) or (crash := _armed[_passes[0]]).point != name:
            return None
        _passes[1] += 1
        return crash if _passes[1] == crash.number else None


def _go_on() -> None:
    """Wait for the next crash."""
    with _passes.get_lock():
        _passes[0] += 1
        _passes[1] = 0
