"""Accounts, and what belongs to them."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from shop import clock
from shop.audit.capture import Audited, mask_email, mask_text
from shop.db import TABLE_OPTIONS, Base, BigId, Id, Instant, UTCDateTime

#: Of an address, normalised.
LONGEST_EMAIL = 254
ROLES = ("customer", "staff", "admin")


class User(Audited, Base):
    """An account. `email` is stored normalised and compared exactly."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('customer', 'staff', 'admin')", name="role"),
        Index(None, "role", "id"),
        TABLE_OPTIONS,
    )
    audit_noun = "user"
    audit_secret = frozenset({"password_hash"})
    audit_masked: ClassVar = {"email": mask_email, "name": mask_text}

    id: Mapped[Id]
    email: Mapped[str] = mapped_column(String(LONGEST_EMAIL), unique=True)
    email_verified_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    name: Mapped[str] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(10))
    disabled: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)


class Address(Audited, Base):
    """An entry of an account's address book."""

    __tablename__ = "addresses"
    __table_args__ = (Index(None, "user_id"), TABLE_OPTIONS)
    audit_noun = "address"
    audit_masked: ClassVar = dict.fromkeys(
        ("name", "line1", "line2", "city", "region", "postal_code", "phone"), mask_text
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(BigId, ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(200))
    line1: Mapped[str] = mapped_column(String(200))
    line2: Mapped[str | None] = mapped_column(String(200))
    city: Mapped[str] = mapped_column(String(100))
    region: Mapped[str | None] = mapped_column(String(100))
    postal_code: Mapped[str] = mapped_column(String(20))
    country: Mapped[str] = mapped_column(String(2))
    phone: Mapped[str | None] = mapped_column(String(30))
    default_shipping: Mapped[bool] = mapped_column(Boolean)
    default_billing: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)


class UserSession(Base):
    """One sign-in, with all tokens that came of it. Ended, expired or deleted, none holds."""

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"), TABLE_OPTIONS)

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(BigId, ForeignKey("users.id"))
    user_agent: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(45))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    last_used_at: Mapped[Instant] = mapped_column(default=clock.now)
    expires_at: Mapped[Instant]
    ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class RefreshToken(Base):
    """One link of a session's chain of refresh tokens; only the last is not spent.

    `spent_ms` is when it was, in milliseconds on the database's clock.
    """

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index(None, "session_id"), TABLE_OPTIONS)

    id: Mapped[Id]
    session_id: Mapped[int] = mapped_column(BigId, ForeignKey("sessions.id", ondelete="CASCADE"))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    spent_ms: Mapped[int | None] = mapped_column(BigInteger)


class OneTimeToken(Base):
    """What a mail brings to prove that it was read. A newer one of its purpose replaces it."""

    __tablename__ = "one_time_tokens"
    __table_args__ = (
        UniqueConstraint("user_id", "purpose"),
        Index(None, "expires_at"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(BigId, ForeignKey("users.id"))
    purpose: Mapped[str] = mapped_column(String(20))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    email: Mapped[str] = mapped_column(String(254))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    expires_at: Mapped[Instant]


class ApiKey(Base):
    """A key for a machine. `lookup` finds the row, the secret is kept as its hash only."""

    __tablename__ = "api_keys"
    __table_args__ = (TABLE_OPTIONS,)

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(100))
    lookup: Mapped[str] = mapped_column(String(16), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_by: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class SecurityEvent(Audited, Base):
    """Something that those who watch over the shop want to know; it outlives the account."""

    __tablename__ = "security_events"
    __table_args__ = (Index(None, "user_id"), TABLE_OPTIONS)
    audit_noun = "security_event"

    id: Mapped[Id]
    kind: Mapped[str] = mapped_column(String(40))
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)


def normalise_email(address: str) -> str:
    """One spelling for each mailbox: NFKC, trimmed, without case (the shop ignores case)."""
    return unicodedata.normalize("NFKC", address).strip().lower()
