"""The audit log, the head of its positions, and the cursor of each sink."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shop.db import TABLE_OPTIONS, Base, Id, Instant, LongText


class AuditEntry(Base):
    """One committed change of one row, written in the transaction that made the change.

    `sequence` counts 1, 2, 3 ... for each (table_name, row_id): it is the row's version.
    `position` is None until the sequencer stamps it after the commit; positions are dense over
    the whole log. `data` is the event's `data` member, exactly as it will be published.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        UniqueConstraint("table_name", "row_id", "sequence"),
        # InnoDB appends the primary key to each index, so this one also serves
        # "position IS NULL ORDER BY id" without sorting.
        Index("uq_audit_log_position", "position", unique=True),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    position: Mapped[int | None] = mapped_column(BigInteger)
    event_id: Mapped[str] = mapped_column(String(26), unique=True)
    table_name: Mapped[str] = mapped_column(String(64))
    row_id: Mapped[int] = mapped_column(BigInteger)
    sequence: Mapped[int] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(String(10))
    type: Mapped[str] = mapped_column(String(100))
    data: Mapped[str] = mapped_column(LongText)
    actor: Mapped[str | None] = mapped_column(String(100))
    request_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[Instant]


class AuditHead(Base):
    """One row: the last position given. Stamping is serialised by its lock."""

    __tablename__ = "audit_head"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[Id]
    position: Mapped[int] = mapped_column(BigInteger)


class AuditSink(Base):
    """The cursor of a sink: whatever is at or before `position` has been acknowledged to it."""

    __tablename__ = "audit_sinks"
    __table_args__ = TABLE_OPTIONS

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[Instant]
