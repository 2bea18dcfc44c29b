"""Parking: events that a sink refused for good, kept until somebody puts them back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, update
from sqlalchemy.orm import Session

from shop import clock, logs
from shop.audit.events import Gap
from shop.audit.models import LONGEST_REASON, ParkedEvent
from shop.audit.troubles import count_parked

log = logs.get(__name__)


def park(connection: Connection, sink: str, missing: Sequence[tuple[Gap, bool]]) -> None:
    """Park events, each with whether the sink took its gap event."""
    for gap, announced in missing:
        if not _refuse_again(connection, sink, gap.position, gap.reason):
            moment, event = clock.now(), gap.event
            connection.execute(
                insert(ParkedEvent).values(
                    sink=sink, position=event.position, event_id=event.event_id,
                    table_name=event.table, row_id=event.row_id, sequence=event.sequence,
                    reason=gap.reason[:LONGEST_REASON], attempts=1, announced=announced,
                    state="parked", parked_at=moment, changed_at=moment,
                )
            )  # fmt: skip
            count_parked(connection, sink, 1)
        log.warning(
            "event.parked", sink=sink, position=gap.position, event_id=gap.event.event_id,
            reason=gap.reason, announced=announced,
        )  # fmt: skip


def settle(connection: Connection, sink: str, sent: Sequence[int], refused: dict[int, str]) -> None:
    """Record what became of events that were put back, by their positions."""
    connection.execute(
        update(ParkedEvent)
        .where(
            ParkedEvent.sink == sink,
            ParkedEvent.position.in_(sent),
            ParkedEvent.state == "requeued",
        )
        .values(state="sent", attempts=ParkedEvent.attempts + 1, changed_at=clock.now())
    )
    for position, reason in refused.items():
        _refuse_again(connection, sink, position, reason)


def requeue(session: Session, sink: str | None, event_ids: Sequence[str]) -> int:
    """Put parked events back: of a sink or all, these or all. Answers how many.

    Whoever leads the drain sends them again, with their ids and bytes.
    """
    conditions = [ParkedEvent.state == "parked"]
    if sink is not None:
        conditions.append(ParkedEvent.sink == sink)
    if event_ids:
        conditions.append(ParkedEvent.event_id.in_(event_ids))
    result = session.connection().execute(
        update(ParkedEvent).where(*conditions).values(state="requeued", changed_at=clock.now())
    )
    return result.rowcount


def _refuse_again(connection: Connection, sink: str, position: int, reason: str) -> bool:
    """Whether the event was known here; its row says that it was refused once more."""
    result = connection.execute(
        update(ParkedEvent)
        .where(ParkedEvent.sink == sink, ParkedEvent.position == position)
        .values(
            state="parked", reason=reason[:LONGEST_REASON], attempts=ParkedEvent.attempts + 1,
            changed_at=clock.now(),
        )
    )  # fmt: skip
    return result.rowcount > 0
