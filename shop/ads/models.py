"""Ads, what happened to them, and the sums of that by the hour and by the day."""

from __future__ import annotations

import datetime as dt
from datetime import datetime
from enum import IntEnum
from typing import Annotated

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    String,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column

from shop import clock
from shop.audit.capture import Audited
from shop.db import TABLE_OPTIONS, Base, BigId, Id, Instant, UTCDateTime

STATUSES = ("draft", "active", "paused", "archived")
#: What is shown or not, but was seen by the public once.
PUBLISHED = ("active", "paused", "archived")
LONGEST_URL = 2000

#: A digest that finds its row again: twelve bytes, which no chance and no stranger meets twice.
Digest = Annotated[
    bytes | None, mapped_column(LargeBinary(12).with_variant(mysql.BINARY(12), "mysql", "mariadb"))
]
#: How often something was counted.
Count = Annotated[int, mapped_column(BigInteger)]


class Kind(IntEnum):
    """What happened to an ad."""

    IMPRESSION = 1
    CLICK = 2


class State(IntEnum):
    """Whether an event counts, or why it is kept apart."""

    VALID = 0
    REPEAT = 1
    BOT = 2
    PREFETCH = 3
    CLOSED = 4
    INVALID = 5


class Ad(Audited, Base):
    """Something shown at a placement of the shop front that leads to `target_url` and nowhere else.

    It is open from `starts_at` until `ends_at`, while it is `active`.
    """

    __tablename__ = "ads"
    __table_args__ = (
        CheckConstraint("status IN ('draft', 'active', 'paused', 'archived')", name="status"),
        # Serves the public list: active ads of a placement, newest first.
        Index(None, "placement", "status", "id"),
        Index(None, "status", "id"),
        Index(None, "product_id"),
        TABLE_OPTIONS,
    )
    audit_noun = "ad"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(200))
    placement: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(10))
    image_url: Mapped[str | None] = mapped_column(String(LONGEST_URL))
    product_id: Mapped[int | None] = mapped_column(BigId, ForeignKey("products.id"))
    target_url: Mapped[str] = mapped_column(String(LONGEST_URL))
    starts_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    ends_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)


class AdEvent(Base):
    """An impression or a click, as it came; removed when it is old. Nobody is named here.

    `event_key` stands for the id that its sender gave it, `claim` for a visitor in a window of
    time, of whom one click counts, `token_key` for the token that was shown. Each is there once.
    No foreign key: writing must not wait for whoever edits the ad.
    """

    __tablename__ = "ad_events"
    __table_args__ = (
        Index("uq_ad_events_event_key", "event_key", unique=True),
        Index("uq_ad_events_claim", "claim", unique=True),
        Index("uq_ad_events_token_key", "token_key", unique=True),
        # Has all that the sums need.
        Index(None, "occurred_at", "ad_id", "kind", "state"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    ad_id: Mapped[int] = mapped_column(BigId)
    kind: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[int] = mapped_column(SmallInteger)
    occurred_at: Mapped[Instant]
    event_key: Mapped[Digest]
    claim: Mapped[Digest]
    token_key: Mapped[Digest]


class LateEvents(Base):
    """Says that events of an hour came when it may have been summed up already.

    Written in their transaction, so whoever sees the row sees them.
    """

    __tablename__ = "ad_late_events"
    __table_args__ = (Index(None, "hour"), TABLE_OPTIONS)

    id: Mapped[Id]
    hour: Mapped[Instant]


class AdHour(Base):
    """An hour of UTC that was summed up, from the events that were there at `computed_at`.

    `closed` says that it was over by then. `pruned` says that its events are being removed: from
    then on nothing sums it up again.
    """

    __tablename__ = "ad_hours"
    __table_args__ = TABLE_OPTIONS

    hour: Mapped[datetime] = mapped_column(UTCDateTime, primary_key=True)
    computed_at: Mapped[Instant]
    closed: Mapped[bool] = mapped_column(Boolean)
    pruned: Mapped[bool] = mapped_column(Boolean, default=False)


class AdDay(Base):
    """A day of the shop that was summed up, and what it was: 23, 24 or 25 hours, or halves."""

    __tablename__ = "ad_days"
    __table_args__ = (Index(None, "starts_at"), TABLE_OPTIONS)

    day: Mapped[dt.date] = mapped_column(Date, primary_key=True)
    starts_at: Mapped[Instant]
    ends_at: Mapped[Instant]
    computed_at: Mapped[Instant]
    closed: Mapped[bool] = mapped_column(Boolean)


class Counts:
    """How often what happened: what counts, then what is kept apart and why."""

    impressions: Mapped[Count]
    clicks: Mapped[Count]
    impressions_bot: Mapped[Count]
    impressions_prefetch: Mapped[Count]
    impressions_closed: Mapped[Count]
    clicks_repeat: Mapped[Count]
    clicks_bot: Mapped[Count]
    clicks_prefetch: Mapped[Count]
    clicks_closed: Mapped[Count]
    clicks_invalid: Mapped[Count]


class HourlyStats(Counts, Base):
    """What happened to an ad in an hour of UTC. An hour without a row had nothing."""

    __tablename__ = "ad_stats_hourly"
    __table_args__ = (Index(None, "ad_id", "hour"), TABLE_OPTIONS)

    hour: Mapped[datetime] = mapped_column(UTCDateTime, primary_key=True)
    ad_id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)


class DailyStats(Counts, Base):
    """What happened to an ad on a day of the shop."""

    __tablename__ = "ad_stats_daily"
    __table_args__ = (Index(None, "ad_id", "day"), TABLE_OPTIONS)

    day: Mapped[dt.date] = mapped_column(Date, primary_key=True)
    ad_id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)


#: Column of a sum, and the events that are in it.
COUNTED: dict[str, tuple[Kind, State]] = {
    "impressions": (Kind.IMPRESSION, State.VALID),
    "clicks": (Kind.CLICK, State.VALID),
    "impressions_bot": (Kind.IMPRESSION, State.BOT),
    "impressions_prefetch": (Kind.IMPRESSION, State.PREFETCH),
    "impressions_closed": (Kind.IMPRESSION, State.CLOSED),
    "clicks_repeat": (Kind.CLICK, State.REPEAT),
    "clicks_bot": (Kind.CLICK, State.BOT),
    "clicks_prefetch": (Kind.CLICK, State.PREFETCH),
    "clicks_closed": (Kind.CLICK, State.CLOSED),
    "clicks_invalid": (Kind.CLICK, State.INVALID),
}
