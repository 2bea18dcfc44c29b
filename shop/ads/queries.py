"""Questions about ads."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from sqlalchemy import Date, Integer, Select, bindparam, func, or_, select

from shop.ads.days import HOUR
from shop.ads.models import (
    COUNTED,
    Ad,
    AdDay,
    AdEvent,
    AdHour,
    DailyStats,
    HourlyStats,
    LateEvents,
)
from shop.db import UTCDateTime

#: What counting has to know of an ad.
COUNTING = select(Ad.status, Ad.starts_at, Ad.ends_at, Ad.target_url).where(
    Ad.id == bindparam("id")
)
_COLUMNS = Ad.__table__.columns
#: An ad, whatever it is.
ONE = select(*_COLUMNS).where(Ad.id == bindparam("id"))


def listed(
    *, open_at: datetime | None, placement: str | None, status: str | None, before: int, limit: int
) -> Select[Any]:
    """Ads before the id `before`, newest first: those that are open then, or all."""
    found = cast("Select[Any]", select(*_COLUMNS)).where(Ad.id < before)
    if open_at is not None:
        found = found.where(
            Ad.status == "active",
            or_(Ad.starts_at.is_(None), Ad.starts_at <= open_at),
            or_(Ad.ends_at.is_(None), Ad.ends_at > open_at),
        )
    if placement is not None:
        found = found.where(Ad.placement == placement)
    if status is not None:
        found = found.where(Ad.status == status)
    return found.order_by(Ad.id.desc()).limit(limit)


def for_change(ad_id: int) -> Select[Ad]:
    """An ad under a lock, as it is now."""
    return (
        select(Ad).where(Ad.id == ad_id).with_for_update().execution_options(populate_existing=True)
    )


def _at(name: str) -> Any:
    return bindparam(name, type_=UTCDateTime())


_BEGINS, _ENDS, _DAY = _at("begins"), _at("ends"), bindparam("day", type_=Date())
#: Marks of late events.
LATE = (
    select(LateEvents.id, LateEvents.hour)
    .order_by(LateEvents.id)
    .limit(bindparam("limit", type_=Integer()))
)
#: Hours between that have marks.
LATE_HOURS = select(LateEvents.hour).where(LateEvents.hour >= _BEGINS, LateEvents.hour < _ENDS)
#: When the oldest event happened.
FIRST_EVENT = select(func.min(AdEvent.occurred_at))
#: The newest hour that was summed up after it had ended.
NEWEST_CLOSED_HOUR = select(func.max(AdHour.hour)).where(AdHour.closed.is_(True))
#: The end of the newest day that was summed up after it had ended.
END_OF_DAYS = select(func.max(AdDay.ends_at)).where(AdDay.closed.is_(True))
#: Whether an hour, or a day, was.
CLOSED_HOUR = select(AdHour.hour).where(AdHour.hour == _at("hour"), AdHour.closed.is_(True))
CLOSED_DAY = select(AdDay.day).where(AdDay.day == _DAY, AdDay.closed.is_(True))
#: Days that have a part between two instants.
DAYS_BETWEEN = (
    select(AdDay.day, AdDay.starts_at, AdDay.ends_at, AdDay.closed)
    .where(AdDay.starts_at < _ENDS, AdDay.ends_at > _BEGINS)
    .order_by(AdDay.starts_at)
)
#: Hours between that were summed up after they had ended.
CLOSED_HOURS = select(AdHour.hour).where(
    AdHour.hour >= _BEGINS, AdHour.hour < _ENDS, AdHour.closed.is_(True)
)
_ID = bindparam("id", type_=Integer())
_SUMS_OF_HOUR = [getattr(HourlyStats, name) for name in COUNTED]
_SUMS_OF_DAY = [getattr(DailyStats, name) for name in COUNTED]
#: Sums of an ad by the hour; by the day.
HOURLY = select(HourlyStats.hour, *_SUMS_OF_HOUR).where(
    HourlyStats.ad_id == _ID, HourlyStats.hour >= _BEGINS, HourlyStats.hour < _ENDS
)
DAILY = select(DailyStats.day, *_SUMS_OF_DAY).where(
    DailyStats.ad_id == _ID,
    DailyStats.day >= bindparam("first", type_=Date()),
    DailyStats.day <= bindparam("last", type_=Date()),
)


def ids_in_hour(hour: datetime, limit: int) -> Select[int]:
    """Ids of some events of an hour."""
    within = AdEvent.occurred_at >= hour, AdEvent.occurred_at < hour + HOUR
    return select(AdEvent.id).where(*within).limit(limit)
