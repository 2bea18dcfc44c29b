"""Sums by the hour and the day are those of the events, however and how often they are made."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from config import Config
from shop import clock
from shop.ads import checks, jobs, rolling
from shop.ads.models import AdEvent, Kind, LateEvents, State
from shop.db import db
from tests.ads.checks import at, daily, every, happened, hourly
from tests.running import ROOT

UTC = ZoneInfo("UTC")
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
Sums = tuple[dict[Any, dict[str, int]], dict[Any, dict[str, int]]]


def roll(app: Flask, slot: datetime, zone: ZoneInfo = UTC) -> None:
    """What both jobs do at a slot."""
    with app.app_context():
        jobs.hourly(db.session(), slot)
        jobs.daily(zone, db.session(), slot)


def sums(session: Session) -> Sums:
    """By the hour, by the day."""
    return hourly(session), daily(session)


def assert_sound(session: Session) -> None:
    """`flask shop verify` would find nothing."""
    session.rollback()
    for check in checks.CHECKS:
        assert check.examine(session).findings == [], check.name


def fill(app: Flask, begins: datetime, ends: datetime, seed: int = 7) -> list[datetime]:
    """Some events of two ads, of each state, all over a stretch of time."""
    dice = random.Random(seed)
    moments = sorted(
        begins + dice.random() * (ends - begins) for _ in range(int((ends - begins) / HOUR) * 4)
    )
    for n, moment in enumerate(moments):
        kind = dice.choice((Kind.IMPRESSION, Kind.CLICK))
        state = dice.choice((State.VALID, State.VALID, State.BOT, State.CLOSED))
        happened(app, n % 2 + 1, kind, moment, state=state)
    return moments


def test_an_hour_is_summed_up_by_ad_and_kind(app: Flask, session: Session) -> None:
    inside = [at("2025-05-05T09:00"), at("2025-05-05T09:59") + timedelta(seconds=59.999999)]
    happened(app, 1, Kind.IMPRESSION, *inside, at("2025-05-05T10:00"), at("2025-05-05T08:59"))
    happened(app, 1, Kind.CLICK, *inside)
    for state in (State.REPEAT, State.BOT, State.PREFETCH, State.CLOSED, State.INVALID):
        happened(app, 2, Kind.CLICK, inside[0], state=state)
    happened(app, 2, Kind.IMPRESSION, inside[1], state=State.BOT)

    roll(app, at("2025-05-05T10:00"))

    assert hourly(session) == {
        (at("2025-05-05T08:00"), 1): {"impressions": 1},
        (at("2025-05-05T09:00"), 1): {"impressions": 2, "clicks": 2},
        (at("2025-05-05T09:00"), 2): {
            "clicks_repeat": 1, "clicks_bot": 1, "clicks_prefetch": 1, "clicks_closed": 1,
            "clicks_invalid": 1, "impressions_bot": 1,
        },
    }  # fmt: skip
    assert daily(session)[date(2025, 5, 5), 1] == {"impressions": 3, "clicks": 2}
    assert_sound(session)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.full)])
def test_sums_are_the_same_however_often_and_in_whatever_order_they_are_made(
    app: Flask, session: Session, seed: int
) -> None:
    begins, ends = at("2025-05-05T00:00"), at("2025-05-07T00:00")
    moments = fill(app, begins, ends, seed)
    slots = [begins + n * HOUR for n in range(1, 49)]
    for slot in slots:
        roll(app, slot)
    expected = sums(session)
    assert len(expected[0]) > 80
    assert sum(sum(counts.values()) for counts in expected[0].values()) == len(moments)
    assert sum(sum(counts.values()) for counts in expected[1].values()) == len(moments)

    dice = random.Random(seed)
    for slot in dice.choices(slots, k=20):
        roll(app, slot)
    assert sums(session) == expected, "again, out of order"

    session.execute(text("DELETE FROM ad_stats_hourly"))
    session.execute(text("DELETE FROM ad_stats_daily"))
    session.execute(text("DELETE FROM ad_hours"))
    session.execute(text("DELETE FROM ad_days"))
    session.commit()
    roll(app, slots[-1])
    assert sums(session) == expected, "all at once, after a long pause"
    assert_sound(session)


def test_two_runs_at_once_make_the_same_sums(app: Flask, session: Session) -> None:
    begins, ends = at("2025-05-05T00:00"), at("2025-05-06T00:00")
    fill(app, begins, ends)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda slot: roll(app, slot), [ends, ends - HOUR, ends, ends - 5 * HOUR] * 2))

    made = sums(session)
    roll(app, ends)
    assert sums(session) == made
    assert sum(sum(counts.values()) for counts in made[1].values()) == 96
    assert_sound(session)


def test_late_events_are_in_the_sums_of_when_they_happened(app: Flask, session: Session) -> None:
    fill(app, at("2025-05-05T00:00"), at("2025-05-06T12:00"))
    roll(app, at("2025-05-06T12:00"))
    before = sums(session)

    late = at("2025-05-05T13:30"), at("2025-05-05T23:59"), at("2025-05-06T03:00")
    happened(app, 3, Kind.CLICK, *late, told_at=at("2025-05-06T13:10"))
    session.rollback()
    assert session.scalar(select(func.count()).select_from(LateEvents)) == 3
    assert_sound(session)
    with app.app_context():
        jobs.hourly(db.session(), at("2025-05-06T14:00"))

    after = sums(session)
    news = {key: counts for key, counts in after[0].items() if key not in before[0]}
    assert news == {(moment.replace(minute=0), 3): {"clicks": 1} for moment in late}
    assert after[1][date(2025, 5, 5), 3] == {"clicks": 2}
    assert after[1][date(2025, 5, 6), 3] == {"clicks": 1}
    session.rollback()
    assert session.scalar(select(func.count()).select_from(LateEvents)) == 0
    assert_sound(session)


def test_who_counts_when_the_hour_ends_is_waited_for(app: Flask, session: Session) -> None:
    """His transaction may end after the hour was summed up."""
    happened(app, 1, Kind.CLICK, at("2025-05-05T09:58"))
    assert session.scalar(select(func.count()).select_from(LateEvents)) == 0
    session.rollback()
    happened(app, 1, Kind.CLICK, at("2025-05-05T09:59") + timedelta(seconds=30))

    assert session.scalars(select(LateEvents.hour)).all() == [at("2025-05-05T09:00")]


ZONES = {
    # A day of 23 hours, one of 25; half an hour off, with half an hour of summer time; three kinds
    # of odd offsets.
    "berlin-spring": ("Europe/Berlin", date(2025, 3, 30), 23.0),
    "berlin-autumn": ("Europe/Berlin", date(2025, 10, 26), 25.0),
    "lord-howe-autumn": ("Australia/Lord_Howe", date(2025, 4, 6), 24.5),
    "lord-howe-spring": ("Australia/Lord_Howe", date(2025, 10, 5), 23.5),
    "kolkata": ("Asia/Kolkata", date(2025, 6, 1), 24.0),
    "kathmandu": ("Asia/Kathmandu", date(2025, 6, 1), 24.0),
    "cairo-no-midnight": ("Africa/Cairo", date(2025, 4, 25), 23.0),
    "new-york": ("America/New_York", date(2025, 11, 2), 25.0),
}


@pytest.mark.parametrize("case", ZONES)
def test_a_day_is_the_local_one_however_long_it_is(app: Flask, session: Session, case: str) -> None:
    name, day, length = ZONES[case]
    zone = ZoneInfo(name)
    noon = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=12)
    moments = every(QUARTER, noon - timedelta(hours=48), noon + timedelta(hours=48))
    happened(app, 1, Kind.IMPRESSION, *moments, told_at=moments[0])
    end = moments[-1] + QUARTER

    roll(app, end, zone)

    expected = Counter(moment.astimezone(zone).date() for moment in moments)
    made = {key[0]: counts["impressions"] for key, counts in daily(session).items()}
    assert made == expected
    assert made[day] == length * 4
    assert_sound(session)
    late = datetime.combine(day, datetime.min.time(), zone).astimezone(UTC) + timedelta(hours=2)
    happened(app, 1, Kind.IMPRESSION, late, told_at=end)
    roll(app, end + HOUR, zone)
    assert daily(session)[day, 1]["impressions"] == length * 4 + 1
    assert_sound(session)


@pytest.mark.parametrize("passes", [1, 4, 7])
def test_a_run_that_is_killed_is_made_up_for_by_the_next_one(
    app: Flask, session: Session, engine: Engine, passes: int
) -> None:
    end = clock.now().replace(minute=0, second=0, microsecond=0)
    fill(app, end - timedelta(hours=8), end)
    happened(app, 3, Kind.CLICK, end - timedelta(hours=5), told_at=clock.now())
    roll(app, end)
    expected = sums(session)
    for table in ("ad_stats_hourly", "ad_stats_daily", "ad_hours", "ad_days"):
        session.execute(text(f"DELETE FROM {table}"))
    session.commit()
    config: Config = app.extensions["shop"].config
    environment = {
        "SHOP_ENV": "testing", "SHOP_VAR": str(config.var), "SHOP_DATABASE_URL": config.database,
        "SHOP_SINKS": "none", "SHOP_CRASH_AT": f"before-commit:{passes + 1}",
    }  # fmt: skip
    died = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "jobs", "run", "ads-hourly"],
        cwd=ROOT, env=environment, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-500:]
    assert sums(session) != expected

    roll(app, end)

    assert sums(session) == expected
    assert_sound(session)


def test_old_events_are_removed_and_their_sums_stay(app: Flask, session: Session) -> None:
    """Not before they are in the sums of their hour and of their day."""
    kolkata = ZoneInfo("Asia/Kolkata")
    fill(app, at("2025-05-05T00:00"), at("2025-05-07T00:00"))
    roll(app, at("2025-05-06T23:00"), kolkata)
    expected = sums(session)

    with app.app_context():
        rolling.remove_events(at("2025-05-06T12:40"), kolkata)

    session.rollback()
    left = session.scalars(select(AdEvent.occurred_at)).all()
    assert min(left) >= at("2025-05-06T12:00")
    assert len(left) < 60
    assert sums(session) == expected
    assert_sound(session)
    with app.app_context():
        for slot in (at("2025-05-05T12:00"), at("2025-05-06T00:00"), at("2025-05-06T23:00")):
            rolling.roll_up_hours(slot)
            rolling.roll_up_days(slot, kolkata)
    assert sums(session) == expected, "what has no events any more is not summed up again"


def test_events_that_nobody_summed_up_are_before_they_go(app: Flask, session: Session) -> None:
    moments = fill(app, at("2025-05-05T00:00"), at("2025-05-06T00:00"))

    with app.app_context():
        removed = jobs.remove(30, UTC, db.session(), at("2025-07-01T00:00"))

    assert removed == len(moments)
    hours, days = sums(session)
    assert sum(sum(counts.values()) for counts in hours.values()) == len(moments)
    assert sum(sum(counts.values()) for counts in days.values()) == len(moments)
    assert session.scalar(select(func.count()).select_from(AdEvent)) == 0


def test_a_shop_that_slept_for_days_misses_no_slot(app: Flask) -> None:
    """Every hour and every day has its run."""
    planned = {job.name: job for job in app.extensions["shop"].jobs}

    for name in ("ads-hourly", "ads-daily"):
        assert planned[name].catch_up == "all"
        assert planned[name].most >= (30 if name == "ads-daily" else 30 * 24)
        assert planned[name].in_pieces
        assert planned[name].grace >= timedelta(days=30)
    assert planned["ads-daily"].trigger.latest(at("2025-05-05T12:00")) == at("2025-05-05T00:10")
    assert planned["ads-hourly"].trigger.latest(at("2025-05-05T12:59")) == at("2025-05-05T12:00")
