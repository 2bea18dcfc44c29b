"""Internal readers: features that write their own tables because of what others changed.

A reader is a name and a function of (session, events). What the function does and the move of the
reader's cursor commit together, so every event has its effect once, whoever dies where. The move is
made first and only where the cursor still is where it was seen: of several processes that saw the
same events one goes on, and the others look again. Readers run whatever `SHOP_SINKS` says.

An event whose work fails is tried alone, and a few times. Then it is parked like one that a sink
refused, and the reader goes on behind it: `flask audit parked` shows it, `requeue` has it tried
again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Flask
from sqlalchemy import Engine, Integer, bindparam, insert, update
from sqlalchemy.orm import Session

from shop import clock, logs
from shop.audit import parking, queries
from shop.audit.events import Event, Gap, events_of, stamped
from shop.audit.models import AuditEntry, AuditReader, ParkedEvent
from shop.audit.troubles import Troubles
from shop.crashes import crash_point
from shop.db import db, is_away, read, reason, transactional
from shop.errors import Unavailable
from shop.loops import Loop
from shop.retry import Backoff

log = logs.get(__name__)

#: Positions of one transaction.
BATCH = 500
#: How often an event is tried before it is parked.
MOST_ATTEMPTS = 4
#: How often somebody looks for parked events that were put back.
_LOOK_SECONDS = 2.0

#: What events of some `tables` ask for; they come in the order of their positions.
Work = Callable[[Session, Sequence[Event]], None]

_BETWEEN = stamped(
    AuditEntry.position > bindparam("behind", type_=Integer()),
    AuditEntry.position <= bindparam("through", type_=Integer()),
    AuditEntry.table_name.in_(bindparam("tables", expanding=True)),
)
_AT = stamped(AuditEntry.position.in_(bindparam("positions", expanding=True)))
_MOVE = (
    update(AuditReader)
    .where(AuditReader.name == bindparam("reader"), AuditReader.position == bindparam("behind"))
    .values(position=bindparam("through"), updated_at=bindparam("moment"))
)
_TAKE_PARKED = (
    update(ParkedEvent)
    .where(
        ParkedEvent.sink == bindparam("reader"),
        ParkedEvent.position == bindparam("at"),
        ParkedEvent.state == "requeued",
    )
    .values(state="sent", attempts=ParkedEvent.attempts + 1, changed_at=bindparam("moment"))
)


@dataclass(frozen=True, slots=True)
class Reader:
    """A cursor of this name over the events of these tables, and what they ask for.

    `work` runs in a transaction, writes only what is not audited, and may be run again for the same
    events after it was rolled back.
    """

    name: str
    tables: frozenset[str]
    work: Work


class Reading:
    """One reader in this process. Several per database are fine."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._reader = reader
        self._troubles = Troubles(engine, reader.name)
        self._failed_at, self._failures = 0, 0
        self._backoff = Backoff(first=0.5, most=2.0)
        self._not_before = 0.0
        self._look_at = 0.0

    def go_on(self) -> bool:
        """Work on the next events; whether there are more. Needs an application context.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, Unavailable: the database cannot be used just now.
        """
        self._work_on_what_was_put_back()
        found = read(queries.READER, name=self._reader.name)
        if not found:
            self._begin()
            return False
        behind, head = found[0].position, found[0].head
        through = min(head, behind + BATCH)
        if through <= behind or time.monotonic() < self._not_before:
            return False
        tables = sorted(self._reader.tables)
        events = events_of(read(_BETWEEN, behind=behind, through=through, tables=tables))
        if events and events[0].position == self._failed_at:
            return self._take_one(behind, events[0])
        try:
            moved = self._take(behind, through, events)
        except Exception as error:
            if is_away(error) or isinstance(error, Unavailable) or not events:
                raise
            return self._take_one(behind, events[0])
        if moved and events:
            crash_point("after-reader-commit")
            self._troubles.over()
        # Whoever was faster may have seen less.
        return bool(through < head or not moved)

    @transactional
    def _begin(self) -> None:
        """Begin at the end of the log."""
        head = db.session.execute(queries.HEAD).scalar_one()
        moment = clock.now()
        row = {"position": head, "began_behind": head, "began_at": moment, "updated_at": moment}
        db.session.execute(insert(AuditReader).values(name=self._reader.name, **row))

    @transactional
    def _take(self, behind: int, through: int, events: Sequence[Event]) -> bool:
        """Move the cursor and do what the events ask for; False when another process has."""
        if not self._move(behind, through):
            return False
        if events:
            self._reader.work(db.session(), events)
            crash_point("before-reader-commit")
        return True

    def _move(self, behind: int, through: int) -> bool:
        # First of all: whoever has moved it holds the row until its commit.
        values = {
            "reader": self._reader.name, "behind": behind, "through": through,
            "moment": clock.now(),
        }  # fmt: skip
        return db.session().connection().execute(_MOVE, values).rowcount == 1

    def _take_one(self, behind: int, event: Event) -> bool:
        """Work on one event alone: those behind it must not be undone by it, nor wait for ever."""
        try:
            self._take(behind, event.position, [event])
        except Exception as error:
            if is_away(error) or isinstance(error, Unavailable):
                raise
            self._stumble(behind, event, error)
            return False
        return True

    def _stumble(self, behind: int, event: Event, error: Exception) -> None:
        self._troubles.note(error)
        if self._failed_at != event.position:
            self._failed_at, self._failures = event.position, 0
            self._backoff.reset()
        self._failures += 1
        log.exception(
            "reader.failed", reader=self._reader.name, position=event.position,
            attempt=self._failures,
        )  # fmt: skip
        if self._failures >= MOST_ATTEMPTS:
            self._park(behind, Gap(event, _told(error)))
        else:
            self._not_before = time.monotonic() + self._backoff.delay()

    @transactional
    def _park(self, behind: int, gap: Gap) -> None:
        """Go on behind an event, and keep it for somebody to look at."""
        if self._move(behind, gap.position):
            parking.park(db.session().connection(), self._reader.name, [(gap, False)])

    def _work_on_what_was_put_back(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        positions = [row[0] for row in read(queries.requeued(self._reader.name).limit(BATCH))]
        for event in events_of(read(_AT, positions=positions)) if positions else ():
            try:
                self._take_parked(event)
            except Exception as error:
                if is_away(error) or isinstance(error, Unavailable):
                    raise
                log.exception("reader.failed-again", reader=self._reader.name, at=event.position)
                self._refuse_again(event, _told(error))

    @transactional
    def _take_parked(self, event: Event) -> None:
        values = {"reader": self._reader.name, "at": event.position, "moment": clock.now()}
        if db.session().connection().execute(_TAKE_PARKED, values).rowcount == 1:
            self._reader.work(db.session(), [event])

    @transactional
    def _refuse_again(self, event: Event, why: str) -> None:
        parking.settle(
            db.session().connection(), self._reader.name, [], {event.position: why}
        )  # fmt: skip


class Readers(Loop):
    """Keeps all readers going, in the process of a scheduler."""

    name, rest = "readers", 0.5

    def __init__(self, app: Flask, readers: Sequence[Reader]) -> None:
        super().__init__()
        self._app = app
        engine = app.extensions["shop"].engine
        self._readings = [Reading(engine, reader) for reader in readers]

    def work(self) -> int:
        """Work on the next events of each reader; how many readers have more."""
        with self._app.app_context():
            # Each has its turn, also when the first one is not done.
            return sum(reading.go_on() for reading in self._readings)


def _told(error: Exception) -> str:
    # A statement's parameters are hidden; an exception of ours says what it says.
    return f"{type(error).__name__}: {reason(error)}"
