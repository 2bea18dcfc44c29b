"""Rolling up: which hours and days are to be summed up, and which events may go.

Each hour, each day and each removal is a transaction of its own. What was noted as late is
forgotten only when everything that it concerns was summed up again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import delete, update

from shop.ads import queries, sums
from shop.ads.days import HOUR, Day, day_of, hour_of
from shop.ads.models import AdEvent, AdHour, LateEvents
from shop.db import db, read, transactional

#: Hours before the last one that are summed up again: who counted in them was very slow.
_AGAIN = HOUR
#: Of one run; the next one goes on.
_MOST_HOURS = 2_000
_MOST_MARKS = 100_000
_MOST_BATCHES = 1_000
#: Rows that a statement deletes: on SQLite nobody else writes meanwhile.
_BATCH = 2_000
_INSTANT = timedelta(microseconds=1)


def roll_up_hours(slot: datetime) -> list[datetime]:
    """Sum up the hour before the slot, those that were missed, and those with late events.

    Days that were summed up already are so again. Answers the hours.
    """
    marks = {row.id: row.hour for row in read(queries.LATE, limit=_MOST_MARKS)}
    hours = sorted({*_due_hours(slot), *marks.values()})
    for hour in hours:
        _sum_up_hour(hour)
    for day in _days_with(hours):
        _sum_up_day(day)
    if marks:
        _forget_marks(list(marks))
    return hours


def roll_up_days(slot: datetime, zone: ZoneInfo) -> list[Day]:
    """Sum up the local day before the slot, those that were missed, and what there is of the day
    that has begun. Answers them.
    """
    last = day_of(slot, zone)
    missed = read(queries.END_OF_DAYS)[0][0] or read(queries.FIRST_EVENT)[0][0] or slot
    first = day_of(min(missed, last.starts_at - _INSTANT), zone)
    days = [first]
    while days[-1].day < last.day:
        days.append(day_of(days[-1].ends_at, zone))
    for day in days:
        _sum_up_day(day)
    return days


def remove_events(before: datetime, zone: ZoneInfo) -> int:
    """Remove events of hours that ended before, a few at a time; how many there were.

    Only when they are in the sums of their hour and their day: they are summed up first if need be.
    """
    removed = batches = 0
    while batches < _MOST_BATCHES:
        oldest = read(queries.FIRST_EVENT)[0][0]
        if oldest is None or hour_of(oldest) + HOUR > before:
            break
        hour = hour_of(oldest)
        _see_through(hour, zone)
        while batches < _MOST_BATCHES and (count := _remove_some(hour)):
            removed, batches = removed + count, batches + 1
    return removed


def _due_hours(slot: datetime) -> list[datetime]:
    """Hours that have begun before the slot and were not summed up since they ended; and one."""
    last = hour_of(slot - _INSTANT)
    newest = read(queries.NEWEST_CLOSED_HOUR)[0][0]
    first = read(queries.FIRST_EVENT)[0][0]
    missed = hour_of(first or last) if newest is None else newest + HOUR
    begins = min(missed, last - _AGAIN)
    count = min((last - begins) // HOUR + 1, _MOST_HOURS)
    return [begins + n * HOUR for n in range(count)]


def _days_with(hours: Sequence[datetime]) -> Iterable[Day]:
    """Days that were summed up and have a part in one of these hours."""
    if not hours:
        return []
    rows = read(queries.DAYS_BETWEEN, begins=hours[0], ends=hours[-1] + HOUR)
    days = [Day(row.day, row.starts_at, row.ends_at) for row in rows]
    return [
        day
        for day in days
        if any(day.starts_at < hour + HOUR and hour < day.ends_at for hour in hours)
    ]


def _see_through(hour: datetime, zone: ZoneInfo) -> None:
    """Make sure that an hour and its days are summed up, and close it for good."""
    days = {day_of(hour, zone), day_of(hour + HOUR - _INSTANT, zone)}
    if not all(read(queries.CLOSED_DAY, day=day.day) for day in days) or not _is_closed(hour):
        begins = hour_of(min(day.starts_at for day in days))
        count = -(-(max(day.ends_at for day in days) - begins) // HOUR)
        for other in (begins + n * HOUR for n in range(count)):
            if not _is_closed(other):
                _sum_up_hour(other)
        for day in days:
            _sum_up_day(day)
    _close(hour)


def _is_closed(hour: datetime) -> bool:
    """Whether an hour was summed up after it had ended, and nothing came late since."""
    late = read(queries.LATE_HOURS, begins=hour, ends=hour + HOUR)
    return not late and bool(read(queries.CLOSED_HOUR, hour=hour))


@transactional
def _sum_up_hour(hour: datetime) -> None:
    sums.sum_up_hour(db.session(), hour)


@transactional
def _sum_up_day(day: Day) -> None:
    sums.sum_up_day(db.session(), day)


@transactional
def _forget_marks(ids: Sequence[int]) -> None:
    for first in range(0, len(ids), _BATCH):
        some = LateEvents.id.in_(ids[first : first + _BATCH])
        db.session().connection().execute(delete(LateEvents).where(some))


@transactional
def _close(hour: datetime) -> None:
    closing = update(AdHour).where(AdHour.hour == hour).values(pruned=True)
    db.session().connection().execute(closing)


@transactional
def _remove_some(hour: datetime) -> int:
    session = db.session()
    ids = session.scalars(queries.ids_in_hour(hour, _BATCH)).all()
    if not ids:
        return 0
    return session.connection().execute(delete(AdEvent).where(AdEvent.id.in_(ids))).rowcount
