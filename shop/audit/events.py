"""The envelope: an audit entry as a CloudEvents 1.0 message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Integer, Select, bindparam, select

from shop.audit.models import AuditEntry

#: The type of a gap event.
GAP = "shop.audit.gap"
#: What an event is made of, in the order of its fields.
COLUMNS = (
    AuditEntry.position,
    AuditEntry.event_id,
    AuditEntry.type,
    AuditEntry.table_name,
    AuditEntry.row_id,
    AuditEntry.sequence,
    AuditEntry.action,
    AuditEntry.created_at,
    AuditEntry.actor,
    AuditEntry.request_id,
    AuditEntry.data,
)


class Event(NamedTuple):
    """A stamped audit entry, ready to be sent."""

    position: int
    event_id: str
    type: str
    table: str
    row_id: int
    sequence: int
    action: str
    time: datetime
    actor: str | None
    request_id: str | None
    data: str

    def message(self) -> bytes:
        """CloudEvents 1.0, JSON, structured mode; the same bytes each time it is asked for.

        Raises:
            TypeError: something in it cannot be JSON.
        """
        envelope: dict[str, object] = {
            "specversion": "1.0",
            "id": self.event_id,
            "source": "/shop",
            "type": self.type,
            "subject": f"{self.table}/{self.row_id}",
            "time": self.time,
            "datacontenttype": "application/json",
            "sequence": str(self.sequence),
            "position": str(self.position),
        }
        if self.actor is not None:
            envelope["actor"] = self.actor
        if self.request_id is not None:
            envelope["requestid"] = self.request_id
        envelope["data"] = orjson.Fragment(self.data)
        return orjson.dumps(envelope, option=orjson.OPT_UTC_Z)


@dataclass(frozen=True, slots=True)
class Gap:
    """What a sink gets in place of an event that it refused: which one is missing, and why.

    Its id is made of the event's, so that it is the same each time.
    """

    event: Event
    reason: str

    @property
    def position(self) -> int:
        """That of the missing event."""
        return self.event.position

    @property
    def table(self) -> str:
        """That of the missing event."""
        return self.event.table

    @property
    def row_id(self) -> int:
        """That of the missing event."""
        return self.event.row_id

    @property
    def action(self) -> str:
        """Nothing was done to a row by it."""
        return "gap"

    def message(self) -> bytes:
        """CloudEvents 1.0, JSON, structured mode."""
        missing = self.event
        envelope = {
            "specversion": "1.0",
            "id": f"{missing.event_id}-gap",
            "source": "/shop",
            "type": GAP,
            "subject": f"{missing.table}/{missing.row_id}",
            "time": missing.time,
            "datacontenttype": "application/json",
            "sequence": str(missing.sequence),
            "position": str(missing.position),
            "data": {
                "event_id": missing.event_id,
                "type": missing.type,
                "table": missing.table,
                "id": missing.row_id,
                "action": missing.action,
                "sequence": missing.sequence,
                "position": missing.position,
                "reason": self.reason,
            },
        }
        return orjson.dumps(envelope, option=orjson.OPT_UTC_Z)


#: What sinks take.
Outgoing = Event | Gap


def stamped(*conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """What events are made of, by position; for `events_of`."""
    return select(*COLUMNS).where(*conditions).order_by(AuditEntry.position)


_AFTER = stamped(AuditEntry.position > bindparam("position")).limit(
    bindparam("most", type_=Integer())
)


def events_after(connection: Connection, position: int, limit: int) -> Sequence[Event]:
    """The next events by position. Positions are dense, so nothing can appear behind a cursor."""
    return events_of(connection.execute(_AFTER, {"position": position, "most": limit}).all())


def events_of(rows: Iterable[Any]) -> list[Event]:
    """The events of rows that `stamped` found."""
    return [Event._make(row) for row in rows]
