"""A drain that runs in the test, sinks with moods, and waiting for what they do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from shop.audit.drain import Drain
from shop.audit.events import Outgoing
from shop.audit.models import AuditSink, ParkedEvent
from shop.audit.sinks.base import Sink, SinkDown, SinkRefused
from shop.audit.sinks.memory import MemorySink
from shop.db import db, transactional
from shop.users.models import User

PATIENCE = 20.0


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until it holds; a failure says that it never did."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"did not come true in {seconds} s"
        time.sleep(0.01)


class RunningDrain:
    """A drain that is kept alive by a thread of the test, as the scheduler does it."""

    def __init__(self, engine: Engine, sink: Sink, **options: Any) -> None:
        defaults = {"lease_seconds": 5, "window": 5, "batch": 5, "poll_seconds": 0.02}
        self.drain = Drain(engine, lambda: [sink], **defaults | options)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def _keep(self) -> None:
        while not self._ended.wait(0.02):
            self.drain.keep_alive()

    def __enter__(self) -> RunningDrain:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()
        self.drain.stop()


class PickySink(MemorySink):
    """Refuses what `refuses` names a reason for; what it answers comes late, as a broker's does.

    `lasting` says whether its refusals are about the one message. With `at_once` it refuses before
    anything is sent.
    """

    def __init__(self, refuses: Callable[[Outgoing], str | None], *, lasting: bool = True) -> None:
        super().__init__()
        self.refuses = refuses
        self.lasting = lasting
        self.at_once = False
        self.opened = 0
        self.taken: list[Outgoing] = []
        self.again: list[int] = []
        self._refusals: list[SinkRefused] = []

    def open(self) -> None:
        self.opened += 1
        self._refusals.clear()
        super().open()

    def publish(self, event: Outgoing, *, again: bool = False) -> None:
        if (why := self.refuses(event)) is None:
            self.taken.append(event)
            self.again += [event.position] if again else []
            super().publish(event, again=again)
            return
        refusal = SinkRefused(why, event.position, lasting=self.lasting)
        if self.at_once:
            raise refusal
        self._refusals.append(refusal)

    def acknowledged(self, timeout: float) -> Sequence[int]:
        if positions := super().acknowledged(timeout):
            return positions
        if self._refusals:
            raise self._refusals.pop(0)
        return []


class CuttingSink(PickySink):
    """Hangs up on what it refuses, and says why only when one message was in flight."""

    def acknowledged(self, timeout: float) -> Sequence[int]:
        if not self._refusals:
            return super().acknowledged(timeout)
        refusal, alone = self._refusals[0], len(self._refusals) == 1 and not self._acknowledged
        self._refusals.clear()
        if alone:
            raise refusal
        raise SinkDown("cut")


def messages(sink: MemorySink) -> list[dict[str, Any]]:
    """What a sink has taken, in its order."""
    return [json.loads(message) for message in sink.messages]


def cursor(engine: Engine) -> int:
    """The position of the one sink; 0 before it has any."""
    with Session(engine) as session:
        found = session.scalars(select(AuditSink.position)).one_or_none()
    return found or 0


def parked(engine: Engine) -> list[ParkedEvent]:
    """What was refused, by position."""
    with Session(engine) as session:
        return list(session.scalars(select(ParkedEvent).order_by(ParkedEvent.position)))


def rename(app: Flask, user: User, times: int = 1) -> None:
    """Change an account, once for each time: sequences 2, 3, 4 ..."""

    @transactional
    def change(number: int) -> None:
        found = db.session.get_one(User, user.id)
        found.name = f"{chr(ord('B') + number)}nna"

    for number in range(times):
        with app.app_context():
            change(number)
