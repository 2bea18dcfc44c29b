"""What came of an ad: its sums for each hour or day of a stretch of time, those without any too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from shop.ads import queries
from shop.ads.days import HOUR, Day, day_of, day_on, hour_of
from shop.ads.models import COUNTED
from shop.ads.rules import LATEST
from shop.db import read
from shop.errors import Fault, Invalid

MOST_HOURS = 31 * 24 + 1
MOST_DAYS = 400
_YEARS = range(2000, 2200)
_INSTANT = timedelta(microseconds=1)
_DAY = timedelta(days=1)


class WrongRange(Invalid):
    """There is no such stretch of time, or it is too long to tell of at once."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """An hour or a day, what was counted in it, and whether that may still change."""

    begins: datetime
    ends: datetime
    day: date | None
    counts: Mapping[str, int]
    provisional: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """Buckets without gaps, their total, and how far sums are made."""

    buckets: list[Bucket]
    total: Mapping[str, int]
    computed_through: datetime | None


def hourly(
    ad_id: int,
    begins: datetime | date | None,
    ends: datetime | date | None,
    now: datetime,
    zone: ZoneInfo,
) -> Stats:
    """By the hour of UTC, of the hours that the range touches; else of the last 24.

    Raises:
        WrongRange: it is empty, too long or of another century.
    """  # fmt: skip
    last = hour_of((_instant("to", ends, zone) or now + _INSTANT) - _INSTANT)
    first = hour_of(_instant("from", begins, zone) or last - 23 * HOUR)
    count = _length((last - first) // HOUR + 1, MOST_HOURS, "31 days")
    within = {"begins": first, "ends": first + count * HOUR}
    sums = {row.hour: row._mapping for row in read(queries.HOURLY, id=ad_id, **within)}
    closed = {row.hour for row in read(queries.CLOSED_HOURS, **within)}
    late = {row.hour for row in read(queries.LATE_HOURS, **within)}
    buckets = []
    for hour in (first + n * HOUR for n in range(count)):
        settled = hour in closed and hour not in late and hour + HOUR + LATEST < now
        buckets.append(Bucket(hour, hour + HOUR, None, _counts(sums.get(hour)), not settled))
    newest = read(queries.NEWEST_CLOSED_HOUR)[0][0]
    return _stats(buckets, None if newest is None else newest + HOUR)


def daily(
    ad_id: int,
    begins: datetime | date | None,
    ends: datetime | date | None,
    now: datetime,
    zone: ZoneInfo,
) -> Stats:
    """By the local day, of the days that the range touches; else of the last 30.

    Raises:
        WrongRange: it is empty, too long or of another century.
    """  # fmt: skip
    last = _date("to", ends, zone, before=True) or now.astimezone(zone).date()
    first = _date("from", begins, zone) or last - 29 * _DAY
    count = _length((last - first) // _DAY + 1, MOST_DAYS, f"{MOST_DAYS} days")
    days = list(_days(first, count, zone))
    rows = read(queries.DAILY, id=ad_id, first=first, last=last)
    sums = {row.day: row._mapping for row in rows}
    within = {"begins": days[0].starts_at, "ends": days[-1].ends_at}
    known = {row.day: row for row in read(queries.DAYS_BETWEEN, **within)}
    late = [row.hour for row in read(queries.LATE_HOURS, **within)]
    buckets = []
    for day in days:
        row = known.get(day.day)
        if row is not None:
            # As long as it was when it was summed up: the zone may be another one by now.
            day = Day(day.day, row.starts_at, row.ends_at)  # noqa: PLW2901
        settled = (
            row is not None and row.closed and day.ends_at + LATEST < now
            and not any(day.starts_at < hour + HOUR and hour < day.ends_at for hour in late)
        )  # fmt: skip
        buckets.append(
            Bucket(day.starts_at, day.ends_at, day.day, _counts(sums.get(day.day)), not settled)
        )
    return _stats(buckets, read(queries.END_OF_DAYS)[0][0])


def _days(first: date, count: int, zone: ZoneInfo) -> Iterator[Day]:
    return (day_on(first + n * _DAY, zone) for n in range(count))


def _stats(buckets: list[Bucket], computed_through: datetime | None) -> Stats:
    total: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    for bucket in buckets:
        for name, count in bucket.counts.items():
            total[name] += count
    return Stats(buckets, total, computed_through)


def _counts(row: Mapping[Any, Any] | None) -> Mapping[str, int]:
    return {name: 0 if row is None else row[name] for name in COUNTED}


def _instant(name: str, given: datetime | date | None, zone: ZoneInfo) -> datetime | None:
    """The instant that is meant: of a date its first one."""
    if given is None:
        return None
    _check_century(name, given)
    if isinstance(given, datetime):
        return given.astimezone(UTC)
    return day_on(given, zone).starts_at


def _date(
    name: str, given: datetime | date | None, zone: ZoneInfo, *, before: bool = False
) -> date | None:
    """The local date that is meant, or the last one before it."""
    if given is None:
        return None
    _check_century(name, given)
    if isinstance(given, datetime):
        return day_of(given - _INSTANT if before else given, zone).day
    return given - _DAY if before else given


def _check_century(name: str, given: date) -> None:
    if given.year not in _YEARS:
        fault = Fault(f"/{name}", f"A year from {_YEARS[0]} to {_YEARS[-1]}.")
        raise WrongRange("There is nothing to tell of that time.", faults=(fault,))


def _length(count: int, most: int, limit: str) -> int:
    """How many there are, if that may be asked for at once."""
    if count < 1:
        fault = Fault("/to", "Must be later than from.")
        raise WrongRange("The range is empty.", faults=(fault,))
    if count > most:
        fault = Fault("/from", f"At most {limit} before to.")
        raise WrongRange(f"At most {limit} at once.", faults=(fault,))
    return count
