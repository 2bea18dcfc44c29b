"""What the scheduler does with ads. In pieces: an hour of a busy shop is a long transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from shop import logs
from shop.ads import rolling

log = logs.get(__name__)


def hourly(_session: Session, slot: datetime) -> int:
    """Sum up the hour before the slot, and what else is due; how many hours."""
    return len(rolling.roll_up_hours(slot))


def daily(zone: ZoneInfo, _session: Session, slot: datetime) -> int:
    """Sum up the local day before the slot, and what else is due; how many days."""
    return len(rolling.roll_up_days(slot, zone))


def remove(days: int, zone: ZoneInfo, _session: Session, slot: datetime) -> int:
    """Remove events that are older than so many days, when they are summed up; how many."""
    removed = rolling.remove_events(slot - timedelta(days=days), zone)
    if removed:
        log.info("ads.removed", events=removed)
    return removed
