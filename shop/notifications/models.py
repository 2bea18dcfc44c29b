"""Notifications, what their owners want to be told, and messages of staff."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from shop import clock
from shop.db import TABLE_OPTIONS, Base, BigId, Id, Instant, LongText, UTCDateTime

SENDING, SENT = "sending", "sent"


class Notification(Base):
    """Something that somebody was told; never the same `key` twice.

    Its words are made from `kind` and `data`, or are those of its message. `hidden` is what its
    owner deleted or wants by mail only: it stays, without data, so that it is not told again.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        UniqueConstraint("user_id", "key"),
        CheckConstraint("hidden = 0 OR read_at IS NOT NULL", name="hidden"),
        Index(None, "user_id", "hidden", "id"),
        Index(None, "user_id", "read_at"),
        Index(None, "message_id"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(BigId, ForeignKey("users.id"))
    kind: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(80))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    message_id: Mapped[int | None] = mapped_column(BigId, ForeignKey("notification_messages.id"))
    hidden: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    read_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class NotificationMessage(Base):
    """What staff writes to one user, or to all who had a role when it was written.

    Users up to the id `through` have it, those up to `last` get it.
    """

    __tablename__ = "notification_messages"
    __table_args__ = (
        CheckConstraint("status IN ('sending', 'sent')", name="status"),
        CheckConstraint("(user_id IS NULL) <> (role IS NULL)", name="recipient"),
        Index(None, "status", "id"),
        Index(None, "user_id"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    title: Mapped[str] = mapped_column(String(200))
    text: Mapped[str] = mapped_column(LongText)
    user_id: Mapped[int | None] = mapped_column(BigId, ForeignKey("users.id"))
    role: Mapped[str | None] = mapped_column(String(10))
    actor: Mapped[str | None] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(10), default=SENDING)
    through: Mapped[int] = mapped_column(BigInteger, default=0)
    last: Mapped[int] = mapped_column(BigInteger, default=0)
    recipients: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class NotificationPreference(Base):
    """Whether somebody wants a kind by a channel. Who never chose has no row."""

    __tablename__ = "notification_preferences"
    __table_args__ = (
        UniqueConstraint("user_id", "kind", "channel"),
        CheckConstraint("channel IN ('inbox', 'email')", name="channel"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(BigId, ForeignKey("users.id"))
    kind: Mapped[str] = mapped_column(String(20))
    channel: Mapped[str] = mapped_column(String(10))
    wanted: Mapped[bool] = mapped_column(Boolean)
