"""Who guesses passwords is stopped, whatever the trick, and locks nobody out for good."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from config import Config
from shop.users import passwords
from shop.users.models import User
from shop.users.passwords import Room
from tests import factories
from tests.conftest import create_shop
from tests.limits.test_throttle import end_windows
from tests.users.checks import (
    FORGOT,
    LOGIN,
    OTHER_PASSWORD,
    PASSWORD,
    events,
    is_in,
    refresh,
    sign_in,
    tokens_of,
    try_to_sign_in,
)
from tests.users.test_accounts import limit, unlimited
from tests.web.checks import assert_problem


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody whose password is guessed at."""
    return factories.create_user(app, email="anna@example.com")


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every password that was looked at, right or wrong."""
    found: list[str] = []
    verify = passwords._verify

    def note(password_hash: str | None, password: str) -> bool:
        found.append(password)
        return verify(password_hash, password)

    monkeypatch.setattr(passwords, "_verify", note)
    return found


def guess(client: FlaskClient, user: User, number: int, **options: Any) -> Any:
    """Try one wrong password."""
    return try_to_sign_in(client, user.email, f"guess number {number}", **options)


def made_up_sender(number: int) -> dict[str, str]:
    """Headers with which a client claims to be somebody else each time."""
    address = f"203.0.{number // 250}.{number % 250}"
    return {
        "X-Forwarded-For": address,
        "X-Real-IP": address,
        "Forwarded": f"for={address}",
        "True-Client-IP": address,
        "CF-Connecting-IP": address,
        "X-Forwarded-Host": f"shop{number}.example",
        "User-Agent": f"Browser/{number}",
    }


def test_of_two_hundred_guesses_ten_are_looked_at_whoever_they_claim_to_come_from(
    client: FlaskClient, anna: User, evaluated: list[str]
) -> None:
    """AU-15."""
    answers = [guess(client, anna, n, headers=made_up_sender(n)) for n in range(200)]

    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 190
    assert evaluated == [f"guess number {number}" for number in range(10)]
    for answer in answers[10:]:
        assert_problem(answer, "rate-limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 900


def test_guesses_from_many_real_addresses_count_together(
    client: FlaskClient, anna: User, evaluated: list[str]
) -> None:
    """AU-15."""
    for number in range(50):
        source = {"REMOTE_ADDR": f"203.0.113.{number}"}
        guess(client, anna, number, environ_overrides=source)

    assert len(evaluated) == 10


SPELLINGS = ("anna@example.com", "ANNA@example.com", " anna@example.com", "ａｎｎａ@example.com")


def test_every_spelling_of_an_address_counts_as_the_same_account(
    client: FlaskClient, anna: User, evaluated: list[str]
) -> None:
    """AU-15."""
    for number in range(40):
        try_to_sign_in(client, SPELLINGS[number % len(SPELLINGS)], f"guess number {number}")

    assert len(evaluated) == 10


def test_one_password_is_not_tried_on_five_hundred_accounts(
    app: Flask, client: FlaskClient, evaluated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-15."""
    limit(app, monkeypatch, sign_in_address="20 per 15 minutes")
    known = [factories.create_user(app).email for _ in range(5)]
    emails = known + [f"somebody{number}@example.com" for number in range(495)]
    random.Random(15).shuffle(emails)

    statuses = [
        try_to_sign_in(
            client, email, OTHER_PASSWORD, headers=made_up_sender(number)
        ).status_code
        for number, email in enumerate(emails)
    ]  # fmt: skip

    assert statuses == [401] * 20 + [429] * 480
    assert len(evaluated) == 20


def test_the_right_password_is_refused_too_while_there_were_too_many_wrong_ones(
    client: FlaskClient, anna: User, evaluated: list[str]
) -> None:
    """AU-15: otherwise the guesses would simply go on."""
    for number in range(10):
        guess(client, anna, number)

    answer = try_to_sign_in(client, anna.email, factories.PASSWORD)

    assert_problem(answer, "rate-limited")
    assert factories.PASSWORD not in evaluated


def test_sign_ins_that_succeed_are_not_counted(client: FlaskClient, anna: User) -> None:
    """AU-15."""
    for number in range(9):
        guess(client, anna, number)

    for _ in range(15):
        sign_in(client, anna)

    assert guess(client, anna, 9).status_code == 401
    assert guess(client, anna, 10).status_code == 429


def test_the_present_password_is_guessed_at_no_more_often_than_at_the_sign_in(
    client: FlaskClient, anna: User, evaluated: list[str]
) -> None:
    """AU-15: who stole an access token is not to find out the password with it."""
    headers = sign_in(client, anna).headers
    evaluated.clear()
    statuses = []

    for number in range(20):
        change = {"current_password": f"guess number {number}", "password": OTHER_PASSWORD}
        statuses.append(client.post(PASSWORD, json=change, headers=headers).status_code)

    assert statuses == [401] * 10 + [429] * 10
    assert len(evaluated) == 10
    assert guess(client, anna, 20).status_code == 429


def burst(app: Flask, user: User, size: int = 100) -> Counter[int]:
    """How many guesses, all at the same moment, got which status."""

    def one(number: int) -> int:
        status: int = guess(app.test_client(), user, number).status_code
        return status

    with ThreadPoolExecutor(size) as pool:
        return Counter(pool.map(one, range(size)))


def make_room(monkeypatch: pytest.MonkeyPatch, at_once: int, waiting: int) -> None:
    """Let so many passwords be hashed at once, and so many requests wait for it."""
    monkeypatch.setattr(passwords._Here, "room", Room(at_once, waiting))


def test_of_a_hundred_guesses_at_once_exactly_ten_are_looked_at(
    app: Flask, anna: User, evaluated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-15."""
    make_room(monkeypatch, at_once=1, waiting=1_000)

    assert burst(app, anna) == {401: 10, 429: 90}

    assert len(evaluated) == 10


def test_no_more_guesses_slip_through_than_passwords_are_hashed_at_once(
    app: Flask, anna: User, evaluated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-15: as docs/accounts.md has it."""
    make_room(monkeypatch, at_once=4, waiting=1_000)

    assert burst(app, anna) == {401: 10, 429: 90}

    assert 10 <= len(evaluated) <= 13


def test_what_nobody_had_time_to_look_at_is_not_counted(
    app: Flask, client: FlaskClient, anna: User, evaluated: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """AU-15: a busy shop locks nobody out."""
    make_room(monkeypatch, at_once=1, waiting=1)

    statuses = burst(app, anna, 30)

    assert set(statuses) <= {401, 429, 503}
    assert statuses[401] == len(evaluated) <= 10
    make_room(monkeypatch, at_once=1, waiting=100)
    for number in range(10 - statuses[401]):
        assert guess(client, anna, number).status_code == 401
    assert guess(client, anna, 99).status_code == 429


def test_the_victim_stays_signed_in_and_signs_in_again_when_the_window_ends(
    client: FlaskClient, engine: Engine, anna: User
) -> None:
    """AU-15."""
    known = sign_in(client, anna)
    for number in range(30):
        guess(client, anna, number)

    assert is_in(client, known)
    assert is_in(client, known := refresh(client, known.refresh))
    refused = try_to_sign_in(client, anna.email, factories.PASSWORD)
    assert_problem(refused, "rate-limited")
    end_windows(engine)

    assert is_in(client, tokens_of(try_to_sign_in(client, anna.email, factories.PASSWORD)))
    assert is_in(client, known)


def test_guesses_while_locked_out_do_not_prolong_it(
    app: Flask, client: FlaskClient, anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-15: a window ends when it says, whatever the attacker does meanwhile."""
    limit(app, monkeypatch, sign_in_account="1 per 3 seconds")
    assert guess(client, anna, 0).status_code == 401
    deadline = time.monotonic() + 3.5
    statuses = []

    while time.monotonic() < deadline:
        statuses.append(guess(client, anna, 1).status_code)
        time.sleep(0.1)

    assert statuses.count(401) >= 1


def test_a_lock_out_leaves_one_security_event_for_each_window(
    client: FlaskClient, engine: Engine, anna: User, session: Session
) -> None:
    """AU-15."""
    for number in range(9):
        guess(client, anna, number)
    assert events(session) == []

    for number in range(9, 25):
        guess(client, anna, number)
    assert events(session, anna.id) == ["sign_in_throttled"]
    end_windows(engine)
    sign_in(client, anna)
    assert events(session, anna.id) == ["sign_in_throttled"]
    for number in range(25):
        guess(client, anna, number)

    assert events(session, anna.id) == ["sign_in_throttled"] * 2


def test_a_lock_out_in_a_burst_leaves_one_security_event(
    app: Flask, anna: User, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-15."""
    make_room(monkeypatch, at_once=4, waiting=1_000)

    burst(app, anna, 50)

    assert events(session, anna.id) == ["sign_in_throttled"]


def test_guesses_for_nobody_leave_no_security_event(client: FlaskClient, session: Session) -> None:
    for number in range(15):
        try_to_sign_in(client, "nobody@example.com", f"guess number {number}")

    assert events(session) == []


@pytest.mark.parametrize("proxies", [1, 2])
def test_behind_proxies_only_what_they_say_counts(
    app: Flask, tmp_path: Path, evaluated: list[str], proxies: int
) -> None:
    """AU-15: each proxy appends whom it heard from; what stands before that is made up."""
    config: Config = app.extensions["shop"].config
    rates = {"limit_sign_in_address": "5 per 15 minutes"}
    url = config.database_url
    behind = create_shop(tmp_path, database_url=url, trusted_proxies=proxies, **rates)
    client = behind.test_client()

    for number in range(20):
        told = [f"203.0.113.{number}", "198.51.100.7", *["192.0.2.1"] * (proxies - 1)]
        body = {"email": f"anna{number}@example.com", "password": OTHER_PASSWORD}
        client.post(LOGIN, json=body, headers={"X-Forwarded-For": ", ".join(told)})
    assert len(evaluated) == 5
    told[-proxies] = "198.51.100.8"
    client.post(LOGIN, json=body, headers={"X-Forwarded-For": ", ".join(told)})

    assert len(evaluated) == 6
    behind.extensions["shop"].engine.dispose()
    behind.extensions["shop"].reader.dispose()


def auc(first: list[float], second: list[float]) -> float:
    """How often one of the second takes longer than one of the first: 0.5 tells nothing."""
    ranked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, 1) if which)
    return (ranks - len(second) * (len(second) + 1) / 2) / (len(first) * len(second))


def timed(ask: Callable[[], Any]) -> float:
    """How many seconds it takes."""
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun


ASKED: dict[str, Callable[[FlaskClient, str], Any]] = {
    "sign in": lambda client, email: try_to_sign_in(client, email, OTHER_PASSWORD),
    "forgot": lambda client, email: client.post(FORGOT, json={"email": email}),
}


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("door", ASKED)
def test_how_long_an_answer_takes_does_not_tell_who_has_an_account(
    app: Flask, client: FlaskClient, anna: User, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """AU-14: 1,000 interleaved pairs."""
    unlimited(app, monkeypatch)
    chance, times = random.Random(14), {"known": list[float](), "unknown": list[float]()}
    emails = {"known": anna.email, "unknown": "berta@example.com"}

    for number in range(-20, 1_000):
        for who in chance.sample(sorted(emails), 2):
            taken = timed(lambda who=who: ASKED[door](client, emails[who]))  # type: ignore[misc]
            if number >= 0:
                times[who].append(taken)

    known, unknown = (statistics.median(times[who]) for who in ("known", "unknown"))
    assert abs(known - unknown) < max(0.003, 0.05 * known)
    assert 0.45 <= auc(times["known"], times["unknown"]) <= 0.55
