"""What the scheduler does with the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from shop import logs
from shop.audit import pruning, queries

log = logs.get(__name__)

#: Seals whose entries a run removes at most; the next one goes on.
_MOST_SEALS = 5_000


def reconcile(session: Session, _slot: datetime) -> dict[str, Any]:
    """Check that positions are dense: head, highest position and their number must agree."""
    head, highest, count = session.execute(queries.stamped()).one()
    sound = head == highest == count
    report = {"head": head, "highest": highest, "count": count, "sound": sound}
    (log.info if sound else log.error)("reconcile", **report)
    return report


def prune(days: int, sinks: Sequence[str], _session: Session, slot: datetime) -> int:
    """Remove entries that all `sinks` have and that are older than so many days; 0 keeps them.

    In pieces: a seal's entries, a thousand at most, are one transaction. Answers how many.
    """
    removed = 0
    for _ in range(_MOST_SEALS if days else 0):
        count = pruning.prune_a_seal(slot - timedelta(days=days), sinks)
        if count is None:
            break
        removed += count
    if removed:
        log.info("audit.pruned", entries=removed)
    return removed


def forget_sent(days: int, session: Session, moment: datetime) -> int:
    """Remove parked events that were sent, and replays, older than so many days; 0 keeps them."""
    return pruning.forget_sent(session, moment - timedelta(days=days)) if days else 0
