"""The sequencer: gives committed entries dense positions, in an order that keeps each row's own.

Why reading by id alone would lose events: ids are handed out before the commit, so a lower id
can become visible after a higher one. Pending entries are therefore found by having no position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Engine, Integer, bindparam, select, update

from shop.audit.models import AuditEntry, AuditHead
from shop.db import writing

BATCH = 1000


def runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending ids as closed ranges without holes: 4 5 6 9 gives (4, 6), (9, 9)."""
    first = previous = ids[0]
    for number in ids[1:]:
        if number != previous + 1:
            yield first, previous
            first = number
        previous = number
    yield first, previous


_PENDING = (
    select(AuditEntry.id)
    .where(AuditEntry.position.is_(None))
    .order_by(AuditEntry.id)
    .limit(bindparam("most", type_=Integer()))
)


def is_pending(engine: Engine) -> bool:
    """Whether any committed entry waits for its position; takes no lock."""
    with engine.connect() as connection:
        return connection.execute(_PENDING, {"most": 1}).first() is not None


def stamp(engine: Engine) -> int:
    """Stamp the entries that are committed and pending, at most `BATCH`; answers how many.

    The pending ids come from a plain SELECT, which sees one snapshot; a locking read could pass
    a row that is being inserted. Whoever stamps holds the row of the head, so positions become
    visible in their own order.
    """
    with writing(engine) as connection:
        head = connection.execute(
            select(AuditHead.position).where(AuditHead.id == 1).with_for_update()
        ).scalar_one()
        ids = connection.execute(_PENDING, {"most": BATCH}).scalars().all()
        if not ids:
            return 0
        position = head
        for first, last in runs(ids):
            shift = position + 1 - first
            connection.execute(
                update(AuditEntry)
                .where(AuditEntry.id.between(first, last))
                .values(position=AuditEntry.id + shift)
            )
            position += last - first + 1
        connection.execute(update(AuditHead).where(AuditHead.id == 1).values(position=position))
    return len(ids)
