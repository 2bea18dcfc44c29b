"""What is tried too often is refused, and each answer says how much is left."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from limits.storage import MemoryStorage
from sqlalchemy import Engine, func, select, update
from werkzeug.test import TestResponse

from config import Config
from shop import create_app
from shop.db import database_ms, db, transactional, writing
from shop.errors import NotFound, RateLimited
from shop.limits import throttle as module
from shop.limits.models import RateCounter
from shop.limits.storage import SqlStorage
from shop.limits.throttle import Throttle, current_throttle
from shop.web import problems, requests
from tests.servers import free_port
from tests.web.checks import assert_problem

ANNA, BERT = "anna@example.com", "bert@example.com"
RULES = {
    "account": "3 per 15 minutes", "address": "5 per 1 hour", "mail": "1 per 1 hour",
    "code": "3 per 15 minutes",
}  # fmt: skip
Do = Callable[[Throttle], Any]


@pytest.fixture
def throttle(storage: SqlStorage) -> Throttle:
    """The rules, counted in the database of the shop under test."""
    return Throttle(storage, RULES)


def door(throttle: Throttle, steps: list[Do]) -> FlaskClient:
    """Somebody before an app whose only address does these steps."""
    app = Flask("door")
    requests.register(app)
    problems.register(app)
    app.config["PROPAGATE_ERRORS"] = False
    module.register(app, throttle)

    @app.post("/")
    def view() -> Response:
        for do in steps:
            do(current_throttle())
        return Response("{}")

    return app.test_client()


def told(answer: TestResponse) -> dict[str, tuple[int, int]]:
    """What `RateLimit` says is left of each rule, and for how many seconds; its form is checked."""
    found = {}
    for item in answer.headers["RateLimit"].split(", "):
        match = re.fullmatch(r'"([a-z-]+)";r=([0-9]+);t=([0-9]+)', item)
        assert match, item
        found[match[1]] = (int(match[2]), int(match[3]))
    return found


def counted(engine: Engine) -> int:
    """How many counters there are."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(RateCounter)).scalar_one()


def end_windows(engine: Engine) -> None:
    """Let every window have ended."""
    with writing(engine) as connection:
        connection.execute(update(RateCounter).values(ends_ms=database_ms()))


def hit(rule: str, who: str) -> Do:
    """Count a try."""
    return lambda throttle: throttle.hit(rule, who)


def not_found(_throttle: Throttle) -> None:
    """Refuse for another reason."""
    raise NotFound("There is no such thing.")


def broken(_throttle: Throttle) -> None:
    """Fail."""
    raise RuntimeError


def test_a_try_too_many_is_refused_as_a_problem_that_says_when_to_come_back(
    throttle: Throttle,
) -> None:
    client = door(throttle, [hit("account", ANNA)])
    assert [client.post("/").status_code for _ in range(3)] == [200] * 3

    answer = client.post("/")

    body = assert_problem(answer, "rate-limited")
    assert answer.status_code == 429
    left, seconds = told(answer)["account"]
    assert left == 0
    assert 890 <= seconds <= 900
    assert answer.headers["Retry-After"] == str(seconds)
    assert f"{seconds} seconds" in body["detail"]
    assert ANNA not in answer.text


def test_each_answer_says_what_is_left(throttle: Throttle) -> None:
    client = door(throttle, [hit("account", ANNA)])

    answers = [client.post("/") for _ in range(4)]

    assert [told(answer)["account"][0] for answer in answers] == [2, 1, 0, 0]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"account";q=3;w=900'}


def test_the_header_is_written_as_the_draft_wants_it() -> None:
    answer = door(Throttle(MemoryStorage(), RULES), [hit("account", ANNA)]).post("/")

    assert answer.headers["RateLimit-Policy"] == '"account";q=3;w=900'
    assert answer.headers["RateLimit"] == '"account";r=2;t=900'


def test_a_part_of_a_second_is_waited_for_as_a_whole_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = MemoryStorage()
    monkeypatch.setattr(storage, "get_expiry", lambda _key: time.time() + 811.5)
    client = door(Throttle(storage, RULES), [hit("mail", ANNA)])

    answers = [client.post("/") for _ in range(2)]

    assert [told(answer)["mail"] for answer in answers] == [(0, 812), (0, 812)]
    assert answers[1].headers["Retry-After"] == "812"
    assert answers[1].headers["RateLimit-Policy"] == '"mail";q=1;w=3600'


def test_several_rules_stand_in_the_order_in_which_they_were_asked(throttle: Throttle) -> None:
    answer = door(throttle, [hit("address", "192.0.2.1"), hit("account", ANNA)]).post("/")

    assert answer.headers["RateLimit-Policy"] == '"address";q=5;w=3600, "account";q=3;w=900'
    assert list(told(answer)) == ["address", "account"]
    assert [left for left, _ in told(answer).values()] == [4, 2]


@pytest.mark.parametrize("order", [(ANNA, BERT), (BERT, ANNA)])
def test_of_several_people_under_one_rule_the_one_with_least_left_is_told(
    throttle: Throttle, order: tuple[str, str]
) -> None:
    throttle.hit("account", ANNA)

    answer = door(throttle, [hit("account", who) for who in order]).post("/")

    assert told(answer)["account"][0] == 1


@pytest.mark.parametrize(("step", "status"), [(not_found, 404), (broken, 500)])
def test_refusals_for_other_reasons_tell_what_is_left_too(
    throttle: Throttle, step: Do, status: int
) -> None:
    answer = door(throttle, [hit("account", ANNA), step]).post("/")

    assert answer.status_code == status
    assert told(answer)["account"][0] == 2
    assert "Retry-After" not in answer.headers


def test_an_answer_for_which_nothing_was_counted_tells_nothing(throttle: Throttle) -> None:
    client = door(throttle, [hit("account", ANNA)])
    client.post("/")

    for answer in (client.get("/"), door(throttle, []).post("/")):
        assert not [name for name, _ in answer.headers if name.startswith("RateLimit")]


def test_requests_inside_one_app_context_tell_each_their_own(throttle: Throttle) -> None:
    steps = [hit("account", ANNA)]
    client = door(throttle, steps)
    with client.application.app_context():
        client.post("/")
        steps[:] = [hit("address", "192.0.2.1")]

        assert list(told(client.post("/"))) == ["address"]


def test_a_check_counts_nothing_and_tells_what_is_left(throttle: Throttle, engine: Engine) -> None:
    client = door(throttle, [lambda throttle: throttle.check("account", ANNA)])

    fresh = client.post("/")
    assert told(fresh) == {"account": (3, 0)}
    assert counted(engine) == 0

    throttle.hit("account", ANNA)
    assert [told(client.post("/"))["account"][0] for _ in range(3)] == [2, 2, 2]


def test_a_check_refuses_when_nothing_is_left_and_not_before(
    throttle: Throttle, engine: Engine
) -> None:
    client = door(throttle, [lambda throttle: throttle.check("account", ANNA)])
    for _ in range(2):
        throttle.hit("account", ANNA)
    assert client.post("/").status_code == 200

    throttle.hit("account", ANNA)
    answer = client.post("/")

    assert_problem(answer, "rate-limited")
    left, seconds = told(answer)["account"]
    assert (left, answer.headers["Retry-After"]) == (0, str(seconds))
    assert 890 <= seconds <= 900
    end_windows(engine)
    assert client.post("/").status_code == 200


def test_what_is_checked_and_then_counted_is_told_once_as_it_is_at_the_end(
    throttle: Throttle,
) -> None:
    check: Do = lambda throttle: throttle.check("account", ANNA)  # noqa: E731

    answer = door(throttle, [check, hit("account", ANNA)]).post("/")

    assert told(answer)["account"][0] == 2


def test_only_the_last_try_of_a_window_that_may_pass_knows_that_it_is(
    throttle: Throttle, engine: Engine
) -> None:
    for _ in range(2):
        assert [throttle.hit("account", ANNA) for _ in range(3)] == [False, False, True]
        with pytest.raises(RateLimited):
            throttle.hit("account", ANNA)
        end_windows(engine)


def test_of_many_tries_at_once_exactly_one_is_the_last_that_passes(storage: SqlStorage) -> None:
    throttle = Throttle(storage, {"account": "10 per 15 minutes"})

    def last(_number: int) -> bool | None:
        try:
            return throttle.hit("account", ANNA)
        except RateLimited:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(last, range(60)))

    assert [found.count(which) for which in (False, True, None)] == [9, 1, 50]


def test_what_is_left_out_silently_is_counted_and_told_nowhere(throttle: Throttle) -> None:
    answers: list[bool] = []
    client = door(throttle, [lambda throttle: answers.append(throttle.allows("mail", ANNA))])

    seen = [client.post("/") for _ in range(3)]

    assert answers == [True, False, False]
    assert {(answer.status_code, "RateLimit" in answer.headers) for answer in seen} == {
        (200, False)
    }


def test_a_new_window_lets_in_again(throttle: Throttle, engine: Engine) -> None:
    client = door(throttle, [hit("account", ANNA)])
    assert [client.post("/").status_code for _ in range(4)] == [200, 200, 200, 429]

    end_windows(engine)

    assert told(client.post("/"))["account"][0] == 2


def test_somebody_and_something_else_are_not_refused(throttle: Throttle) -> None:
    for _ in range(3):
        throttle.hit("account", ANNA)

    throttle.hit("account", BERT)
    throttle.hit("address", ANNA)
    throttle.hit("code", ANNA)
    with pytest.raises(RateLimited):
        throttle.hit("account", ANNA)


def test_whoever_comes_when_the_window_has_just_ended_waits_a_second(
    storage: SqlStorage, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends_now(key: str) -> float:
        end_windows(engine)
        return SqlStorage.get_expiry(storage, key)

    monkeypatch.setattr(storage, "get_expiry", ends_now)
    throttle = Throttle(storage, {"account": "1 per 15 minutes"})
    throttle.hit("account", ANNA)
    monkeypatch.setattr(storage, "incr", lambda *_what: 2)

    with pytest.raises(RateLimited) as refused:
        throttle.hit("account", ANNA)

    assert refused.value.retry_after == 1


def test_of_many_requests_at_once_exactly_as_many_pass_as_may(storage: SqlStorage) -> None:
    client = door(Throttle(storage, {"account": "10 per 15 minutes"}), [hit("account", ANNA)])
    app = client.application

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: app.test_client().post("/").status_code, range(60)))

    assert sorted(statuses) == [200] * 10 + [429] * 50


def test_the_database_names_nobody(throttle: Throttle, engine: Engine) -> None:
    throttle.hit("account", ANNA)

    with engine.connect() as connection:
        [name] = connection.scalars(select(RateCounter.name)).all()
    assert re.fullmatch("[0-9a-f]{64}", name)


def test_a_storage_is_told_no_name_either() -> None:
    storage = MemoryStorage()

    Throttle(storage, RULES).hit("account", ANNA)

    assert len(storage.storage) == 1
    assert "anna" not in str(storage.storage)


def test_a_throttle_that_is_off_counts_writes_and_tells_nothing(
    storage: SqlStorage, engine: Engine
) -> None:
    allowed: list[bool] = []
    client = door(
        Throttle(storage, {"account": "1 per 15 minutes"}, enabled=False),
        [
            hit("account", ANNA),
            hit("account", ANNA),
            lambda throttle: allowed.append(throttle.allows("account", ANNA)),
            lambda throttle: throttle.check("account", ANNA),
        ],
    )

    for _ in range(3):
        answer = client.post("/")
        assert answer.status_code == 200
        assert not [name for name, _ in answer.headers if name.startswith("RateLimit")]

    assert allowed == [True] * 3
    assert counted(engine) == 0


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("name", ["hit", "allows"])
def test_counting_inside_a_transaction_is_refused_at_once(
    app: Flask, storage: SqlStorage, name: str, enabled: bool
) -> None:
    throttle = Throttle(storage, RULES, enabled)

    @transactional
    def count() -> None:
        db.session.execute(select(1))
        getattr(throttle, name)("account", ANNA)

    with app.app_context():
        with pytest.raises(RuntimeError, match="transaction"):
            count()
        getattr(throttle, name)("account", ANNA)


@pytest.mark.parametrize("name", ["hit", "check", "allows"])
def test_a_rule_that_is_none_is_a_mistake(storage: SqlStorage, name: str) -> None:
    for enabled in (True, False):
        with pytest.raises(KeyError):
            getattr(Throttle(storage, RULES, enabled), name)("acount", ANNA)


def test_without_its_database_the_shop_asks_to_come_back(tmp_path: Path) -> None:
    url = f"mysql+pymysql://root@127.0.0.1:{free_port()}/shop"
    shop = create_app(Config(env="testing", var=tmp_path, database_url=url)).extensions["shop"]
    throttle = Throttle(SqlStorage(shop.engine, shop.reader), RULES)

    answer = door(throttle, [hit("account", ANNA)]).post("/")

    assert_problem(answer, "unavailable")
    assert "RateLimit" not in answer.headers
