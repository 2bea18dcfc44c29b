"""What staff is told of an ad."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shop import clock
from shop.ads import jobs
from shop.ads.models import Kind, State
from shop.db import db
from tests import factories
from tests.ads.checks import ADS, Headers, at, create_ad, happened
from tests.conftest import create_shop
from tests.web.checks import assert_problem

UTC = ZoneInfo("UTC")


@pytest.fixture
def ad(app: Flask, client: FlaskClient, staff: Headers) -> int:
    """An ad with a past."""
    ad = create_ad(client, staff)
    happened(app, ad, Kind.IMPRESSION, *(at("2025-05-05T09:10") for _ in range(3)))
    happened(app, ad, Kind.CLICK, at("2025-05-05T09:20"))
    happened(app, ad, Kind.CLICK, at("2025-05-05T09:30"), state=State.REPEAT)
    happened(app, ad, Kind.IMPRESSION, at("2025-05-05T23:30"))
    happened(app, ad + 1, Kind.IMPRESSION, at("2025-05-05T10:30"))
    with app.app_context():
        jobs.hourly(db.session(), at("2025-05-06T00:00"))
        jobs.daily(UTC, db.session(), at("2025-05-06T00:10"))
    return ad


def asked(client: FlaskClient, staff: Headers, ad: int, **query: str) -> dict[str, Any]:
    """The statistics of an ad."""
    answer = client.get(f"{ADS}/{ad}/stats", query_string=query, headers=staff)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def test_hours_are_told_without_gaps(client: FlaskClient, staff: Headers, ad: int) -> None:
    found = asked(
        client, staff, ad, **{"from": "2025-05-05T08:30:00Z", "to": "2025-05-05T11:00:00Z"}
    )

    assert [item["from"] for item in found["items"]] == [
        "2025-05-05T08:00:00Z", "2025-05-05T09:00:00Z", "2025-05-05T10:00:00Z",
    ]  # fmt: skip
    assert [(item["impressions"], item["clicks"], item["ctr"]) for item in found["items"]] == [
        (0, 0, None), (3, 1, 0.333333), (0, 0, None),
    ]  # fmt: skip
    assert found["items"][1]["kept_apart"]["clicks_repeat"] == 1
    assert found["items"][1]["to"] == "2025-05-05T10:00:00Z"
    assert [item["provisional"] for item in found["items"]] == [True, False, False]
    assert (found["total"]["impressions"], found["total"]["clicks"]) == (3, 1)
    assert found["computed_through"] == "2025-05-06T00:00:00Z"
    assert (found["ad_id"], found["granularity"], found["timezone"]) == (ad, "hour", "UTC")


def test_days_are_told_without_gaps(client: FlaskClient, staff: Headers, ad: int) -> None:
    query = {"granularity": "day", "from": "2025-05-04", "to": "2025-05-07"}

    found = asked(client, staff, ad, **query)

    assert [(item["day"], item["impressions"], item["provisional"]) for item in found["items"]] == [
        ("2025-05-04", 0, True), ("2025-05-05", 4, False), ("2025-05-06", 0, False),
    ]  # fmt: skip
    assert found["items"][1]["ctr"] == 0.25
    assert found["total"]["impressions"] == 4
    instants = query | {"from": "2025-05-04T12:00:00+02:00", "to": "2025-05-07T00:00:00Z"}
    assert asked(client, staff, ad, **instants)["items"] == found["items"]


def test_without_a_range_the_last_day_or_month_is_told(
    client: FlaskClient, staff: Headers, ad: int
) -> None:
    hours, days = asked(client, staff, ad), asked(client, staff, ad, granularity="day")

    assert len(hours["items"]) == 24
    assert len(days["items"]) == 30
    today = clock.now().date()
    assert days["items"][-1]["day"] in (str(today), str(today - timedelta(days=1)))
    assert all(item["provisional"] for item in hours["items"])


def test_what_late_events_may_change_is_provisional(
    app: Flask, client: FlaskClient, staff: Headers, ad: int
) -> None:
    end = at("2025-05-06T09:00")
    happened(app, ad, Kind.CLICK, at("2025-05-05T09:59"), told_at=at("2025-05-06T08:00"))
    with app.app_context():
        jobs.daily(UTC, db.session(), end)

    within = {"from": "2025-05-05T09:00:00Z", "to": "2025-05-05T11:00:00Z"}
    hours = asked(client, staff, ad, **within)["items"]
    day = asked(client, staff, ad, granularity="day", **within)["items"][0]
    assert [item["provisional"] for item in hours] == [True, False]
    assert day["provisional"] is True

    with app.app_context():
        jobs.hourly(db.session(), end)
    hours = asked(client, staff, ad, **within)["items"]
    assert [(item["clicks"], item["provisional"]) for item in hours] == [(2, False), (0, False)]
    assert asked(client, staff, ad)["items"][-2]["provisional"] is True, "of yesterday nothing is"


def test_the_days_are_those_of_the_shop(tmp_path: Path) -> None:
    app = create_shop(tmp_path, timezone="Australia/Lord_Howe")
    client, staff = app.test_client(), factories.sign_in(app, "staff")
    ad = create_ad(client, staff)
    happened(app, ad, Kind.IMPRESSION, at("2025-10-04T13:29"), at("2025-10-04T13:30"),
             at("2025-10-05T12:59"), at("2025-10-05T13:00"))  # fmt: skip
    with app.app_context():
        for work in (jobs.hourly, lambda *it: jobs.daily(ZoneInfo("Australia/Lord_Howe"), *it)):
            work(db.session(), at("2025-10-06T14:00"))

    query = {"granularity": "day", "from": "2025-10-04", "to": "2025-10-07"}
    items = asked(client, staff, ad, **query)["items"]
    assert [(item["day"], item["impressions"]) for item in items] == [
        ("2025-10-04", 1), ("2025-10-05", 2), ("2025-10-06", 1),
    ]  # fmt: skip
    assert (items[1]["from"], items[1]["to"]) == ("2025-10-04T13:30:00Z", "2025-10-05T13:00:00Z")


WRONG = (
    ({"from": "2025-05-05", "to": "2025-05-05"}, "/to"),
    ({"from": "2025-05-05", "to": "2025-05-04"}, "/to"),
    ({"from": "2025-05-01", "to": "2025-06-02"}, "/from"), ({"from": "0001-01-01"}, "/from"),
    ({"granularity": "day", "from": "2020-01-01", "to": "2025-01-01"}, "/from"),
    ({"to": "9999-12-31T23:59:59Z"}, "/to"), ({"granularity": "week"}, "/granularity"),
    ({"from": "2025-02-30"}, "/from"), ({"from": "yesterday"}, "/from"), ({"since": "x"}, "/since"),
    ({"from": "2025-05-05T10:00:00"}, "/from"), ({"granularity": "day", "to": "9999-12-31"}, "/to"),
    ({"granularity": "day", "from": "0001-01-01"}, "/from"),
    ({"from": "0001-01-01T00:00:00+14:00"}, "/from"),
)  # fmt: skip


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("query", "pointer"), WRONG)
def test_a_range_that_makes_no_sense_is_refused(
    client: FlaskClient, staff: Headers, query: dict[str, str], pointer: str
) -> None:
    ad = create_ad(client, staff)

    answer = client.get(f"{ADS}/{ad}/stats", query_string=query, headers=staff)

    assert_problem(answer, "validation", pointer)


def test_31_days_of_hours_and_400_days_are_told_at_once(
    client: FlaskClient, staff: Headers, ad: int
) -> None:
    month = asked(client, staff, ad, **{"from": "2025-05-01", "to": "2025-06-01"})
    year = asked(client, staff, ad, granularity="day", **{"from": "2024-05-01", "to": "2025-06-05"})

    assert len(month["items"]) == 31 * 24
    assert len(year["items"]) == 400
    assert month["total"] == year["total"]
