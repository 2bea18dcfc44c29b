"""What tests of ads have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.ads import counting
from shop.ads.counting import Row
from shop.ads.models import COUNTED, AdEvent, DailyStats, HourlyStats, Kind, State
from shop.db import db, transactional

Headers = dict[str, str]
ADS = "/api/v1/ads"
TARGET = "https://example.com/oak?from=home#tables"
#: A person's browser.
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"}


def create_ad(client: FlaskClient, staff: Headers, **changes: Any) -> int:
    """A new ad's id."""
    body = {"name": "Oak week", "placement": "home", "target_url": TARGET} | changes
    answer = client.post(ADS, json=body, headers=staff)
    assert answer.status_code == 201, answer.text
    found: int = answer.get_json()["id"]
    return found


def states(session: Session, kind: Kind) -> dict[str, int]:
    """How many events there are of each state."""
    session.rollback()
    found = session.scalars(select(AdEvent.state).where(AdEvent.kind == int(kind)))
    return dict(Counter(State(state).name.lower() for state in found))


def clicks(session: Session) -> dict[str, int]:
    """How many clicks there are of each state."""
    return states(session, Kind.CLICK)


def impressions(session: Session) -> dict[str, int]:
    """How many impressions there are of each state."""
    return states(session, Kind.IMPRESSION)


def happened(
    app: Flask, ad_id: int, kind: Kind, *moments: datetime, state: State = State.VALID,
    told_at: datetime | None = None,
) -> None:  # fmt: skip
    """Write events as they would have been written then, or at `told_at`."""

    @transactional
    def write(rows: Sequence[Row], moment: datetime) -> None:
        counting.write_events(db.session(), ad_id, kind, rows, moment)

    with app.app_context():
        if told_at is not None:
            write([Row(state, moment, None, None, None) for moment in moments], told_at)
            return
        for moment in moments:
            write([Row(state, moment, None, None, None)], moment)


def at(text: str) -> datetime:
    """An instant in UTC, such as `2025-03-30T01:30`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def every(step: timedelta, begins: datetime, ends: datetime) -> list[datetime]:
    """Instants from one to another."""
    return [begins + n * step for n in range((ends - begins) // step)]


def hourly(session: Session) -> dict[tuple[datetime, int], dict[str, int]]:
    """Sums by the hour and the ad, those that are not 0."""
    session.rollback()
    rows = session.scalars(select(HourlyStats))
    return {(row.hour, row.ad_id): _counts(row) for row in rows}


def daily(session: Session) -> dict[tuple[date, int], dict[str, int]]:
    """Sums by the day and the ad, those that are not 0."""
    session.rollback()
    return {(row.day, row.ad_id): _counts(row) for row in session.scalars(select(DailyStats))}


def _counts(row: Any) -> dict[str, int]:
    return {name: count for name in COUNTED if (count := getattr(row, name))}
