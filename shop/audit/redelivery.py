"""Redelivery: parked events that were put back, and ranges of the log that are sent again.

Both are orders in the database. Whoever leads the drain carries them out beside the live stream, a
bite at a time; they never move a cursor, and a bite that was cut off is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select, update
from sqlalchemy.orm import Session

from shop import clock, logs
from shop.audit import parking, queries
from shop.audit.events import Gap, Outgoing, events_of, stamped
from shop.audit.models import AuditEntry, ParkedEvent, Replay
from shop.errors import Invalid

log = logs.get(__name__)

#: Events of a bite.
MOST = 50


@dataclass(slots=True)
class Bite:
    """Some events of an order; `replay_id` is None for parked ones. `end` is where it gets to."""

    events: Sequence[Outgoing]
    replay_id: int | None = None
    end: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    _waiting: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._waiting = {event.position for event in self.events}

    @property
    def left(self) -> int:
        """How many are neither acknowledged nor refused."""
        return len(self._waiting)

    def awaits(self, position: int) -> bool:
        """Whether the event at this position is one of it, and in flight."""
        return position in self._waiting

    def refuse(self, position: int, reason: str) -> None:
        """The sink will not take it."""
        self._waiting.discard(position)
        self.refused[position] = reason

    def acknowledge(self, positions: Sequence[int]) -> list[int]:
        """Answers the positions that are none of its."""
        others = [position for position in positions if position not in self._waiting]
        self._waiting.difference_update(positions)
        return others

    @property
    def is_in_vain(self) -> bool:
        """Whether the sink took none of a range: it is rather the sink than the events."""
        return self.replay_id is not None and 0 < len(self.events) == len(self.refused)


def order_replay(session: Session, sink: str, first: int, last: int | None) -> Replay:
    """Order that a range of positions is sent to a sink again; to its cursor when `last` is None.

    Raises:
        Invalid: the sink is unknown, or the range is not wholly in the log and behind its cursor.
    """
    cursor = session.execute(queries.cursor_of(sink)).scalar_one_or_none()
    if cursor is None:
        raise Invalid(f"Nothing was ever sent to a sink {sink!r}.")
    begin = session.execute(queries.BEGINNING).scalar_one()
    last = cursor if last is None else last
    if first < begin:
        raise Invalid(
            f"Position {first} was removed for its age: the log begins at {begin}. Say --from"
            f" {begin} or more."
        )
    if last > cursor:
        raise Invalid(
            f"{sink} is at position {cursor}: what comes after it will arrive by itself. Say --to"
            f" {cursor} or less."
        )
    if first > last:
        raise Invalid(f"There is nothing from {first} to {last}.")
    replay = Replay(
        sink=sink, from_position=first, to_position=last, next_position=first,
        created_at=clock.now(),
    )  # fmt: skip
    session.add(replay)
    session.flush()
    return replay


def next_bite(connection: Connection, sink: str, most: int) -> Bite | None:
    """What is to be sent to the sink again next, at most so many; None when nothing is."""
    positions = connection.execute(queries.requeued(sink).limit(most)).scalars().all()
    wanted = stamped(AuditEntry.position.in_(positions))
    if positions and (rows := connection.execute(wanted).all()):
        return Bite(events_of(rows))
    replay = connection.execute(queries.oldest_replay(sink)).first()
    if replay is None:
        return None
    end = min(replay.next_position + most - 1, replay.to_position)
    wanted = stamped(AuditEntry.position.between(replay.next_position, end))
    missing = _parked_between(connection, sink, replay.next_position, end)
    events = [
        Gap(event, missing[event.position]) if event.position in missing else event
        for event in events_of(connection.execute(wanted).all())
    ]
    return Bite(events, replay.id, end)


def record(connection: Connection, sink: str, bite: Bite) -> None:
    """Record that a bite was taken, or refused."""
    if bite.replay_id is None:
        sent = [e.position for e in bite.events if e.position not in bite.refused]
        parking.settle(connection, sink, sent, bite.refused)
        return
    if bite.refused:
        log.warning("replay.refused", sink=sink, positions=sorted(bite.refused)[:MOST])
    if bite.is_in_vain:
        return
    connection.execute(
        update(Replay).where(Replay.id == bite.replay_id).values(next_position=bite.end + 1)
    )
    connection.execute(
        update(Replay)
        .where(Replay.id == bite.replay_id, Replay.to_position <= bite.end)
        .values(finished_at=clock.now())
    )


def _parked_between(connection: Connection, sink: str, first: int, last: int) -> dict[int, str]:
    rows = connection.execute(
        select(ParkedEvent.position, ParkedEvent.reason).where(
            ParkedEvent.sink == sink,
            ParkedEvent.position.between(first, last),
            ParkedEvent.state != "sent",
        )
    )
    return {row.position: row.reason for row in rows}
