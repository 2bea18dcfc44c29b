"""Do events, sums by the hour and sums by the day agree?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from sqlalchemy import Select, func, literal, or_, select, union_all
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import Date

from shop.ads.days import Day, hour_of
from shop.ads.models import COUNTED, AdDay, AdEvent, AdHour, DailyStats, HourlyStats, LateEvents
from shop.ads.sums import counted, parts_of
from shop.checks import Check, Question, Result, found, how_many
from shop.db import UTCDateTime

_NAMES = tuple(COUNTED)


class utc_hour(FunctionElement[Any]):  # noqa: N801 (used like SQLAlchemy's functions)
    """The hour of UTC that an instant is in."""

    type = UTCDateTime()
    inherit_cache = True
    name = "utc_hour"


@compiles(utc_hour, "sqlite")
def _sqlite_hour(element: Any, compiler: Any, **kw: Any) -> str:
    return f"substr({compiler.process(element.clauses, **kw)}, 1, 13) || ':00:00.000000'"


@compiles(utc_hour, "mysql")
@compiles(utc_hour, "mariadb")
def _mysql_hour(element: Any, compiler: Any, **kw: Any) -> str:
    # Doubled, since the driver reads the statement as a format.
    text = f"DATE_FORMAT({compiler.process(element.clauses, **kw)}, '%%Y-%%m-%%d %%H:00:00')"
    return f"CAST({text} AS DATETIME(6))"


def hours(session: Session) -> Result:
    """The sums of an hour are those of its events: where it is over, nothing came late, and the
    events are still there.
    """
    hour = utc_hour(AdEvent.occurred_at).label("bucket")
    events = select(hour, AdEvent.ad_id, *counted()).group_by(hour, AdEvent.ad_id)
    marked = select(LateEvents.hour)
    settled = select(AdHour.hour).where(
        AdHour.closed.is_(True), AdHour.pruned.is_(False), AdHour.hour.not_in(marked)
    )
    compared = _differences(events, _taken_away(HourlyStats, HourlyStats.hour))
    wrong = compared.where(compared.selected_columns.bucket.in_(settled))
    unknown = select(HourlyStats.hour.label("bucket"), HourlyStats.ad_id).where(
        HourlyStats.hour.not_in(select(AdHour.hour))
    )
    return found(session, how_many(HourlyStats), wrong, unknown)


def days(session: Session) -> Result:
    """The sums of a day are those of its hours, and of the events before and after those."""
    unknown = select(DailyStats.day.label("bucket"), DailyStats.ad_id).where(
        DailyStats.day.not_in(select(AdDay.day))
    )
    wrong = [_differences_of(day) for day in _settled_days(session)]
    return found(session, how_many(DailyStats), *wrong, unknown)


def _settled_days(session: Session) -> Iterator[Day]:
    """Days that are over, and whose events outside of whole hours are all there and counted."""
    marked = AdHour.hour.in_(select(LateEvents.hour))
    moving = set(session.scalars(select(AdHour.hour).where(AdHour.pruned.is_(True) | marked)))
    for row in session.scalars(select(AdDay).where(AdDay.closed.is_(True))):
        day = Day(row.day, row.starts_at, row.ends_at)
        edges = {hour_of(end) for end in (day.starts_at, day.ends_at) if hour_of(end) != end}
        if not edges & moving:
            yield day


def _differences_of(day: Day) -> Question:
    bucket = literal(day.day, Date()).label("bucket")
    parts = union_all(*parts_of(day)).subquery()
    made_of = select(bucket, parts)
    kept = _taken_away(DailyStats, DailyStats.day).where(DailyStats.day == day.day)
    return _differences(made_of, kept)


def _taken_away(model: Any, bucket: Any) -> Select[Any]:
    """The sums that are there, less than nothing each."""
    return select(
        bucket.label("bucket"), model.ad_id, *((-getattr(model, n)).label(n) for n in _NAMES)
    )


def _differences(made_of: Select[Any], kept: Select[Any]) -> Select[Any]:
    """What is more (or less) in what sums are made of than in the sums."""
    both = union_all(made_of, kept).subquery()
    more = [func.sum(both.c[name]) for name in _NAMES]
    totals = (
        select(
            both.c.bucket, both.c.ad_id, *(it.label(n) for n, it in zip(_NAMES, more, strict=True))
        )
        .group_by(both.c.bucket, both.c.ad_id)
        .having(or_(*(it != 0 for it in more)))
        .subquery()
    )
    return cast("Select[Any]", select(totals))


CHECKS = (Check("ad-hours", hours), Check("ad-days", days))
