"""What the scheduler does with the audit log."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from shop import logs
from shop.audit import queries

log = logs.get(__name__)


def digest(session: Session, slot: datetime) -> dict[str, Any]:
    """Log how much changed in the 24 hours before the slot, by table and action."""
    rows = session.execute(queries.changes_between(slot - timedelta(days=1), slot)).all()
    changes = {f"{table}.{action}": count for table, action, count in rows}
    log.info("digest", until=slot.isoformat(), changes=changes, total=sum(changes.values()))
    return changes


def reconcile(session: Session, _slot: datetime) -> dict[str, Any]:
    """Check that positions are dense: head, highest position and their number must agree."""
    head, highest, count = session.execute(queries.stamped()).one()
    sound = head == highest == count
    report = {"head": head, "highest": highest, "count": count, "sound": sound}
    (log.info if sound else log.error)("reconcile", **report)
    return report
