"""Accounts."""

from __future__ import annotations

import unicodedata
from typing import ClassVar

from sqlalchemy import Boolean, CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from shop import clock
from shop.audit.capture import Audited, mask_email
from shop.db import TABLE_OPTIONS, Base, Id, Instant

ROLES = ("customer", "staff", "admin")


class User(Audited, Base):
    """An account. `email` is stored normalised and compared exactly."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('customer', 'staff', 'admin')", name="role"),
        TABLE_OPTIONS,
    )
    audit_noun = "user"
    audit_secret = frozenset({"password_hash"})
    audit_masked: ClassVar = {"email": mask_email}

    id: Mapped[Id]
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(10))
    disabled: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)


def normalise_email(address: str) -> str:
    """One spelling for each mailbox: NFKC, trimmed, without case (the shop ignores case)."""
    return unicodedata.normalize("NFKC", address).strip().casefold()
