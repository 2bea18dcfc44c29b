"""Questions to the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select

from shop.audit.events import COLUMNS
from shop.audit.models import (
    AuditEntry,
    AuditHead,
    AuditReader,
    AuditSink,
    ParkedEvent,
    Replay,
    Seal,
)

#: The last position whose entry was removed for its age; 0 when none was.
PRUNED = select(func.coalesce(func.max(Seal.through), 0)).where(Seal.pruned_at.is_not(None))
#: The same inside a statement.
PRUNED_UP_TO = PRUNED.scalar_subquery()
#: The first position from which on the log is whole.
BEGINNING = select(PRUNED_UP_TO + 1)
#: The last position that was given.
HEAD = select(func.coalesce(func.max(AuditHead.position), 0))
#: How many entries are committed and have no position yet.
PENDING = select(func.count()).where(AuditEntry.position.is_(None))
#: The cursors of all sinks that anything was ever sent to.
CURSORS = select(AuditSink.name, AuditSink.position, AuditSink.updated_at).order_by(AuditSink.name)
#: The cursors of internal readers, and where the log ends.
READERS = select(
    AuditReader.name, AuditReader.position, HEAD.scalar_subquery().label("head")
).order_by(AuditReader.name)
#: The cursor of the reader `name`, and where the log ends.
READER = select(AuditReader.position, HEAD.scalar_subquery().label("head")).where(
    AuditReader.name == bindparam("name")
)
#: Which sinks refused the events at `positions`, and what became of them.
PARKED_AT = select(ParkedEvent.position, ParkedEvent.sink, ParkedEvent.state).where(
    ParkedEvent.position.in_(bindparam("positions", expanding=True))
)
#: The lowest position that waits to be sent again.
FIRST_OF_REPLAYS = select(func.min(Replay.next_position)).where(Replay.finished_at.is_(None))
#: The id of the entry behind an event.
ENTRY_OF = select(AuditEntry.id).where(AuditEntry.event_id == bindparam("event_id"))


def waiting(*columns: Any) -> Select[*tuple[Any, ...]]:
    """What is committed and waits for its position, the first written first.

    The index of positions keeps those without one in the order of their ids, and is read so, by
    MariaDB and by SQLite. Asked for that order MariaDB would sort all that waits, or walk the
    whole log, at each batch of a backlog.
    """
    found = select(*columns).where(AuditEntry.position.is_(None))
    for dialect in ("mysql", "mariadb"):
        found = found.with_hint(AuditEntry, "FORCE INDEX (uq_audit_log_position)", dialect)
    return found.with_hint(AuditEntry, "INDEXED BY uq_audit_log_position", "sqlite")


def backlog(sinks: Sequence[str]) -> Select[int]:
    """How many entries the slowest of these sinks has not acknowledged; pending ones count."""
    pending = PENDING.scalar_subquery()
    head = HEAD.scalar_subquery()
    slowest = (
        select(func.coalesce(func.min(AuditSink.position), 0))
        .where(AuditSink.name.in_(sinks))
        .scalar_subquery()
    )
    return select(pending + (head - slowest if sinks else 0))


def pending(most: int) -> Select[int]:
    """How many committed entries wait for their position; it counts to `most` and no further."""
    return select(func.count()).select_from(waiting(AuditEntry.id).limit(most).subquery())


def time_after(position: int) -> Select[datetime]:
    """When the first entry after a position was written."""
    later = select(AuditEntry.created_at).where(AuditEntry.position > position)
    return later.order_by(AuditEntry.position).limit(1)


def time_of_first_pending() -> Select[datetime]:
    """When the first entry was written that waits for its position."""
    return waiting(AuditEntry.created_at).limit(1)


def owed_again(sinks: Sequence[str]) -> Select[int]:
    """How many parked events were put back for these sinks, and replays are not finished."""
    put_back = select(func.count()).where(
        ParkedEvent.sink.in_(sinks), ParkedEvent.state == "requeued"
    )
    replays = select(func.count()).where(Replay.sink.in_(sinks), Replay.finished_at.is_(None))
    return select(put_back.scalar_subquery() + replays.scalar_subquery())


def stamped() -> Select[int, int, int]:
    """Head, highest position and number of positions: three equal numbers in a sound log.

    Those that were removed for their age count.
    """
    head = select(AuditHead.position).where(AuditHead.id == 1).scalar_subquery()
    return select(
        head,
        func.coalesce(func.max(AuditEntry.position), PRUNED_UP_TO),
        func.count(AuditEntry.position) + PRUNED_UP_TO,
    ).where(AuditEntry.position > PRUNED_UP_TO)


def newest(before: int, limit: int, *conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Entries before the id `before`, newest first."""
    return (
        select(AuditEntry.id, *COLUMNS)
        .where(AuditEntry.id < before, *conditions)
        .order_by(AuditEntry.id.desc())
        .limit(limit)
    )


def cursor_of(sink: str) -> Select[int]:
    """The position of a sink; no row when nothing was ever sent to it."""
    return select(AuditSink.position).where(AuditSink.name == sink)


def requeued(sink: str) -> Select[int]:
    """Positions of parked events that wait to be sent again, in their order."""
    return (
        select(ParkedEvent.position)
        .where(ParkedEvent.sink == sink, ParkedEvent.state == "requeued")
        .order_by(ParkedEvent.position)
    )


def oldest_replay(sink: str) -> Select[*tuple[Any, ...]]:
    """The replay of a sink that is carried out next."""
    return (
        select(Replay.id, Replay.next_position, Replay.to_position)
        .where(Replay.sink == sink, Replay.finished_at.is_(None))
        .order_by(Replay.id)
        .limit(1)
    )


def parked(sink: str | None = None) -> Select[ParkedEvent]:
    """Events that are parked or wait to be sent again, oldest first."""
    found = select(ParkedEvent).where(ParkedEvent.state != "sent")
    if sink is not None:
        found = found.where(ParkedEvent.sink == sink)
    return found.order_by(ParkedEvent.position, ParkedEvent.sink)


def oldest_kept_seal() -> Select[Seal]:
    """The first seal whose entries are there, under a lock."""
    return (
        select(Seal)
        .where(Seal.pruned_at.is_(None))
        .order_by(Seal.through)
        .limit(1)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


#: The end of the chain of seals.
LAST_SEAL = select(Seal.through, Seal.digest).order_by(Seal.through.desc()).limit(1)
#: How many events each sink refused, by what became of them.
PARKED = (
    select(ParkedEvent.sink, ParkedEvent.state, func.count())
    .where(ParkedEvent.state != "sent")
    .group_by(ParkedEvent.sink, ParkedEvent.state)
)
#: Replays that are not finished.
REPLAYS = (
    select(Replay.sink, Replay.from_position, Replay.to_position, Replay.next_position)
    .where(Replay.finished_at.is_(None))
    .order_by(Replay.id)
)
