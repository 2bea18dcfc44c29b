"""Counters in Redis, and in the database while Redis is away."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask
from limits import parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter
from structlog.testing import capture_logs

from shop.errors import RateLimited
from shop.limits import remote
from shop.limits.remote import SparedStorage, redis_counters, storage_for
from shop.limits.storage import SqlStorage
from shop.limits.throttle import Throttle
from tests.limits.conftest import Redis
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
KEY = "LIMITER/account/anna/10/15/minute"
ANNA = "anna@example.com"
RULES = {"account": "3 per 15 minutes"}


@pytest.fixture
def counters(redis: Redis) -> Iterator[RedisStorage]:
    """Counters in a Redis server of the test's own."""
    counters = redis_counters(redis.url)
    yield counters
    counters.storage.close()


@pytest.fixture
def spared(counters: RedisStorage, storage: SqlStorage) -> SparedStorage:
    """The same, with the database to spare; Redis is asked each time, whether it failed or not."""
    return SparedStorage(counters, storage, rest_seconds=0)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What is warned of."""
    told: list[dict[str, object]] = []
    monkeypatch.setattr(
        remote.log, "warning", lambda event, **more: told.append({"event": event} | more)
    )
    return told


def test_redis_counts_exactly_too(counters: RedisStorage) -> None:
    limiter, limit = FixedWindowRateLimiter(counters), parse("10 per 15 minutes")

    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(lambda _: limiter.hit(limit, "anna"), range(100)))

    assert sum(passed) == 10


def test_a_throttle_in_redis_refuses_and_writes_no_row(
    redis: Redis, counters: RedisStorage, spared: SparedStorage, storage: SqlStorage
) -> None:
    throttle = Throttle(spared, RULES)
    for _ in range(3):
        throttle.hit("account", ANNA)
    with pytest.raises(RateLimited) as refused:
        throttle.hit("account", ANNA)
    with pytest.raises(RateLimited) as checked:
        throttle.check("account", ANNA)

    assert 890 <= checked.value.retry_after <= refused.value.retry_after <= 900
    [key] = counters.storage.keys()
    assert b"anna" not in key
    assert storage.reset() == 0


def test_while_redis_is_away_the_database_counts(
    redis: Redis, spared: SparedStorage, storage: SqlStorage, warnings: list[dict[str, object]]
) -> None:
    throttle = Throttle(spared, RULES)
    throttle.hit("account", ANNA)
    redis.kill()

    for _ in range(3):
        throttle.hit("account", ANNA)
    with pytest.raises(RateLimited) as refused:
        throttle.hit("account", ANNA)

    assert 890 <= refused.value.retry_after <= 900
    assert warnings == [{"event": "limits.storage-away", "reason": "ConnectionError"}]
    redis.start()
    throttle.hit("account", ANNA)
    assert storage.reset() == 1


def test_a_redis_that_does_not_answer_is_waited_for_once_and_then_left_alone(
    redis: Redis,
    counters: RedisStorage,
    storage: SqlStorage,
    warnings: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spared = SparedStorage(counters, storage, rest_seconds=600)
    redis.freeze()
    assert spared.incr(KEY, 60) == 1

    monkeypatch.setattr(counters, "incr", lambda *_: pytest.fail("it was asked again"))

    assert spared.incr(KEY, 60) == 2
    assert spared.get(KEY) == 2
    assert [warning["reason"] for warning in warnings] == ["TimeoutError"]


def test_a_redis_that_came_back_counts_again_after_its_rest(
    redis: Redis, counters: RedisStorage, storage: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    spared = SparedStorage(counters, storage, rest_seconds=30)
    redis.kill()
    spared.incr(KEY, 60, 5)
    redis.start()
    assert spared.incr(KEY, 60) == 6

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)

    assert spared.incr(KEY, 60) == 1


def test_it_is_warned_of_once_a_minute(
    storage: SqlStorage, warnings: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    spared = SparedStorage(nobody(), storage, rest_seconds=0)
    now = time.monotonic()
    for seconds, told in [(0, 1), (1, 1), (59, 1), (61, 2), (119, 2), (122, 3)]:
        monkeypatch.setattr(time, "monotonic", lambda later=now + seconds: later)

        spared.incr(KEY, 60)

        assert len(warnings) == told, seconds


def nobody() -> RedisStorage:
    """Counters at a Redis server that is not there; its password is a canary."""
    return redis_counters(f"redis://:canary@127.0.0.1:{free_port()}/0")


def test_neither_the_warning_nor_the_answer_tells_where_redis_is(
    storage: SqlStorage, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as structured, caplog.at_level(logging.DEBUG):
        SparedStorage(nobody(), storage).incr(KEY, 60)

    text = f"{structured}{caplog.text}"
    assert "limits.storage-away" in text
    assert "canary" not in text
    assert "127.0.0.1" not in text


def test_whoever_can_count_is_asked_whether_it_can(storage: SqlStorage) -> None:
    assert not nobody().check()
    assert SparedStorage(nobody(), storage).check()
    assert SparedStorage(MemoryStorage(), nobody()).check()
    assert not SparedStorage(nobody(), nobody()).check()


def test_what_is_cleared_is_cleared_here_and_there(storage: SqlStorage) -> None:
    first = MemoryStorage()
    spared = SparedStorage(first, storage)
    for counters in (first, storage):
        counters.incr(KEY, 60, 3)

    spared.clear(KEY)
    assert (first.get(KEY), storage.get(KEY)) == (0, 0)

    for counters in (first, storage):
        counters.incr(KEY, 60, 3)
    spared.reset()
    assert (first.get(KEY), storage.get(KEY)) == (0, 0)


def test_the_setting_says_where_it_is_counted(app: Flask, redis: Redis) -> None:
    shop = app.extensions["shop"]

    assert isinstance(storage_for("", shop.engine, shop.reader), SqlStorage)

    remote_one = storage_for(redis.url, shop.engine, shop.reader)
    assert remote_one.incr(KEY, 60, 4) == 4
    assert SqlStorage(shop.engine, shop.reader).get(KEY) == 0
    redis.kill()
    assert remote_one.incr(KEY, 60) == 1
    assert SqlStorage(shop.engine, shop.reader).get(KEY) == 1


def test_redis_is_imported_only_where_it_is_used() -> None:
    program = (
        "import sys, sqlalchemy\n"
        "from shop.limits.remote import storage_for\n"
        "from shop.limits.throttle import Throttle\n"
        "engine = sqlalchemy.create_engine('sqlite://')\n"
        "Throttle(storage_for('', engine, engine), {'account': '1 per hour'})\n"
        "print('redis' in sys.modules)\n"
        "storage_for('redis://127.0.0.1', engine, engine)\n"
        "print('redis' in sys.modules)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50,
        check=True,
    )  # fmt: skip

    assert done.stdout.split() == ["False", "True"]
