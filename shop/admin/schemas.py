"""Shapes of the log, for those in charge."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from marshmallow import fields
from sqlalchemy import Row

from shop.jobs.models import REASONS, STATUSES, JobRun
from shop.jobs.plan import Job
from shop.jobs.slots import slot_time
from shop.web.fields import LARGEST_ID, Boolean, Choice, Code, Instant, QueryInteger, StrictSchema
from shop.web.pagination import PageQuery

_ACTIONS = ("insert", "update", "delete")
#: What a sink may have of an event.
STATES = ("waiting", "acknowledged", "parked", "requeued")


class EntryQuery(PageQuery):
    """Which entries are wanted."""

    table = Code(
        r"^[a-z][a-z_]*$", 64, metadata={"description": "Of this table, such as `products`."}
    )
    row_id = QueryInteger(
        1, LARGEST_ID, metadata={"description": "Of this row; only together with `table`."}
    )
    actor = Code(
        r"^[a-z][a-z0-9_/-]*$", 100,
        metadata={"description": "By whom: `users/3`, `api-keys/5`, `cli`."},
    )  # fmt: skip
    action = Choice(_ACTIONS)
    since = Instant(metadata={"description": "Written then or later (RFC 3339)."})
    after = Code(
        r"^[0-9A-HJKMNP-TV-Z]{26}$", 26, shortest=26,
        metadata={"description": "Written after the event with this id."},
    )  # fmt: skip


class EventQuery(PageQuery):
    """Which events are wanted."""

    after = QueryInteger(
        0, LARGEST_ID,
        metadata={
            "description": "The last position that you have. Without it you get what there is."
        },
    )  # fmt: skip


class SinkState(StrictSchema):
    """What one sink has of an event."""

    name = fields.String(required=True)
    state = Choice(
        STATES, required=True,
        metadata={
            "description": "`parked`: it refused it. `requeued`: it waits to be sent there again."
        },
    )  # fmt: skip


class EntryOut(StrictSchema):
    """An entry of the log. Secrets are not in it, personal data is masked."""

    id = fields.String(required=True, metadata={"description": "That of the event."})
    position = fields.Integer(
        required=True, allow_none=True,
        metadata={"description": "Its place in the stream; null for the moment after the commit."},
    )  # fmt: skip
    type = fields.String(required=True)
    table = fields.String(required=True)
    row_id = fields.Integer(required=True)
    sequence = fields.Integer(
        required=True, metadata={"description": "Counts 1, 2, 3 ... for each row."}
    )
    action = Choice(_ACTIONS, required=True)
    actor = fields.String(required=True, allow_none=True)
    request_id = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    before = fields.Dict(
        required=True, allow_none=True,
        metadata={"description": "The old values of what changed; null for a new row."},
    )  # fmt: skip
    after = fields.Dict(
        required=True, allow_none=True,
        metadata={"description": "The row after it; null when it was deleted."},
    )  # fmt: skip
    sinks = fields.List(fields.Nested(SinkState), required=True)


class EntryPage(StrictSchema):
    """A page of entries, newest first."""

    items = fields.List(fields.Nested(EntryOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class EventPage(StrictSchema):
    """A page of events, in the order of their positions."""

    items = fields.List(
        fields.Dict(),
        required=True,
        metadata={"description": "CloudEvents 1.0, as sinks get them (docs/event.schema.json)."},
    )
    next_cursor = fields.String(required=True, allow_none=True)
    first = fields.Integer(
        required=True, metadata={"description": "Where the log begins; older events are removed."}
    )
    last = fields.Integer(
        required=True, metadata={"description": "The last position there was at that moment."}
    )


def entry_out(row: Row[Any], sinks: list[dict[str, str]]) -> dict[str, Any]:
    """`EntryOut`, ready for JSON."""
    data: Mapping[str, Any] = orjson.loads(row.data)
    return {
        "id": row.event_id,
        "position": row.position,
        "type": row.type,
        "table": row.table_name,
        "row_id": row.row_id,
        "sequence": row.sequence,
        "action": row.action,
        "actor": row.actor,
        "request_id": row.request_id,
        "created_at": row.created_at,
        "before": data["before"],
        "after": data["after"],
        "sinks": sinks,
    }


class RunOut(StrictSchema):
    """One run of a job: a slot, and what became of it."""

    job = fields.String(required=True)
    slot = fields.DateTime(
        required=True, metadata={"description": "When it was planned, or ordered by hand."}
    )
    status = Choice(
        STATUSES, required=True,
        metadata={"description": "`waiting` for its (next) attempt; `skipped`: it never runs."},
    )  # fmt: skip
    reason = Choice(
        REASONS, required=True, allow_none=True,
        metadata={"description": "Why it waits, was skipped or failed, besides an error."},
    )  # fmt: skip
    attempts = fields.Integer(required=True, metadata={"description": "How often it was begun."})
    error = fields.String(
        required=True, allow_none=True, metadata={"description": "Of the last failure."}
    )
    ordered_by = fields.String(
        required=True, allow_none=True,
        metadata={"description": "Who asked for it (`users/3`, `cli`); null when it was planned."},
    )  # fmt: skip
    started_at = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "Its last attempt."}
    )
    finished_at = fields.DateTime(required=True, allow_none=True)


class RunPage(StrictSchema):
    """A page of runs, the newest slot first."""

    items = fields.List(fields.Nested(RunOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class JobOut(StrictSchema):
    """A job as it is planned."""

    name = fields.String(required=True)
    trigger = fields.String(
        required=True, metadata={"description": "In words, such as `every 20 min`."}
    )
    timezone = fields.String(required=True)
    next_slot = fields.DateTime(required=True, metadata={"description": "When it is due next."})
    catch_up = Choice(
        ("latest", "all", "none"), required=True,
        metadata={"description": "Which slots run late when nobody ran them in time."},
    )  # fmt: skip
    enabled = fields.Boolean(required=True)
    running = fields.Boolean(required=True)
    last_run = fields.Nested(
        RunOut, required=True, allow_none=True,
        metadata={"description": "That of the newest slot."},
    )  # fmt: skip


class JobList(StrictSchema):
    """Every job."""

    items = fields.List(fields.Nested(JobOut), required=True)


class JobIn(StrictSchema):
    """What can be changed about a job."""

    enabled = Boolean(required=True)


def run_out(run: JobRun) -> dict[str, Any]:
    """`RunOut`, ready for JSON."""
    return {
        "job": run.job,
        "slot": slot_time(run.slot),
        "status": run.status,
        "reason": run.reason,
        "attempts": run.attempts,
        "error": run.error,
        "ordered_by": run.ordered_by,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def job_out(
    job: Job, next_slot: datetime, last: JobRun | None, *, enabled: bool, running: bool
) -> dict[str, Any]:
    """`JobOut`, ready for JSON."""
    return {
        "name": job.name,
        "trigger": str(job.trigger),
        "timezone": job.trigger.zone_name,
        "next_slot": next_slot,
        "catch_up": job.catch_up,
        "enabled": enabled,
        "running": running,
        "last_run": None if last is None else run_out(last),
    }
