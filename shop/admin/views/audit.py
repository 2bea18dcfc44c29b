"""The audit log, for staff and for machines that catch up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from flask import Response
from sqlalchemy import ColumnElement

from shop.admin.schemas import EntryPage, EntryQuery, EventPage, EventQuery, entry_out
from shop.audit import queries
from shop.audit.events import Event, events_of, stamped
from shop.audit.models import AuditEntry
from shop.db import read
from shop.errors import Fault, Gone, Invalid
from shop.web.api import ETAG, LINK, Blueprint
from shop.web.callers import EMPLOYEES
from shop.web.fields import LARGEST_ID
from shop.web.pagination import decode_cursor, page

audit = Blueprint("audit", __name__, description="Every change, who made it, and who knows of it")

_SCOPE = "audit:read"
_ENTRIES = "audit:newest"
_EVENTS = "audit:events"


@audit.get("/audit")
@audit.allow(*EMPLOYEES, scope=_SCOPE)
@audit.query(EntryQuery)
@audit.response(200, EntryPage, headers=ETAG | LINK)
@audit.conditional
def list_audit_entries(limit: int, cursor: str | None = None, **wanted: Any) -> Response:
    """Entries of the audit log, newest first.

    ---
    Each says which sinks have its event.
    """
    before = decode_cursor(_ENTRIES, cursor, [int])[0] if cursor else LARGEST_ID
    assert isinstance(before, int)
    rows = read(queries.newest(before, limit + 1, *_conditions(**wanted)))
    return page(rows, limit, scope=_ENTRIES, key=lambda row: (row.id,), shape=_entries)


def _conditions(
    *,
    table: str | None = None,
    row_id: int | None = None,
    actor: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    after: str | None = None,
) -> list[ColumnElement[bool]]:
    """Raises Invalid."""
    if row_id is not None and table is None:
        raise Invalid(
            "A row is known by its table and its id.",
            faults=(Fault("/row_id", "Say the `table` as well."),),
        )
    equal = {
        AuditEntry.table_name: table, AuditEntry.row_id: row_id, AuditEntry.actor: actor,
        AuditEntry.action: action,
    }  # fmt: skip
    conditions = [column == value for column, value in equal.items() if value is not None]
    if since is not None:
        conditions.append(AuditEntry.created_at >= since)
    if after is not None:
        conditions.append(AuditEntry.id > _id_of(after))
    return conditions


def _id_of(event_id: str) -> int:
    found = read(queries.ENTRY_OF, event_id=event_id)
    if not found:
        raise Invalid(
            "There is no such event.",
            faults=(
                Fault("/after", "No event has this id; it may have been removed for its age."),
            ),
        )
    return int(found[0].id)


def _entries(rows: Sequence[Any]) -> list[dict[str, Any]]:
    cursors = read(queries.CURSORS)
    positions = [row.position for row in rows if row.position is not None]
    found = read(queries.PARKED_AT, positions=positions)
    parked = {(row.position, row.sink): row.state for row in found if row.state != "sent"}
    return [
        entry_out(row, [
            {"name": sink.name, "state": _state(row.position, sink, parked)} for sink in cursors
        ])
        for row in rows
    ]  # fmt: skip


def _state(position: int | None, sink: Any, parked: dict[tuple[int, str], str]) -> str:
    if position is None or position > sink.position:
        return "waiting"
    return parked.get((position, sink.name), "acknowledged")


@audit.get("/audit/events")
@audit.allow(*EMPLOYEES, scope=_SCOPE)
@audit.query(EventQuery)
@audit.response(200, EventPage, headers=ETAG | LINK)
@audit.conditional
@audit.refuses(410)
def list_events(limit: int, cursor: str | None = None, after: int | None = None) -> Response:
    """The stream of events by position, as sinks get it, for who missed some.

    ---
    Positions have no holes, and nothing appears before one that was shown. Begin with the last
    position you have as `after`, and go on by `next_cursor`.
    """
    if cursor is not None:
        after = int(decode_cursor(_EVENTS, cursor, [int])[0])
    behind = AuditEntry.position > (after or 0), AuditEntry.position > queries.PRUNED_UP_TO
    rows = read(stamped(*behind).limit(limit + 1))
    # Asked after them: what was removed before they were read is known by now.
    begins = read(queries.BEGINNING)[0][0]
    if after is not None and after < begins - 1:
        raise Gone(
            f"What follows position {after} was removed for its age: the log begins at {begins}.",
            members={"first": begins},
        )
    last = read(queries.HEAD)[0][0]
    return page(
        events_of(rows), limit, scope=_EVENTS, key=lambda event: (event.position,), shape=_events,
        more={"first": begins, "last": last},
    )  # fmt: skip


def _events(events: Sequence[Event]) -> list[Any]:
    # The same bytes as sinks get.
    return [orjson.Fragment(event.message()) for event in events]
