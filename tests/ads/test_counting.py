"""What counts: each event once, and of a visitor one click in a window."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop import clock
from shop.ads import counting
from shop.ads.models import AdEvent, LateEvents
from tests import factories
from tests.ads.checks import ADS, BROWSER, TARGET, Headers, clicks, create_ad, impressions
from tests.conftest import create_shop
from tests.web.checks import assert_problem


@pytest.fixture
def ad(client: FlaskClient, staff: Headers) -> str:
    """The address of an ad."""
    return f"{ADS}/{create_ad(client, staff)}"


def token_of(client: FlaskClient) -> str:
    """A token of the only ad."""
    found: str = client.get(f"{ADS}?tokens=true").get_json()["items"][0]["token"]
    return found


def events(count: int, **more: Any) -> dict[str, Any]:
    """A batch of events of as many visitors."""
    return {"events": [{"id": f"e-{n}", "visitor": f"v-{n}", **more} for n in range(count)]}


def test_a_hundred_clicks_of_a_visitor_in_a_window_count_once(
    client: FlaskClient, ad: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IN-24: the windows lie on a grid of half hours, so another one begins at half past."""
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    monkeypatch.setattr(clock, "now", lambda: hour + timedelta(minutes=29))
    for _ in range(50):
        assert client.post(f"{ad}/clicks", headers=BROWSER).status_code == 204
        assert client.get(f"{ad}/click", headers=BROWSER).status_code == 302
    assert clicks(session) == {"valid": 1, "repeat": 99}

    client.get(f"{ad}/click", headers={"User-Agent": "another browser"})
    assert clicks(session)["valid"] == 2
    monkeypatch.setattr(clock, "now", lambda: hour + timedelta(minutes=31))
    client.get(f"{ad}/click", headers=BROWSER)
    assert clicks(session) == {"valid": 3, "repeat": 99}


def test_a_batch_that_is_sent_again_counts_once(
    client: FlaskClient, ad: str, session: Session
) -> None:
    """IN-24: by the ids of its events, whatever else it says."""
    for _ in range(3):
        assert client.post(f"{ad}/clicks", json=events(20)).status_code == 204
        assert client.post(f"{ad}/impressions", json=events(30)).status_code == 204
    later = {"events": [{"id": "e-7", "visitor": "somebody-else"}, {"id": "e-20"}, {"id": "e-20"}]}
    assert client.post(f"{ad}/clicks", json=later).status_code == 204

    assert clicks(session) == {"valid": 21}
    assert impressions(session) == {"valid": 30}


def test_one_event_with_an_id_counts_once_too(
    client: FlaskClient, ad: str, session: Session
) -> None:
    for name in ("a", "a", "b"):
        client.post(f"{ad}/clicks", json={"id": name})
        client.post(f"{ad}/impressions", json={"id": name})

    assert clicks(session) == {"valid": 1, "repeat": 1}
    assert impressions(session) == {"valid": 2}


def test_repetitions_within_a_batch_are_kept_apart(
    client: FlaskClient, ad: str, session: Session
) -> None:
    """IN-24."""
    batch = {"events": [{"id": f"{n}", "visitor": f"v-{n % 4}"} for n in range(20)]}
    for _ in range(2):
        client.post(f"{ad}/clicks", json=batch)

    assert clicks(session) == {"valid": 4, "repeat": 16}


def test_the_same_names_on_another_ad_are_other_events(
    client: FlaskClient, staff: Headers, ad: str, session: Session
) -> None:
    other = f"{ADS}/{create_ad(client, staff)}"
    for where in (ad, other):
        client.post(f"{where}/clicks", json=events(3))

    assert clicks(session) == {"valid": 6}


def test_head_counts_nothing(client: FlaskClient, ad: str, session: Session) -> None:
    """IN-24."""
    answer = client.head(f"{ad}/click", headers=BROWSER)

    assert (answer.status_code, answer.headers["Location"]) == (302, TARGET)
    assert clicks(session) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"), ("X-Moz", "prefetch"),
     ("X-Purpose", "preview")],
)  # fmt: skip
def test_browsers_that_look_ahead_are_kept_apart(
    client: FlaskClient, ad: str, session: Session, *, name: str, value: str
) -> None:
    """IN-24."""
    headers = BROWSER | {name: value}
    assert client.get(f"{ad}/click", headers=headers).headers["Location"] == TARGET
    client.post(f"{ad}/impressions", headers=headers)

    assert clicks(session) == impressions(session) == {"prefetch": 1}
    client.get(f"{ad}/click", headers=BROWSER)
    assert clicks(session) == {"prefetch": 1, "valid": 1}, "it took nobody's place"


@pytest.mark.parametrize(
    "agent",
    ["Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
     "Mozilla/5.0 (compatible; bingbot/2.0)", "facebookexternalhit/1.1", "Slackbot 1.0",
     "Mozilla/5.0 (X11) HeadlessChrome/120.0", "Baiduspider", "GPTBot/1.0"],
)  # fmt: skip
def test_known_bots_are_kept_apart(
    client: FlaskClient, ad: str, session: Session, agent: str
) -> None:
    """IN-24."""
    client.get(f"{ad}/click", headers={"User-Agent": agent})
    client.post(f"{ad}/impressions", headers={"User-Agent": agent})

    assert clicks(session) == impressions(session) == {"bot": 1}


@pytest.mark.parametrize("agent", [BROWSER["User-Agent"], "python-requests/2.32", "curl/8.5", ""])
def test_browsers_and_programs_of_shop_fronts_are_no_bots(
    client: FlaskClient, ad: str, session: Session, agent: str
) -> None:
    client.post(f"{ad}/clicks", headers={"User-Agent": agent})

    assert clicks(session) == {"valid": 1}


def test_staff_counts_for_others_whatever_its_own_program_is(
    client: FlaskClient, staff: Headers, ad: str, session: Session
) -> None:
    headers = staff | {"User-Agent": "our-pagebot/1.0", "Purpose": "prefetch"}

    client.post(f"{ad}/clicks", json=events(5), headers=headers)

    assert clicks(session) == {"valid": 5}


def test_what_happens_to_an_ad_that_is_not_open_is_kept_apart(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    """IN-24: it still leads where it led, since somebody may have an old page before him."""
    now = clock.now()
    closed: tuple[dict[str, Any], ...] = (
        {"status": "paused"}, {"status": "archived"},
        {"starts_at": (now + timedelta(hours=1)).isoformat()},
        {"ends_at": (now - timedelta(minutes=1)).isoformat()},
    )  # fmt: skip
    for changes in closed:
        where = f"{ADS}/{create_ad(client, staff, **changes)}"
        assert client.get(f"{where}/click", headers=BROWSER).headers["Location"] == TARGET
        assert client.post(f"{where}/impressions").status_code == 204
    assert clicks(session) == impressions(session) == {"closed": 4}

    before = (now - timedelta(minutes=2)).isoformat()
    client.post(f"{where}/clicks", json={"at": before})
    assert clicks(session) == {"closed": 4, "valid": 1}, "it was open then"


def test_a_draft_and_an_ad_that_is_not_there_count_nothing(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    draft = create_ad(client, staff, status="draft")
    for where in (f"{ADS}/{draft}", f"{ADS}/999999999", f"{ADS}/0"):
        assert_problem(client.get(f"{where}/click"), "not-found")
        for kind in ("clicks", "impressions"):
            assert_problem(client.post(f"{where}/{kind}", json=events(2)), "not-found")

    assert clicks(session) == impressions(session) == {}


def test_a_token_is_good_once_for_its_ad_and_its_time(
    app: Flask, client: FlaskClient, staff: Headers, ad: str, *, session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """IN-24: what is forged, used, over or of another ad is kept apart, and still gets there."""
    token = token_of(client)
    other = client.post(ADS, json={"name": "x", "target_url": TARGET, "status": "paused"},
                        headers=staff)  # fmt: skip
    foreign = app.extensions["ads"].token(other.get_json()["id"], clock.now())
    forged = ("AAAA" + token[4:], token[:-1] + ("A" if token[-1] != "A" else "B"), "x", "é", "",
              token + "AAAA", foreign)  # fmt: skip
    for wrong in forged:
        answer = client.get(f"{ad}/click", query_string={"token": wrong}, headers=BROWSER)
        assert answer.headers["Location"] == TARGET
    assert clicks(session) == {"invalid": len(forged)}

    used = {"token": token}
    client.get(f"{ad}/click", query_string=used, headers=BROWSER)
    client.get(f"{ad}/click", query_string=used, headers=BROWSER)
    client.get(f"{ad}/click", query_string=used, headers={"User-Agent": "another browser"})
    assert clicks(session) == {"invalid": len(forged) + 2, "valid": 1}
    client.get(f"{ad}/click", query_string={"token": token_of(client)}, headers=BROWSER)
    assert clicks(session) == {"invalid": len(forged) + 2, "valid": 1, "repeat": 1}

    old = token_of(client)
    later = clock.now() + timedelta(seconds=86_402)
    monkeypatch.setattr(clock, "now", lambda: later)
    client.get(f"{ad}/click", query_string={"token": old}, headers=BROWSER)
    assert clicks(session) == {"invalid": len(forged) + 3, "valid": 1, "repeat": 1}


def test_tokens_in_a_batch_are_used_once_each(
    client: FlaskClient, ad: str, session: Session
) -> None:
    """IN-24."""
    tokens = [token_of(client) for _ in range(3)]
    batch = {
        "events": [
            {"id": f"{n}", "visitor": f"v-{n}", "token": tokens[n % 3]} for n in range(9)
        ] + [{"id": "no token", "visitor": "v-9"}]
    }  # fmt: skip
    batch["events"][-1]["id"] = "none"
    for _ in range(2):
        assert client.post(f"{ad}/clicks", json=batch).status_code == 204

    assert clicks(session) == {"valid": 4, "invalid": 6}


def test_a_shop_may_ask_for_tokens_and_count_every_click(tmp_path: Path) -> None:
    """IN-24."""
    app = create_shop(tmp_path, ad_tokens="required", ad_repeat_seconds=0)
    client, staff = app.test_client(), factories.sign_in(app, "staff")
    where = f"{ADS}/{create_ad(client, staff)}"
    client.get(f"{where}/click")
    for _ in range(3):
        client.get(f"{where}/click", query_string={"token": token_of(client)})
    client.post(f"{where}/impressions")

    with Session(app.extensions["shop"].engine) as session:
        assert clicks(session) == {"invalid": 1, "valid": 3}
        assert impressions(session) == {"valid": 1}


def test_events_are_told_within_a_day_by_a_clock_that_is_right(
    client: FlaskClient, ad: str, session: Session
) -> None:
    now = clock.now()
    fine = [now - timedelta(hours=23, minutes=59), now, now + timedelta(minutes=4)]
    wrong = [now - timedelta(hours=24, minutes=1), now + timedelta(minutes=6)]
    for moment in fine:
        answer = client.post(
            f"{ad}/clicks", json={"at": moment.isoformat(), "visitor": str(id(moment))}
        )
        assert answer.status_code == 204, answer.text
    for moment in wrong:
        answer = client.post(f"{ad}/clicks", json={"at": moment.isoformat()})
        assert_problem(answer, "validation", "/at")
    batch = [{"id": f"{n}", "at": moment.isoformat()} for n, moment in enumerate((*fine, *wrong))]
    answer = client.post(f"{ad}/impressions", json={"events": batch})
    assert_problem(answer, "validation", "/events/3/at", "/events/4/at")

    stored = session.scalars(select(AdEvent.occurred_at).order_by(AdEvent.id)).all()
    assert stored == fine
    hours = session.scalars(select(LateEvents.hour)).all()
    assert fine[0].replace(minute=0, second=0, microsecond=0) in hours


def test_what_is_no_event_is_refused(client: FlaskClient, ad: str, session: Session) -> None:
    wrong: tuple[tuple[Any, str], ...] = (
        ({"events": []}, "/events"), (events(501), "/events"), ({"events": [{}]}, "/events/0/id"),
        ({"events": [{"id": "a"}], "id": "b"}, "/events"), ({"id": ""}, "/id"),
        ({"events": [{"id": "a"}, {"id": 7}]}, "/events/1/id"), ({"id": "a b"}, "/id"),
        ({"visitor": "x" * 65}, "/visitor"), ({"ip": "192.0.2.1"}, "/ip"),
        ({"events": None}, "/events"), ({"at": 5}, "/at"),
    )  # fmt: skip
    for body, pointer in wrong:
        assert_problem(client.post(f"{ad}/clicks", json=body), "validation", pointer)
    assert_problem(client.post(f"{ad}/clicks", json=[]), "validation", "")
    assert_problem(client.post(f"{ad}/clicks", data="{"), "unsupported-media-type")
    broken = client.post(f"{ad}/clicks", data="{", content_type="application/json")
    assert_problem(broken, "malformed")
    assert_problem(client.post(f"{ad}/impressions", json={"token": "x"}), "validation", "/token")

    assert clicks(session) == impressions(session) == {}


def test_a_batch_is_one_statement(
    client: FlaskClient, ad: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    insert = counting._insert

    def noted(connection: Any, ad_id: Any, kind: Any, rows: Any) -> int:
        written.append(len(rows))
        return insert(connection, ad_id, kind, rows)

    monkeypatch.setattr(counting, "_insert", noted)

    client.post(f"{ad}/clicks", json=events(500))

    assert written == [500]
    assert clicks(session) == {"valid": 500}


def test_nobody_is_named_in_what_is_kept(client: FlaskClient, ad: str, session: Session) -> None:
    client.post(f"{ad}/clicks", json={"id": "secret-event", "visitor": "anna@example.com"})
    client.get(f"{ad}/click", headers=BROWSER)

    rows = session.connection().exec_driver_sql("SELECT * FROM ad_events").all()
    text = repr(rows)
    for known in ("anna", "secret-event", "127.0.0.1", "Firefox"):
        assert known not in text
    assert len(rows) == 2


def test_a_network_counts_so_much_in_a_minute(tmp_path: Path) -> None:
    """IN-24: events count and not requests; who only follows a link gets there all the same."""
    app = create_shop(tmp_path, limit_ad_events="250 per 1 minute")
    client, staff = app.test_client(), factories.sign_in(app, "staff")
    where = f"{ADS}/{create_ad(client, staff)}"
    for n in range(2):
        batch = {"events": [{"id": f"{n}-{k}"} for k in range(100)]}
        assert client.post(f"{where}/impressions", json=batch).status_code == 204

    answer = client.post(f"{where}/impressions", json=events(100))

    assert assert_problem(answer, "rate-limited")["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert client.get(f"{where}/click", headers=BROWSER).headers["Location"] == TARGET
    assert client.post(f"{where}/impressions", json=events(500), headers=staff).status_code == 204
    with Session(app.extensions["shop"].engine) as session:
        assert impressions(session) == {"valid": 700}
        assert clicks(session) == {}
