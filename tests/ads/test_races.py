"""Crowds that click at the same moment: what counts is exact."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop import clock
from shop.ads.models import AdEvent, State
from tests.ads.checks import ADS, BROWSER, Headers, clicks, create_ad, impressions

pytestmark = pytest.mark.timeout(600)
#: Clicks at once: as many, however many visitors there are.
CLICKS = 500


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The crowd comes within one window, however slow the machine is."""
    moment = clock.now().replace(minute=10)
    monkeypatch.setattr(clock, "now", lambda: moment)


@pytest.mark.parametrize("visitors", [1, 50, 500])
@pytest.mark.usefixtures("noon")
def test_five_hundred_clicks_at_once_count_once_for_each_visitor(
    app: Flask, client: FlaskClient, staff: Headers, *, session: Session, visitors: int
) -> None:
    """IN-24."""
    where = f"{ADS}/{create_ad(client, staff)}"

    def click(number: int) -> int:
        visitor = {"visitor": f"v-{number % visitors}"}
        return app.test_client().post(f"{where}/clicks", json=visitor).status_code

    with ThreadPoolExecutor(50) as pool:
        statuses = Counter(pool.map(click, range(CLICKS)))

    assert statuses == {204: CLICKS}
    expected = {"valid": visitors, "repeat": CLICKS - visitors}
    assert clicks(session) == {name: n for name, n in expected.items() if n}


@pytest.mark.usefixtures("noon")
def test_batches_of_the_same_events_at_once_count_once(
    app: Flask, client: FlaskClient, staff: Headers, *, session: Session
) -> None:
    """IN-24: each in another order, with tokens that are shown by several."""
    where = f"{ADS}/{create_ad(client, staff)}"
    tokens = [client.get(f"{ADS}?tokens=true").get_json()["items"][0]["token"] for _ in range(10)]
    events = [
        {"id": f"e-{n}", "visitor": f"v-{n % 20}"} | ({"token": tokens[n % 10]} if n < 30 else {})
        for n in range(60)
    ]

    def send(number: int) -> set[int]:
        turned: list[dict[str, Any]] = events[number:] + events[:number]
        crowd = app.test_client()
        return {
            crowd.post(f"{where}/{kind}", json={"events": turned}).status_code
            for kind in ("clicks",)
        } | {crowd.get(f"{where}/click", headers=BROWSER).status_code}

    with ThreadPoolExecutor(16) as pool:
        statuses = set().union(*pool.map(send, range(32)))

    assert statuses == {204, 302}
    counted = clicks(session)
    assert sum(counted.values()) == 60 + 32, "each event is there once"
    claims = session.scalars(select(AdEvent.claim).where(AdEvent.state == int(State.VALID))).all()
    assert len(claims) == len(set(claims)) == counted["valid"]
    used = [key for key in session.scalars(select(AdEvent.token_key)) if key is not None]
    assert len(used) == len(set(used)) == 10, "each token was taken once"
    assert counted["valid"] <= 21
    assert impressions(session) == {}
