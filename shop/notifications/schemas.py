"""Shapes of notifications."""

from __future__ import annotations

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate, validates_schema

from shop.notifications import wording
from shop.notifications.kinds import KINDS, Kind
from shop.notifications.models import SENDING, SENT, NotificationMessage
from shop.users.models import ROLES
from shop.web.fields import (
    LARGEST_ID,
    Boolean,
    Choice,
    Integer,
    Line,
    QueryInteger,
    StrictSchema,
    Text,
)
from shop.web.pagination import PageQuery

_ABSENT: dict[str, Any] = {"not": {}}


class NotificationQuery(PageQuery):
    """Which of one's notifications to list."""

    unread = Choice(("true", "false"), metadata={"description": "`true`: those that are not read."})


class ReadAllQuery(StrictSchema):
    """What was read."""

    through = QueryInteger(
        1, LARGEST_ID,
        metadata={
            "description": "The newest that was seen: later ones stay unread. Without it all are"
            " read."
        },
    )  # fmt: skip


class NotificationOut(StrictSchema):
    """Something that one was told."""

    id = fields.Integer(required=True)
    kind = Choice(tuple(KINDS), required=True)
    title = fields.String(required=True)
    text = fields.String(required=True, metadata={"description": "Plain text, never HTML."})
    data = fields.Dict(
        required=True, metadata={"description": "What it is about, for programs: `order_id` ..."}
    )
    read_at = fields.DateTime(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)


class NotificationPage(StrictSchema):
    """A page of notifications, newest first."""

    items = fields.List(fields.Nested(NotificationOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class EventOut(StrictSchema):
    """A server-sent event."""

    id = fields.String(metadata={"description": "That of the notification."})
    event = fields.String(metadata={"description": "`notification`."})
    data = fields.String(metadata={"description": "The notification as the list has it, in JSON."})
    retry = fields.Integer(metadata={"description": "After so many milliseconds come back."})


class UnreadOut(StrictSchema):
    """How many are not read."""

    unread = fields.Integer(required=True)


class ReadAllOut(StrictSchema):
    """How many were read now."""

    read = fields.Integer(required=True)


class Channels(StrictSchema):
    """By which channels a kind comes."""

    inbox = Boolean()
    email = Boolean()


class FirmChannels(StrictSchema):
    """By which channels a kind comes that nobody can keep out of the inbox."""

    inbox = Boolean(validate=validate.OneOf([True], error="This is always in the inbox."))
    email = Boolean()


def _channels(kind: Kind) -> fields.Field[Any]:
    return fields.Nested(FirmChannels if kind.firm else Channels)


ByKind = StrictSchema.from_dict(
    {name: _channels(kind) for name, kind in KINDS.items()}, name="NotificationWishes"
)


class PreferencesIn(StrictSchema):
    """What one wants to be told. What is left out is as it is for somebody who never chose."""

    preferences = fields.Nested(ByKind, required=True)


class PreferencesOut(StrictSchema):
    """What one is told, by kind and channel."""

    preferences = fields.Dict(
        keys=fields.String(), values=fields.Nested(Channels), required=True
    )  # fmt: skip


class MessageIn(StrictSchema):
    """What staff writes: to one user, or to all who have a role now."""

    class Meta(StrictSchema.Meta):
        document: ClassVar = {
            "oneOf": [
                {"required": ["user_id"], "properties": {"role": _ABSENT}},
                {"required": ["role"], "properties": {"user_id": _ABSENT}},
            ]
        }

    title = Line(200, required=True)
    text = Text(5_000, required=True, metadata={"description": "Plain text."})
    user_id = Integer(1, LARGEST_ID)
    role = Choice(ROLES)

    @validates_schema
    def _check_recipient(self, data: dict[str, Any], **_kwargs: Any) -> None:
        if ("user_id" in data) == ("role" in data):
            raise ValidationError("Either `user_id` or `role`.")


class MessageOut(StrictSchema):
    """A message, and how many have it by now."""

    id = fields.Integer(required=True)
    title = fields.String(required=True)
    text = fields.String(required=True)
    user_id = fields.Integer(required=True, allow_none=True)
    role = Choice(ROLES, required=True, allow_none=True)
    status = Choice((SENDING, SENT), required=True)
    recipients = fields.Integer(required=True, metadata={"description": "So many have it."})
    created_at = fields.DateTime(required=True)
    finished_at = fields.DateTime(required=True, allow_none=True)


def notification_out(row: Any) -> dict[str, Any]:
    """`NotificationOut`, ready for JSON, of a row as `queries` show it."""
    if row.message_id is not None:
        title, text = row.title, row.text
    else:
        title, text = wording.say(row.kind, row.data)
    return {
        "id": row.id,
        "kind": row.kind,
        "title": title,
        "text": text,
        "data": row.data,
        "read_at": row.read_at,
        "created_at": row.created_at,
    }


def message_out(message: NotificationMessage) -> dict[str, Any]:
    """`MessageOut`, ready for JSON."""
    return {name: getattr(message, name) for name in MessageOut._declared_fields}
