"""The doors of notifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from flask import Response, current_app, request, url_for

from shop.db import db, read, transactional
from shop.notifications import operations, queries
from shop.notifications.kinds import kinds_for
from shop.notifications.schemas import (
    EventOut,
    MessageIn,
    MessageOut,
    NotificationOut,
    NotificationPage,
    NotificationQuery,
    PreferencesIn,
    PreferencesOut,
    ReadAllOut,
    ReadAllQuery,
    UnreadOut,
    message_out,
    notification_out,
)
from shop.notifications.streaming import Streams
from shop.users.operations import find_for_change
from shop.web.answers import answer
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, SIGNED_IN, current_caller, token_expiry
from shop.web.fields import LARGEST_ID
from shop.web.idempotency import keep_answer
from shop.web.pagination import decode_cursor, page
from shop.web.requests import last_event_id

notifications = Blueprint("notifications", __name__, description="What people are told")

_OTHERS = "unread-count|preferences|stream|read-all|messages"


def _my_id() -> int:
    user_id = current_caller().id
    assert user_id is not None
    return user_id


@notifications.get("/notifications")
@notifications.allow(*SIGNED_IN)
@notifications.query(NotificationQuery)
@notifications.response(200, NotificationPage, headers=ETAG | LINK)
@notifications.conditional
def list_notifications(
    limit: int, unread: str | None = None, cursor: str | None = None
) -> Response:
    """One's own notifications, newest first."""
    scope = f"notifications:{unread}"
    (before,) = decode_cursor(scope, cursor, [int]) if cursor else (LARGEST_ID,)
    wanted = queries.NEWEST_UNREAD if unread == "true" else queries.NEWEST
    rows = read(wanted, user_id=_my_id(), before=before, limit=limit + 1)
    return page(rows, limit, scope=scope, key=lambda row: (row.id,), shape=_shown)


def _shown(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [notification_out(row) for row in rows]


@notifications.get("/notifications/unread-count")
@notifications.allow(*SIGNED_IN)
@notifications.response(200, UnreadOut, headers=ETAG)
@notifications.conditional
def count_unread_notifications() -> Response:
    """How many of one's own notifications are not read."""
    ((unread,),) = read(queries.UNREAD, user_id=_my_id())
    return answer({"unread": unread})


@notifications.post(f'/notifications/<id(beside="{_OTHERS}"):id>/read')
@notifications.allow(*SIGNED_IN)
@notifications.response(200, NotificationOut, headers=ETAG)
@notifications.refuses(404)
@transactional
def read_notification(id: int) -> Response:
    """Say that one has read it; the first time counts."""
    notification = operations.find_own(db.session(), _my_id(), id)
    operations.mark_read(db.session(), notification)
    return answer(notification_out(db.session.execute(queries.shown(id)).one()))


@notifications.post("/notifications/read-all")
@notifications.allow(*SIGNED_IN)
@notifications.query(ReadAllQuery)
@notifications.response(200, ReadAllOut)
@transactional
def read_all_notifications(through: int | None = None) -> Response:
    """Say that one has read all, or all up to one of them. Answers how many were unread."""
    return answer({"read": operations.mark_all_read(db.session(), _my_id(), through)})


@notifications.delete(f'/notifications/<id(beside="{_OTHERS}"):id>')
@notifications.allow(*SIGNED_IN)
@notifications.response(204)
@notifications.refuses(404)
@transactional
def delete_notification(id: int) -> Response:
    """Throw one of one's own notifications away."""
    operations.hide(db.session(), operations.find_own(db.session(), _my_id(), id))
    return Response(status=204)


@notifications.get("/notifications/preferences")
@notifications.allow(*SIGNED_IN)
@notifications.response(200, PreferencesOut, headers=ETAG)
@notifications.conditional
def get_notification_preferences() -> Response:
    """What one is told, by kind and channel."""
    return answer(_preferences())


def _preferences() -> dict[str, Any]:
    kinds = kinds_for(is_employee=current_caller().is_employee)
    return {"preferences": operations.preferences(db.session(), _my_id(), kinds)}


@notifications.put("/notifications/preferences")
@notifications.allow(*SIGNED_IN)
@notifications.body(PreferencesIn)
@notifications.response(200, PreferencesOut, headers=ETAG)
@notifications.refuses(404)
@transactional
def choose_notification_preferences(data: dict[str, Any]) -> Response:
    """Choose what one wants to be told. What is left out is as it was at first."""
    user = find_for_change(db.session(), _my_id())
    operations.choose(db.session(), user.id, data["preferences"])
    return answer(_preferences())


@notifications.post("/notifications")
@notifications.allow(*EMPLOYEES)
@notifications.body(MessageIn)
@notifications.response(202, MessageOut, headers=ETAG | LOCATION)
@notifications.idempotent()
@transactional
def write_notification(data: dict[str, Any]) -> Response:
    """Write to a user, or to all who have a role; they get it within a short time."""
    message = operations.write_message(
        db.session(), data["title"], data["text"],
        user_id=data.get("user_id"), role=data.get("role"),
    )  # fmt: skip
    location = url_for("notifications.get_notification_message", id=message.id)
    return keep_answer(answer(message_out(message), 202, location=location))


@notifications.get("/notifications/messages/<id:id>")
@notifications.allow(*EMPLOYEES)
@notifications.response(200, MessageOut, headers=ETAG)
@notifications.conditional
@notifications.refuses(404)
def get_notification_message(id: int) -> Response:
    """What was written, and how many have it by now."""
    return answer(message_out(operations.find_message(db.session(), id)))


@notifications.get("/notifications/stream")
@notifications.allow(*SIGNED_IN)
@notifications.response(200, EventOut, content_type="text/event-stream")
@notifications.resumable
@notifications.refuses(400, 429)
def stream_notifications() -> Response:
    """One's notifications as they come, as server-sent events.

    ---
    The data of an event `notification` is what the list shows; its id resumes the stream. A
    comment comes when nothing else did for 15 seconds. The stream ends with the session, and before
    the access token does: come back with a new one and the last id.
    """
    if request.method == "HEAD":
        # Nobody would read the stream, nor close it.
        return Response(content_type="text/event-stream")
    caller = current_caller()
    assert caller.id is not None
    assert caller.session_id is not None
    streams = cast(Streams, current_app.extensions["streams"])
    stream = streams.open(caller.id, caller.session_id, token_expiry(), last_event_id())
    # Proxies must pass on what there is, and not wait for the end.
    headers = {"X-Accel-Buffering": "no"}
    return Response(stream, mimetype="text/event-stream", headers=headers)
