"""Questions to the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, func, select

from shop.audit.models import AuditEntry, AuditHead, AuditSink


def backlog(sinks: Sequence[str]) -> Select[int]:
    """How many entries the slowest of these sinks has not acknowledged; pending ones count."""
    pending = select(func.count()).where(AuditEntry.position.is_(None)).scalar_subquery()
    head = select(func.coalesce(func.max(AuditHead.position), 0)).scalar_subquery()
    slowest = (
        select(func.coalesce(func.min(AuditSink.position), 0))
        .where(AuditSink.name.in_(sinks))
        .scalar_subquery()
    )
    return select(pending + (head - slowest if sinks else 0))


def cursors() -> Select[str, int]:
    """Name and cursor of each sink that was ever reached."""
    return select(AuditSink.name, AuditSink.position).order_by(AuditSink.name)


def head() -> Select[int]:
    """The last position given."""
    return select(AuditHead.position).where(AuditHead.id == 1)


def pending(most: int) -> Select[int]:
    """How many committed entries wait for their position; it counts to `most` and no further."""
    some = select(AuditEntry.id).where(AuditEntry.position.is_(None)).limit(most).subquery()
    return select(func.count()).select_from(some)


def time_after(position: int) -> Select[datetime]:
    """When the first entry after a position was written."""
    later = select(AuditEntry.created_at).where(AuditEntry.position > position)
    return later.order_by(AuditEntry.position).limit(1)


def time_of_first_pending() -> Select[datetime]:
    """When the first entry was written that waits for its position."""
    waiting = select(AuditEntry.created_at).where(AuditEntry.position.is_(None))
    return waiting.order_by(AuditEntry.id).limit(1)


def changes_between(start: datetime, end: datetime) -> Select[str, str, int]:
    """How many changes each table had in [start, end), by action."""
    return (
        select(AuditEntry.table_name, AuditEntry.action, func.count())
        .where(AuditEntry.created_at >= start, AuditEntry.created_at < end)
        .group_by(AuditEntry.table_name, AuditEntry.action)
        .order_by(AuditEntry.table_name, AuditEntry.action)
    )


def stamped() -> Select[int, int, int]:
    """Head, highest position and number of positions: three equal numbers in a sound log."""
    head = select(AuditHead.position).where(AuditHead.id == 1).scalar_subquery()
    return select(
        head,
        func.coalesce(func.max(AuditEntry.position), 0),
        func.count(AuditEntry.position),
    )
