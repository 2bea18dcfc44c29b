"""Sums by the hour and by the day: set, never added to.

A sum is made anew from what it is made of, in one transaction under a lock of its hour or day. So
it is the same however often, in whatever order and beside whom it is made.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Date,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import Session

from shop import clock
from shop.ads.days import HOUR, Day, hour_of
from shop.ads.models import COUNTED, AdDay, AdEvent, AdHour, DailyStats, HourlyStats
from shop.db import UTCDateTime

_NAMES = tuple(COUNTED)


def counted() -> list[ColumnElement[int]]:
    """For SELECT ... GROUP BY over events: the number of each kind."""
    return [
        func.sum(case((and_(AdEvent.kind == int(kind), AdEvent.state == int(state)), 1), else_=0))
        .label(name)
        for name, (kind, state) in COUNTED.items()
    ]  # fmt: skip


def in_hour(hour: datetime) -> ColumnElement[bool]:
    """Whether an event is of an hour."""
    return and_(AdEvent.occurred_at >= hour, AdEvent.occurred_at < hour + HOUR)


def sum_up_hour(session: Session, hour: datetime) -> bool:
    """Make the sums of an hour of UTC; False if its events are being removed, or are gone."""
    if not _lock_hour(session, hour):
        return False
    sums = (
        select(literal(hour, UTCDateTime()), AdEvent.ad_id, *counted())
        .where(in_hour(hour))
        .group_by(AdEvent.ad_id)
    )
    session.execute(delete(HourlyStats).where(HourlyStats.hour == hour))
    session.execute(insert(HourlyStats).from_select(["hour", "ad_id", *_NAMES], sums))
    return True


def sum_up_day(session: Session, day: Day) -> None:
    """Make the sums of a local day from those of its hours.

    What lies in an hour that the day shares with another one, in zones that are half an hour off,
    is counted from the events; when those are gone, the sums stay as they are.
    """
    if _is_past_counting(session, day):
        return
    _lock_day(session, day)
    parts = union_all(*parts_of(day)).subquery()
    totals = [func.sum(parts.c[name]) for name in _NAMES]
    sums = select(literal(day.day, Date()), parts.c.ad_id, *totals).group_by(parts.c.ad_id)
    session.execute(delete(DailyStats).where(DailyStats.day == day.day))
    session.execute(insert(DailyStats).from_select(["day", "ad_id", *_NAMES], sums))


def parts_of(day: Day) -> list[Select[Any]]:
    """What a day is made of: sums of its whole hours, and events before and after those."""
    first, end = day.whole_hours
    whole = select(HourlyStats.ad_id, *(getattr(HourlyStats, name) for name in _NAMES)).where(
        HourlyStats.hour >= first, HourlyStats.hour < end
    )
    edges = [
        cast(
            "Select[Any]",
            select(AdEvent.ad_id, *counted())
            .where(AdEvent.occurred_at >= begins, AdEvent.occurred_at < ends)
            .group_by(AdEvent.ad_id),
        )
        for begins, ends in ((day.starts_at, first), (end, day.ends_at))
        if begins < ends
    ]
    return [cast("Select[Any]", whole), *edges]


def _is_past_counting(session: Session, day: Day) -> bool:
    """Whether events are gone that only this day's own sums tell of."""
    shared = [hour_of(end) for end in (day.starts_at, day.ends_at) if hour_of(end) != end]
    gone = select(AdHour.hour).where(AdHour.hour.in_(shared), AdHour.pruned.is_(True))
    return bool(shared) and session.execute(gone).first() is not None


def _lock_hour(session: Session, hour: datetime) -> bool:
    """Note that the hour is summed up now, and hold it; whether it may be."""
    moment = clock.now()
    values = {
        "hour": hour, "computed_at": moment, "closed": moment >= hour + HOUR, "pruned": False,
    }  # fmt: skip
    _note(session, AdHour, values, ["computed_at", "closed"])
    pruned = session.execute(select(AdHour.pruned).where(AdHour.hour == hour)).scalar_one()
    return not pruned


def _lock_day(session: Session, day: Day) -> None:
    moment = clock.now()
    values = {
        "day": day.day, "starts_at": day.starts_at, "ends_at": day.ends_at,
        "computed_at": moment, "closed": moment >= day.ends_at,
    }  # fmt: skip
    _note(session, AdDay, values, ["starts_at", "ends_at", "computed_at", "closed"])


def _note(session: Session, model: Any, values: dict[str, Any], changed: list[str]) -> None:
    """Insert a row or change the one that is there; either way it is locked."""
    dialect = session.get_bind().dialect.name
    if dialect == "sqlite":
        (key,) = model.__table__.primary_key.columns.keys()
        lite = sqlite.insert(model).values(values)
        session.execute(
            lite.on_conflict_do_update(
                index_elements=[key], set_={name: lite.excluded[name] for name in changed}
            )
        )
        return
    other = mysql.insert(model).values(values)
    session.execute(other.on_duplicate_key_update({name: other.inserted[name] for name in changed}))
