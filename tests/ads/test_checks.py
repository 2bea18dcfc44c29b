"""`flask shop verify` finds what is wrong with the sums of ads, and nothing else."""

from __future__ import annotations

import json
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from shop.ads import jobs
from shop.ads.checks import CHECKS
from shop.ads.models import Kind
from shop.db import db
from tests.ads.checks import at, every, happened

BREAKS = {
    "UPDATE ad_stats_hourly SET clicks = clicks + 1 WHERE ad_id = 1": {"ad-hours", "ad-days"},
    "UPDATE ad_stats_hourly SET impressions_bot = 3 WHERE ad_id = 2": {"ad-hours", "ad-days"},
    "UPDATE ad_stats_daily SET impressions = impressions - 1 WHERE ad_id = 2": {"ad-days"},
    "UPDATE ad_stats_daily SET ad_id = 9 WHERE ad_id = 1": {"ad-days"},
    "DELETE FROM ad_stats_hourly WHERE ad_id = 2": {"ad-hours", "ad-days"},
    "DELETE FROM ad_stats_daily WHERE ad_id = 2": {"ad-days"},
    "DELETE FROM ad_events WHERE ad_id = 1": {"ad-hours"},
    "DELETE FROM ad_hours": {"ad-hours"},
    "DELETE FROM ad_days": {"ad-days"},
    "UPDATE ad_events SET state = 2 WHERE ad_id = 2": {"ad-hours"},
}


@pytest.fixture
def counted(app: Flask, session: Session) -> Session:
    """Two days of two ads, summed up."""
    moments = every(timedelta(hours=5), at("2025-05-05T00:00"), at("2025-05-07T00:00"))
    for ad, kind in ((1, Kind.CLICK), (2, Kind.IMPRESSION)):
        happened(app, ad, kind, *moments)
    with app.app_context():
        jobs.hourly(db.session(), at("2025-05-07T00:00"))
        jobs.daily(ZoneInfo("UTC"), db.session(), at("2025-05-07T00:10"))
    return session


def failing(session: Session) -> set[str]:
    """The names of the checks that find something."""
    session.rollback()
    return {check.name for check in CHECKS if check.examine(session).findings}


@pytest.mark.parametrize("statement", BREAKS)
def test_a_sum_that_was_tampered_with_is_found(counted: Session, statement: str) -> None:
    assert failing(counted) == set()

    assert counted.execute(text(statement)).rowcount > 0  # type: ignore[attr-defined]
    counted.commit()

    assert failing(counted) == BREAKS[statement]


def test_verify_tells_of_ads(app: Flask, counted: Session) -> None:
    runner = app.test_cli_runner()
    counted.execute(text("UPDATE ad_stats_daily SET clicks = 7 WHERE day = '2025-05-05'"))
    counted.commit()

    result = runner.invoke(args=["shop", "verify"])

    assert result.exit_code == 1
    report = json.loads(result.stdout)
    wrong = {check["name"]: check["findings"] for check in report["checks"] if check["findings"]}
    assert set(wrong) == {"ad-days"}
    assert [(it["bucket"], it["ad_id"], it["clicks"]) for it in wrong["ad-days"]] == [
        ("2025-05-05", 1, -2), ("2025-05-05", 2, -7),
    ]  # fmt: skip
