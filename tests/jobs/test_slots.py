"""When jobs are due."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shop.jobs.slots import Daily, Every, due, slot_name, slot_time

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
NOON = datetime(2026, 11, 22, 12, 7, 33, 250_000, tzinfo=UTC)


def names(slots: list[datetime]) -> list[str]:
    return [slot_name(slot) for slot in slots]


def test_the_grid_of_twenty_minutes_does_not_depend_on_the_start() -> None:
    assert slot_name(Every(1200).latest(NOON)) == "2026-11-22T12:00:00Z"
    assert slot_name(Every(1200).latest(NOON + timedelta(minutes=13))) == "2026-11-22T12:20:00Z"


def test_two_in_the_afternoon_is_local() -> None:
    at_two = Daily(14, 0, BERLIN)

    assert slot_name(at_two.latest(NOON)) == "2026-11-21T13:00:00Z"
    assert slot_name(at_two.latest(NOON + timedelta(hours=1))) == "2026-11-22T13:00:00Z"


@pytest.mark.parametrize(
    ("zone", "day", "hour", "minute", "slot"),
    [
        # Spring skips 02:00 to 03:00: the first instant after the gap.
        (BERLIN, date(2026, 3, 29), 2, 30, "2026-03-29T01:00:00Z"),
        # Autumn has 02:30 twice: the first one.
        (BERLIN, date(2026, 10, 25), 2, 30, "2026-10-25T00:30:00Z"),
        # Half an hour is skipped here, and repeated in April.
        (LORD_HOWE, date(2026, 10, 4), 2, 15, "2026-10-03T15:30:00Z"),
        (LORD_HOWE, date(2026, 4, 5), 1, 45, "2026-04-04T14:45:00Z"),
    ],
)
def test_a_time_that_is_skipped_or_repeated_is_one_slot(
    zone: ZoneInfo, day: date, hour: int, minute: int, slot: str
) -> None:
    assert slot_name(Daily(hour, minute, zone).on(day)) == slot


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, ZoneInfo("America/New_York")])
@pytest.mark.parametrize(("hour", "minute"), [(0, 0), (2, 30), (14, 0), (23, 59)])
def test_there_is_one_slot_a_local_date_all_year(zone: ZoneInfo, hour: int, minute: int) -> None:
    trigger = Daily(hour, minute, zone)
    end = datetime(2027, 1, 1, tzinfo=zone)
    start = datetime(2026, 1, 1, tzinfo=zone) - timedelta(microseconds=1)

    slots = due(trigger, start, end - timedelta(microseconds=1))

    dates = [slot.astimezone(zone).date() for slot in slots]
    assert dates == [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]


def test_missed_slots_are_caught_up_all_or_the_latest() -> None:
    since = NOON - timedelta(hours=1)

    every = due(Every(1200), since, NOON)
    latest = due(Every(1200), since, NOON, most=1)

    assert names(every) == [
        "2026-11-22T11:20:00Z", "2026-11-22T11:40:00Z", "2026-11-22T12:00:00Z",
    ]  # fmt: skip
    assert names(latest) == ["2026-11-22T12:00:00Z"]


def test_nothing_is_due_between_two_slots() -> None:
    assert due(Every(1200), NOON, NOON + timedelta(minutes=5)) == []


def test_a_slot_name_is_the_instant_it_names() -> None:
    slot = Every(1200).latest(NOON)

    assert slot_time(slot_name(slot)) == slot


def test_triggers_say_what_they_are() -> None:
    assert str(Every(1200)) == "every 20 min"
    assert str(Every(1)) == "every 1 s"
    assert str(Daily(14, 0, BERLIN)) == "daily at 14:00 Europe/Berlin"
