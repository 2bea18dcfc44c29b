"""Telling people, and what they do with what they were told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import JSON, Select, String, delete, false, insert, literal, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from shop import clock, provenance
from shop.crashes import crash_point
from shop.db import BigId, UTCDateTime
from shop.errors import Fault, Invalid, NotFound
from shop.inserts import Row, insert_rows
from shop.mail.operations import enqueue_all
from shop.notifications import queries
from shop.notifications.kinds import EMAIL, INBOX, KINDS
from shop.notifications.models import (
    SENT,
    Notification,
    NotificationMessage,
    NotificationPreference,
)
from shop.notifications.news import Notice
from shop.users.models import User

#: The kind of mail that all of them are.
MAIL = "notification"
#: Users of one piece of a message.
PIECE = 500

Wishes = Mapping[tuple[int, str, str], bool]


def notify(session: Session, notices: Sequence[Notice], message_id: int | None = None) -> int:
    """Tell people by the channels that they want, once each; answers how many were new.

    Who was erased meanwhile is told nothing.
    """
    session.execute(queries.line())
    wanted = _addressed(session, notices)
    user_ids = {user_id for user_id, _ in wanted}
    people = {row.id: row for row in session.execute(queries.recipients(user_ids))}
    keys = {notice.key for _, notice in wanted}
    told = {tuple(row) for row in session.execute(queries.told_already(keys, user_ids))}
    fresh = [
        (people[user_id], notice)
        for user_id, notice in wanted
        if user_id in people and (user_id, notice.key) not in told
    ]
    wishes = _wishes(session, user_ids)
    rows = [_row(user.id, notice, wishes, message_id) for user, notice in fresh]
    if rows:
        insert_rows(session.connection(), Notification.__table__, rows)
    mails = [
        (user.email, _told(user.id, notice.kind, notice.data, message_id))
        for user, notice in fresh
        if not user.disabled and _wants(wishes, user.id, notice.kind, EMAIL)
    ]
    enqueue_all(session, MAIL, mails)
    return len(rows)


def _addressed(session: Session, notices: Sequence[Notice]) -> list[tuple[int, Notice]]:
    for_staff = any(notice.user_id is None for notice in notices)
    employees = session.scalars(queries.employees()).all() if for_staff else ()
    return [
        (user_id, notice)
        for notice in notices
        for user_id in (employees if notice.user_id is None else (notice.user_id,))
    ]


def _wishes(session: Session, user_ids: Collection[int]) -> Wishes:
    found = session.scalars(queries.preferences_of(user_ids))
    return {(it.user_id, it.kind, it.channel): it.wanted for it in found}


def _wants(wishes: Wishes, user_id: int, kind: str, channel: str) -> bool:
    return wishes.get((user_id, kind, channel), KINDS[kind].wanted(channel))


def _row(user_id: int, notice: Notice, wishes: Wishes, message_id: int | None) -> dict[str, Any]:
    moment = clock.now()
    hidden = not _wants(wishes, user_id, notice.kind, INBOX)
    return {
        "user_id": user_id,
        "kind": notice.kind,
        "key": notice.key,
        "data": {} if hidden else notice.data,
        "message_id": message_id,
        "hidden": hidden,
        "created_at": moment,
        "read_at": moment if hidden else None,
    }


def _told(user_id: int, kind: str, data: Row, message_id: int | None) -> Row:
    """What a mail is composed of when it is sent."""
    return {"user_id": user_id, "kind": kind, "data": data, "message_id": message_id}


def find_own(session: Session, user_id: int, notification_id: int) -> Notification:
    """A notification of a user under a lock. Raises NotFound."""
    found = session.scalars(queries.own(user_id, notification_id)).one_or_none()
    if found is None:
        raise NotFound(f"There is no notification {notification_id}.")
    return found


def mark_read(session: Session, notification: Notification) -> None:
    """It was read; the first time counts."""
    notification.read_at = notification.read_at or clock.now()
    session.flush()


def mark_all_read(session: Session, user_id: int, through: int | None) -> int:
    """Everything was read, or everything up to the id `through`; answers how many it were."""
    reading = update(Notification).where(
        Notification.user_id == user_id, Notification.read_at.is_(None)
    )
    if through is not None:
        reading = reading.where(Notification.id <= through)
    return _changed(session, reading.values(read_at=clock.now()))


def hide(session: Session, notification: Notification) -> None:
    """Its owner does not want to see it any more."""
    mark_read(session, notification)
    notification.hidden, notification.data = True, {}
    session.flush()


def choose(session: Session, user_id: int, wishes: Mapping[str, Mapping[str, bool]]) -> None:
    """Keep what somebody wants to be told, by kind and channel; the rest is as it is at first.

    The account must be locked.
    """
    session.execute(
        delete(NotificationPreference)
        .where(NotificationPreference.user_id == user_id)
        .execution_options(synchronize_session=False)
    )
    session.add_all(
        NotificationPreference(user_id=user_id, kind=kind, channel=channel, wanted=wanted)
        for kind, channels in wishes.items()
        for channel, wanted in channels.items()
        if wanted != KINDS[kind].wanted(channel)
    )
    session.flush()


def preferences(session: Session, user_id: int, kinds: Collection[str]) -> dict[str, Any]:
    """What somebody is told, by kind and channel."""
    wishes = _wishes(session, {user_id})
    return {
        kind: {channel: _wants(wishes, user_id, kind, channel) for channel in (INBOX, EMAIL)}
        for kind in kinds
    }


def write_message(
    session: Session, title: str, text: str, *, user_id: int | None, role: str | None
) -> NotificationMessage:
    """Write to one user, at once; or to all with a role, who get it in pieces.

    Raises:
        Invalid: there is no such user.
    """
    if user_id is not None and session.get(User, user_id) is None:
        fault = Fault("/user_id", "There is no such user.")
        raise Invalid("There is nobody to write to.", faults=(fault,))
    last = session.execute(queries.last_user()).scalar_one()
    message = NotificationMessage(
        title=title, text=text, user_id=user_id, role=role, last=last,
        actor=provenance.actor.get(),
    )  # fmt: skip
    session.add(message)
    session.flush()
    if user_id is not None:
        notice = Notice("message", f"message:{message.id}", {}, user_id)
        message.recipients = notify(session, [notice], message.id)
        _finish(message)
        session.flush()
    return message


def find_message(session: Session, message_id: int) -> NotificationMessage:
    """Raises NotFound."""
    message = session.get(NotificationMessage, message_id, populate_existing=True)
    if message is None:
        raise NotFound(f"There is no message {message_id}.")
    return message


def send_piece(session: Session, message_id: int) -> bool:
    """Give a message to the next of its recipients; False when nobody is left.

    What says how far it got is in the locked row, and moves in the same transaction.
    """
    message = session.scalars(queries.message_for_change(message_id)).one_or_none()
    if message is None or message.role is None or message.status == SENT:
        return False
    piece = queries.end_of_piece(message.role, message.through, message.last, PIECE)
    end = session.execute(piece).scalar_one()
    if end is None:
        _finish(message)
    else:
        session.execute(queries.line())
        message.recipients += _hand_out(session, message, end)
        message.through = end
        session.flush()
        crash_point("in-fan-out")
    session.flush()
    return end is not None


def _finish(message: NotificationMessage) -> None:
    message.status, message.finished_at = SENT, clock.now()


def _hand_out(session: Session, message: NotificationMessage, end: int) -> int:
    assert message.role is not None
    among = queries.among(message.role, message.through, end)
    values = {
        "user_id": User.id,
        "kind": literal("message", String),
        "key": literal(f"message:{message.id}", String),
        "data": literal({}, JSON),
        "message_id": literal(message.id, BigId),
        "hidden": false(),
        "created_at": literal(clock.now(), UTCDateTime),
    }
    rows: Select[*tuple[Any, ...]] = select(
        *[value.label(f"its_{name}") for name, value in values.items()]
    )
    handed_out = _changed(
        session, insert(Notification).from_select([*values], rows.where(*among).order_by(User.id))
    )
    wishing = session.execute(queries.wants_mail("message", *among)).all()
    enqueue_all(
        session, MAIL, [(it.email, _told(it.id, "message", {}, message.id)) for it in wishing]
    )
    return handed_out


def _changed(session: Session, statement: Any) -> int:
    # Not by the session's way: it would refuse a bulk INSERT from a SELECT some of its options.
    result = session.connection().execute(statement)
    return cast("CursorResult[object]", result).rowcount
