"""Questions about notifications."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, bindparam, false, func, select

from shop.audit.models import AuditReader
from shop.notifications.models import (
    SENDING,
    Notification,
    NotificationMessage,
    NotificationPreference,
)
from shop.products.models import Product, Variant
from shop.products.queries import low_at
from shop.users.models import User

#: The reader of the audit log that notifications are made by.
READER = "notifications"
_USER: Any = bindparam("user_id")

# Not `IS FALSE`, for which MariaDB uses no index.
_SHOWN = (
    select(
        Notification.id,
        Notification.user_id,
        Notification.kind,
        Notification.data,
        Notification.message_id,
        NotificationMessage.title,
        NotificationMessage.text,
        Notification.created_at,
        Notification.read_at,
    )
    .outerjoin(NotificationMessage, NotificationMessage.id == Notification.message_id)
    .where(Notification.hidden == false())
)
_PAGE = _SHOWN.where(Notification.user_id == _USER, Notification.id < bindparam("before"))
_LIMIT = bindparam("limit", type_=Integer())

#: Notifications of a user before an id, newest first; the second time those that are not read.
NEWEST = _PAGE.order_by(Notification.id.desc()).limit(_LIMIT)
NEWEST_UNREAD = (
    _PAGE.where(Notification.read_at.is_(None)).order_by(Notification.id.desc()).limit(_LIMIT)
)
#: How many of a user's are not read. What is hidden counts as read.
UNREAD = select(func.count()).where(Notification.user_id == _USER, Notification.read_at.is_(None))
#: The last id that was given. Ids become visible in their order: see `line`.
HEAD = select(func.coalesce(func.max(Notification.id), 0))
_ADDED = _SHOWN.where(
    Notification.id > bindparam("behind"), Notification.id <= bindparam("through")
)
#: What was added for one user, or for several, in its order.
ADDED_FOR = _ADDED.where(Notification.user_id == _USER).order_by(Notification.id).limit(_LIMIT)
ADDED_FOR_SEVERAL = (
    _ADDED.where(Notification.user_id.in_(bindparam("user_ids", expanding=True)))
    .order_by(Notification.id)
    .limit(_LIMIT)
)
#: Messages that are being sent, the oldest first.
UNSENT = (
    select(NotificationMessage.id)
    .where(NotificationMessage.status == SENDING)
    .order_by(NotificationMessage.id)
    .limit(_LIMIT)
)


def line() -> Select[str]:
    """The lock that whoever adds notifications holds until the commit.

    So ids are given in the order of commits, and whoever has seen one has seen all before it.
    """
    return select(AuditReader.name).where(AuditReader.name == READER).with_for_update()


def own(user_id: int, notification_id: int) -> Select[Notification]:
    """A notification of a user that is not hidden, under a lock."""
    return (
        select(Notification)
        .where(
            Notification.id == notification_id,
            Notification.user_id == user_id,
            Notification.hidden == false(),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def shown(notification_id: int) -> Select[*tuple[Any, ...]]:
    """One notification as it is shown."""
    return _SHOWN.where(Notification.id == notification_id)


def all_of(user_id: int) -> Select[*tuple[Any, ...]]:
    """All notifications of a user, oldest first."""
    return _SHOWN.where(Notification.user_id == user_id).order_by(Notification.id)


def told_already(keys: Collection[str], user_ids: Collection[int]) -> Select[int, str]:
    """Who of these users was told what of this: pairs of user and key."""
    return select(Notification.user_id, Notification.key).where(
        Notification.user_id.in_(user_ids), Notification.key.in_(keys)
    )


#: The address of the user `id`, and whether they may not enter.
RECIPIENT = select(User.email, User.disabled).where(User.id == bindparam("id"))


def recipients(user_ids: Collection[int]) -> Select[int, str, bool]:
    """Id, address and whether they may not enter, of these users."""
    return select(User.id, User.email, User.disabled).where(User.id.in_(user_ids))


def employees() -> Select[int]:
    """Ids of all who work here."""
    return select(User.id).where(User.role.in_(("staff", "admin")), User.disabled.is_(False))


def preferences_of(user_ids: Collection[int]) -> Select[NotificationPreference]:
    """What these users chose."""
    return select(NotificationPreference).where(NotificationPreference.user_id.in_(user_ids))


def variants(ids: Collection[int], low_stock: int) -> Select[int, str, int, str]:
    """Id, SKU, the `mark` at which they are running out, and name of the product of variants."""
    return (
        select(Variant.id, Variant.sku, low_at(low_stock).label("mark"), Product.name)
        .join(Product, Product.id == Variant.product_id)
        .where(Variant.id.in_(ids))
    )


def message_for_change(message_id: int) -> Select[NotificationMessage]:
    """A message under a lock, as it is now."""
    return (
        select(NotificationMessage)
        .where(NotificationMessage.id == message_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def last_user() -> Select[int]:
    """The highest id that an account has."""
    return select(func.coalesce(func.max(User.id), 0))


def end_of_piece(role: str, after: int, last: int, size: int) -> Select[int | None]:
    """The id of the last of the next users with a role; None when there are no more."""
    following = (
        select(User.id)
        .where(User.role == role, User.id > after, User.id <= last)
        .order_by(User.id)
        .limit(size)
        .subquery()
    )
    return select(func.max(following.c.id))


def among(role: str, after: int, through: int) -> tuple[ColumnElement[bool], ...]:
    """Whether a user is in a piece of a message's recipients."""
    return User.role == role, User.id > after, User.id <= through, User.disabled.is_(False)


def wants_mail(kind: str, *conditions: ColumnElement[bool]) -> Select[int, str]:
    """Id and address of users who chose to get a kind by mail."""
    return (
        select(User.id, User.email)
        .join(NotificationPreference, NotificationPreference.user_id == User.id)
        .where(
            NotificationPreference.kind == kind,
            NotificationPreference.channel == "email",
            NotificationPreference.wanted.is_(True),
            *conditions,
        )
        .order_by(User.id)
    )


def oldest(limit: int) -> Select[int, datetime]:
    """Id and time of the oldest notifications; ids are given in the order of time."""
    found = select(Notification.id, Notification.created_at)
    return found.order_by(Notification.id).limit(limit)


def old_messages(limit: int) -> Select[int, datetime]:
    """Id and time of the oldest messages that nobody has any more."""
    kept = select(Notification.id).where(Notification.message_id == NotificationMessage.id)
    return (
        select(NotificationMessage.id, NotificationMessage.created_at)
        .where(NotificationMessage.status != SENDING, ~kept.exists())
        .order_by(NotificationMessage.id)
        .limit(limit)
    )
