"""Mail that is to be sent."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from shop import clock
from shop.db import TABLE_OPTIONS, Base, Id, Instant, LongText


class OutgoingMail(Base):
    """A mail that somebody is owed; the row goes when the mail server has taken it.

    It holds no text and no secret: what it says is composed from `kind` and `data` when it is sent.
    `due_ms` is when it may be tried next, on the database's clock; None when it was given up.
    """

    __tablename__ = "outgoing_mails"
    __table_args__ = (Index(None, "due_ms"), Index(None, "created_at"), TABLE_OPTIONS)

    id: Mapped[Id]
    kind: Mapped[str] = mapped_column(String(40))
    recipient: Mapped[str] = mapped_column(String(254))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    due_ms: Mapped[int | None] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    claim: Mapped[str | None] = mapped_column(String(32))
    last_error: Mapped[str | None] = mapped_column(LongText)
