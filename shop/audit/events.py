"""The envelope: an audit entry as a CloudEvents 1.0 message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import orjson
from sqlalchemy import Connection, Integer, bindparam, select

from shop.audit.models import AuditEntry

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

_AFTER = (
    select(*COLUMNS)
    .where(AuditEntry.position > bindparam("position"))
    .order_by(AuditEntry.position)
    .limit(bindparam("most", type_=Integer()))
)


@dataclass(frozen=True, slots=True)
class Event:
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
        """CloudEvents 1.0, JSON, structured mode; the same bytes each time it is asked for."""
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


def events_after(connection: Connection, position: int, limit: int) -> Sequence[Event]:
    """The next events by position. Positions are dense, so nothing can appear behind a cursor."""
    rows = connection.execute(_AFTER, {"position": position, "most": limit}).all()
    return [Event(*cast(tuple[Any, ...], row)) for row in rows]
