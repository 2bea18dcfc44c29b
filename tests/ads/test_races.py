"""Crowds that click at the same moment: what counts is exact."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop import clock
from shop.ads.models import AdEvent, State
from tests.ads.checks import ADS, BROWSER, Headers, clicks, create_ad, impressions
from tests.orders.crowds import crowd_at

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


@pytest.mark.parametrize("kind", ["mariadb", pytest.param("sqlite", marks=pytest.mark.full)])
def test_two_workers_count_a_crowd_exactly(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """IN-24: clicks without a body and by links, of one visitor and of as many as there are."""
    # A window of a day, so that none ends meanwhile (but at midnight).
    with crowd_at(kind, tmp_path, request, ad_repeat_seconds=86_400) as crowd:
        body = {"name": "Oak week", "target_url": "https://example.com/"}
        where = f"/ads/{crowd.call('POST', '/ads', body).json()['id']}"

        def click(number: int) -> int:
            url = f"{crowd.shop.url}/api/v1{where}"
            if number % 2:
                link = requests.get(f"{url}/click", allow_redirects=False, timeout=60)
                return link.status_code
            visitor = {"visitor": f"v-{number}"} if number % 4 else None
            return requests.post(f"{url}/clicks", json=visitor, timeout=60).status_code

        with ThreadPoolExecutor(50) as pool:
            statuses = Counter(pool.map(click, range(CLICKS)))

        assert statuses == {204: CLICKS // 2, 302: CLICKS // 2}
        counted = dict(crowd.sql("SELECT state, COUNT(*) FROM ad_events GROUP BY state"))
        assert counted == {State.VALID: 1 + CLICKS // 4, State.REPEAT: CLICKS * 3 // 4 - 1}
        crowd.verify()
