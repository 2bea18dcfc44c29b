"""Local days as stretches of time: most have 24 hours, some 23 or 25, or end at half past."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from shop.jobs.slots import Daily

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Day:
    """A local date: from its first instant to that of the next one."""

    day: date
    starts_at: datetime
    ends_at: datetime

    @property
    def whole_hours(self) -> tuple[datetime, datetime]:
        """The first hour of UTC that lies in it, and the end of the last one."""
        first = hour_of(self.starts_at + HOUR - timedelta(microseconds=1))
        return first, max(first, hour_of(self.ends_at))


def day_of(moment: datetime, zone: ZoneInfo) -> Day:
    """The local day that an instant is in."""
    return day_on(moment.astimezone(zone).date(), zone)


def day_on(day: date, zone: ZoneInfo) -> Day:
    """The stretch of a local date."""
    midnight = Daily(0, 0, zone)
    return Day(day, midnight.on(day), midnight.on(day + timedelta(days=1)))


def hour_of(moment: datetime) -> datetime:
    """The beginning of the hour of UTC that an instant is in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
