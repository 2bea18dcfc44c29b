"""When jobs are due. Slots are computed from the clock, so a restart never moves the grid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def slot_name(slot: datetime) -> str:
    """The planned instant as it stands in `job_runs.slot`."""
    return slot.astimezone(UTC).strftime(FORMAT)


def slot_time(name: str) -> datetime:
    """The inverse of `slot_name`."""
    return datetime.strptime(name, FORMAT).replace(tzinfo=UTC)


class Trigger(Protocol):
    """Says which instants are planned."""

    def latest(self, moment: datetime) -> datetime:
        """The last slot at or before `moment`, in UTC."""
        ...

    def following(self, moment: datetime) -> datetime:
        """The first slot after `moment`, in UTC."""
        ...

    @property
    def zone_name(self) -> str:
        """The time zone in which it is meant."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Every `seconds` on a fixed grid that starts at 1970-01-01T00:00:00Z."""

    seconds: int

    def latest(self, moment: datetime) -> datetime:
        epoch = int(moment.timestamp()) // self.seconds * self.seconds
        return datetime.fromtimestamp(epoch, UTC)

    def following(self, moment: datetime) -> datetime:
        return self.latest(moment) + timedelta(seconds=self.seconds)

    @property
    def zone_name(self) -> str:
        return "UTC"

    def __str__(self) -> str:
        minutes, rest = divmod(self.seconds, 60)
        return f"every {self.seconds} s" if rest else f"every {minutes} min"


@dataclass(frozen=True, slots=True)
class Daily:
    """Once a local date, at a local time.

    The repeated hour of autumn counts once (its first passage); a time that spring skips is
    taken at the first instant after the gap.
    """

    hour: int
    minute: int
    zone: ZoneInfo

    def on(self, day: date) -> datetime:
        """The slot of a local date, in UTC."""
        local = datetime.combine(day, time(self.hour, self.minute), self.zone)
        instant = local.astimezone(UTC)
        if instant.astimezone(self.zone).replace(tzinfo=None) == local.replace(tzinfo=None):
            return instant
        # Skipped by the clock change: the offset before the gap (fold=0) lands after it, by as
        # much as the wanted time lies inside the gap; the offset after it (fold=1) before it.
        before, after = instant, local.replace(fold=1).astimezone(UTC)
        low, high = min(before, after), max(before, after)
        while high - low > timedelta(minutes=1):
            middle = low + (high - low) / 2
            passed = middle.astimezone(self.zone).replace(tzinfo=None)
            low, high = (low, middle) if passed > local.replace(tzinfo=None) else (middle, high)
        return high.replace(second=0, microsecond=0)

    def latest(self, moment: datetime) -> datetime:
        day = moment.astimezone(self.zone).date() + timedelta(days=1)
        while (slot := self.on(day)) > moment:
            day -= timedelta(days=1)
        return slot

    def following(self, moment: datetime) -> datetime:
        day = moment.astimezone(self.zone).date() - timedelta(days=1)
        while (slot := self.on(day)) <= moment:
            day += timedelta(days=1)
        return slot

    @property
    def zone_name(self) -> str:
        return self.zone.key

    def __str__(self) -> str:
        return f"daily at {self.hour:02}:{self.minute:02} {self.zone.key}"


def due(
    trigger: Trigger, since: datetime, moment: datetime, *, most: int | None = None
) -> list[datetime]:
    """Slots in (since, moment], oldest first; the newest ones if there are more than `most`."""
    slots: list[datetime] = []
    slot = trigger.latest(moment)
    while slot > since and (most is None or len(slots) < most):
        slots.append(slot)
        slot = trigger.latest(slot - timedelta(microseconds=1))
    return slots[::-1]
