"""Two years of clock changes in three zones, with restarts around each: nothing twice or missed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from shop.jobs.plan import Job
from shop.jobs.slots import Daily, Every, slot_time
from shop.jobs.timing import DatabaseClock
from tests.jobs.running import Times, know, runner, runs, settle

#: Zone, the local date on which its clocks change in 2027, and how many hours that date has.
CHANGES = [
    ("Europe/Berlin", date(2027, 3, 28), 23),
    ("Europe/Berlin", date(2027, 10, 31), 25),
    ("America/New_York", date(2027, 3, 14), 23),
    ("America/New_York", date(2027, 11, 7), 25),
    # Half an hour only: of the hours of UTC 23 or 24 begin on that date, or 24 or 25.
    ("Australia/Lord_Howe", date(2027, 10, 3), 23),
    ("Australia/Lord_Howe", date(2027, 4, 4), 25),
]


def note(done: list[tuple[str, datetime]], job: str, _session: Session, slot: datetime) -> None:
    """Work that leaves no trace but this."""
    done.append((job, slot))


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times(datetime(2027, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(DatabaseClock, "now", lambda _self: times.now)
    return times


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process believes to be somewhere else."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]}-{change[1]}")
def test_each_local_date_has_one_daily_run_when_the_clocks_change(
    app: Flask, session: Session, times: Times, foreign: None, change: tuple[str, date, int]
) -> None:
    """SC-07: 02:15 is skipped or repeated; a restart each few hours, the TZ of the process is
    another one; 23, 24 or 25 hourly runs.
    """
    zone, day, hours = change
    local = ZoneInfo(zone)
    done: list[tuple[str, datetime]] = []
    jobs = [
        Job("nightly", Daily(2, 15, local), partial(note, done, "nightly")),
        Job("daily", Daily(14, 0, local), partial(note, done, "daily")),
        Job("hourly", Every(3600), partial(note, done, "hourly"), catch_up="all"),
    ]
    begin = datetime.combine(day - timedelta(days=1), datetime.min.time(), local).astimezone(UTC)
    times.now = begin - timedelta(minutes=1)
    for job in jobs:
        know(session, job.name, times.now)
    end = datetime.combine(day + timedelta(days=2), datetime.min.time(), local).astimezone(UTC)
    pair = [runner(app, *jobs) for _ in range(2)]
    steps = 0
    while times.now < end - timedelta(minutes=1):
        settle(*pair)
        times.pass_by(minutes=45)
        steps += 1
        if steps % 7 == 0:
            pair = [runner(app, *jobs) for _ in range(2)]
    times.now = end - timedelta(seconds=1)
    settle(*pair)

    dates = {name: [slot.astimezone(local).date() for job, slot in done if job == name]
             for name in ("nightly", "daily", "hourly")}  # fmt: skip
    three = [day + timedelta(days=n) for n in (-1, 0, 1)]
    assert dates["nightly"] == three
    assert dates["daily"] == three
    begins = [begin, *(datetime.combine(it, datetime.min.time(), local) for it in three[1:]), end]
    expected = {
        it: _whole_hours(begins[n].astimezone(UTC), begins[n + 1].astimezone(UTC))
        for n, it in enumerate(three)
    }
    assert Counter(dates["hourly"]) == expected
    if "Lord_Howe" not in zone:
        assert expected[day] == hours
    assert {run.status for run in runs(session)} == {"done"}


def _whole_hours(begin: datetime, end: datetime) -> int:
    """How many UTC hours begin in between."""
    first = -(-int(begin.timestamp()) // 3600)
    return -(-int(end.timestamp()) // 3600) - first


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=1)], ids=["hour", "day"])
def test_a_database_whose_clock_jumps_forward_and_back_runs_no_slot_twice_and_hides_none(
    app: Flask, session: Session, times: Times, jump: timedelta
) -> None:
    """SC-07: what the jump passed over is there as skipped, what came early is not repeated."""
    done: list[tuple[str, datetime]] = []
    times.now = datetime(2027, 5, 1, 12, 0, 5, tzinfo=UTC)
    know(session, "tick", times.now - timedelta(minutes=1))
    job = Job("tick", Every(1200), partial(note, done, "tick"))
    pair = [runner(app, job) for _ in range(2)]

    def let_pass(minutes: int) -> None:
        for _ in range(minutes // 20):
            settle(*pair)
            times.pass_by(minutes=20)

    let_pass(60)
    times.now += jump
    let_pass(60)
    times.now -= jump
    let_pass(60)
    pair = [runner(app, job) for _ in range(2)]
    let_pass(int(jump.total_seconds() // 60) + 60)

    slots = [slot for _, slot in done]
    assert len(slots) == len(set(slots))
    found = runs(session)
    planned = [slot_time(run.slot) for run in found]
    assert planned == [planned[0] + n * timedelta(minutes=20) for n in range(len(planned))]
    assert {run.status for run in found} == {"done", "skipped"}
    assert {run.reason for run in found if run.status == "skipped"} == {"too-old"}


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(days=-1)], ids=str)
def test_a_host_whose_clock_is_wrong_runs_jobs_by_the_databases(
    app: Flask, session: Session, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    """SC-07: two hosts, one of which is an hour ahead or a day behind."""
    done: list[tuple[str, datetime]] = []
    job = Job("tick", Every(1), partial(note, done, "tick"), catch_up="all")
    right, wrong = runner(app, job), runner(app, job)
    deadline = datetime.now(UTC) + timedelta(seconds=4)
    while datetime.now(UTC) < deadline:
        settle(right)
        with monkeypatch.context() as patched:
            patched.setattr("shop.clock.now", lambda: datetime.now(UTC) + off)
            settle(wrong)

    slots = [slot for _, slot in done]
    assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))]
    assert len(slots) >= 3
    assert abs(slots[-1] - datetime.now(UTC)) < timedelta(seconds=3)


def test_the_databases_session_is_in_utc_whatever_the_surroundings_say(session: Session) -> None:
    zone: Any = "+00:00"
    if session.get_bind().dialect.name != "sqlite":
        zone = session.execute(text("SELECT @@time_zone")).scalar_one()

    assert zone == "+00:00"
