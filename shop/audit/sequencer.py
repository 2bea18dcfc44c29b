"""The sequencer: gives committed entries dense positions, in an order that keeps each row's own.

Why reading by id alone would lose events: ids are handed out before the commit, so a lower id
can become visible after a higher one. Pending entries are therefore found by having no position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Engine, Integer, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from shop.audit import queries
from shop.audit.events import COLUMNS, Event
from shop.audit.models import AuditEntry, AuditHead
from shop.bundles import Bundle
from shop.db import writing

BATCH = 1000

_HEAD = select(AuditHead.position).where(AuditHead.id == 1).scalar_subquery()
# Of an event all but its position, which comes first and is not known yet.
_PENDING = queries.waiting(_HEAD.label("head"), AuditEntry.id, *COLUMNS).limit(BATCH)
_ANY_PENDING = queries.waiting(AuditEntry.id).limit(1)
_MOVE_HEAD = (
    update(AuditHead)
    .where(AuditHead.id == 1, AuditHead.position == bindparam("head"))
    .values(position=bindparam("moved"))
)
_STAMP = (
    update(AuditEntry)
    .where(AuditEntry.id.between(bindparam("first"), bindparam("last")))
    .values(position=AuditEntry.id + bindparam("shift", type_=Integer()))
)


def runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending ids as closed ranges without holes: 4 5 6 9 gives (4, 6), (9, 9)."""
    first = previous = ids[0]
    for number in ids[1:]:
        if number != previous + 1:
            yield first, previous
            first = number
        previous = number
    yield first, previous


def is_pending(engine: Engine) -> bool:
    """Whether any committed entry waits for its position; takes no lock."""
    with engine.connect() as connection:
        return connection.execute(_ANY_PENDING).first() is not None


def stamp(engine: Engine) -> list[Event]:
    """Stamp the entries that are committed and pending, at most `BATCH`; answers them, in order.

    Head and pending entries come from one plain SELECT, which sees one snapshot; a locking read
    could pass a row that is being inserted. Then the head is moved, if it still is where it was
    seen: whoever has moved it holds its row until the commit, so of several that saw the same
    entries one stamps them, and positions become visible in their own order.
    """
    while (events := _attempt(engine)) is None:
        pass
    return events


def _move_and_stamp(connection: Connection, head: int, ids: Sequence[int]) -> bool:
    """Whether the head still was where it was seen; if not, roll back what was stamped."""
    bundle = Bundle(connection)
    moved = bundle.ask(_MOVE_HEAD, {"head": head, "moved": head + len(ids)})
    position = head
    for first, last in runs(ids):
        values = {"first": first, "last": last, "shift": position + 1 - first}
        bundle.ask(_STAMP, values)
        position += last - first + 1
    try:
        bundle.send()
    except IntegrityError:
        # Whoever moved it has given these positions to others meanwhile.
        if moved.rowcount:
            raise
    return moved.rowcount == 1


def _attempt(engine: Engine) -> list[Event] | None:
    """None when another has moved the head meanwhile."""
    with writing(engine) as connection:
        rows = connection.execute(_PENDING).all()
        if not rows:
            return []
        ids = [row.id for row in rows]
        if ids != sorted(ids):
            raise RuntimeError("the database answers entries without a position out of order")
        head = rows[0].head
        if not _move_and_stamp(connection, head, ids):
            connection.rollback()
            return None
    return [Event(head + number, *row[3:]) for number, row in enumerate(rows, 1)]
