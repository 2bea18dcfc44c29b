"""The audit log, the head of its positions, its seals, and what each sink and reader has of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Index,
    Integer,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from shop.db import TABLE_OPTIONS, Base, Id, Instant, LongText, UTCDateTime

#: Lengths of a reason why something is parked.
LONGEST_REASON = 300


class AuditEntry(Base):
    """One committed change of one row, written in the transaction that made the change.

    `sequence` counts 1, 2, 3 ... for each (table_name, row_id): it is the row's version.
    `position` is None until the sequencer stamps it after the commit; positions are dense over
    the whole log. `data` is the event's `data` member, exactly as it will be published.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        UniqueConstraint("table_name", "row_id", "sequence"),
        # Both engines append the primary key to each index, so that those without a position are
        # found by this one in the order of their ids; see `queries.waiting`.
        Index("uq_audit_log_position", "position", unique=True),
        Index(None, "table_name", "id"),
        Index(None, "actor", "id"),
        Index(None, "created_at"),
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


class AuditReader(Base):
    """The cursor of an internal reader: it has done all that the events up to `position` ask for.

    It began behind the position `began_behind`: what was there before is not its business.
    """

    __tablename__ = "audit_readers"
    __table_args__ = TABLE_OPTIONS

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    began_behind: Mapped[int] = mapped_column(BigInteger)
    began_at: Mapped[Instant]
    updated_at: Mapped[Instant]


class ParkedEvent(Base):
    """An event that a sink refused for good, or took only after it was put back.

    `state` is `parked`; `requeued` when it waits to be sent again; `sent` when the sink took it.
    `announced` says whether the sink took a gap event in its place. The event itself is in the
    log, at `position`.
    """

    __tablename__ = "audit_parked"
    __table_args__ = (
        UniqueConstraint("sink", "position"),
        CheckConstraint("state IN ('parked', 'requeued', 'sent')", name="state"),
        Index(None, "sink", "state", "position"),
        Index(None, "position"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    sink: Mapped[str] = mapped_column(String(32))
    position: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[str] = mapped_column(String(26))
    table_name: Mapped[str] = mapped_column(String(64))
    row_id: Mapped[int] = mapped_column(BigInteger)
    sequence: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(LONGEST_REASON))
    attempts: Mapped[int] = mapped_column(Integer)
    announced: Mapped[bool] = mapped_column(Boolean)
    state: Mapped[str] = mapped_column(String(10))
    parked_at: Mapped[Instant]
    changed_at: Mapped[Instant]


class Replay(Base):
    """An order to send a range of positions to a sink again; the leader carries it out.

    Everything before `next_position` is done. It never moves the sink's cursor.
    """

    __tablename__ = "audit_replays"
    __table_args__ = (Index(None, "sink", "finished_at"), TABLE_OPTIONS)

    id: Mapped[Id]
    sink: Mapped[str] = mapped_column(String(32))
    from_position: Mapped[int] = mapped_column(BigInteger)
    to_position: Mapped[int] = mapped_column(BigInteger)
    next_position: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[Instant]
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Seal(Base):
    """A link of the chain over the log: what stood at the positions `previous` + 1 to `through`.

    `content` is the SHA-256 of these entries, `digest` that of the digest before and this link.
    `marks` has eight hexadecimal digits for each entry, to name the one that was changed. When
    the entries were removed for their age, `pruned_at` says so, and the chain still holds.
    """

    __tablename__ = "audit_seals"
    __table_args__ = (
        UniqueConstraint("previous"),
        UniqueConstraint("through"),
        CheckConstraint("entries = through - previous AND entries > 0", name="entries"),
        Index(None, "pruned_at", "through"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    previous: Mapped[int] = mapped_column(BigInteger)
    through: Mapped[int] = mapped_column(BigInteger)
    entries: Mapped[int] = mapped_column(Integer)
    content: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    marks: Mapped[str] = mapped_column(LongText)
    sealed_at: Mapped[Instant]
    pruned_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
