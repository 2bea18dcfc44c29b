"""Counters in the database: exact, over threads and over the ends of their windows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from limits import parse
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import Connection, Engine, exc, func, select, update

from config import Config
from shop import create_app
from shop.db import database_ms, writing
from shop.errors import Unavailable
from shop.limits import storage as module
from shop.limits.models import RateCounter
from shop.limits.storage import SqlStorage
from tests.conftest import create_shop
from tests.limits.conftest import count_often
from tests.servers import MariaDB, free_port

KEY = "LIMITER/sign-in-account/anna@example.com/10/15/minute"
THREADS = 8


def end_windows(engine: Engine, ms_ago: int = 0) -> None:
    """Let every window have ended that long ago."""
    with writing(engine) as connection:
        connection.execute(update(RateCounter).values(ends_ms=database_ms() - ms_ago))


def rows(engine: Engine) -> list[tuple[str, int, int]]:
    """Name, count and milliseconds left of each counter."""
    left = RateCounter.ends_ms - database_ms()
    with engine.connect() as connection:
        found = connection.execute(select(RateCounter.name, RateCounter.count, left))
        return [(name, count, ms) for name, count, ms in found]


def in_threads(work: Any) -> list[Any]:
    """What `work(number)` answers in threads that begin together."""
    together = threading.Barrier(THREADS, timeout=20)

    def run(number: int) -> Any:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_threads_that_count_at_once_lose_nothing(app: Flask, engine: Engine) -> None:
    reader = app.extensions["shop"].reader

    answers = in_threads(lambda _: count_often(SqlStorage(engine, reader), KEY, 15))

    assert sorted(chain(*answers)) == list(range(1, 15 * THREADS + 1))
    assert [count for _, count, _ in rows(engine)] == [15 * THREADS]


def test_of_a_hundred_tries_at_once_exactly_ten_pass(storage: SqlStorage) -> None:
    limiter, limit = FixedWindowRateLimiter(storage), parse("10 per 15 minutes")

    answers = in_threads(lambda _: [limiter.hit(limit, "anna") for _ in range(13)])

    assert sum(chain(*answers)) == 10


def test_threads_that_begin_a_window_anew_at_once_lose_nothing(
    storage: SqlStorage, engine: Engine
) -> None:
    for _ in range(3):
        count_often(storage, KEY, 4)
        end_windows(engine)

        assert sorted(in_threads(lambda _: storage.incr(KEY, 60))) == list(range(1, THREADS + 1))


def test_a_window_ends_when_it_was_to_end_however_often_one_tries(
    storage: SqlStorage, engine: Engine
) -> None:
    storage.incr(KEY, 60)
    storage.incr(KEY, 3600)

    [(_, count, left)] = rows(engine)

    assert count == 2
    assert 0 < left <= 60_000
    assert time.time() < storage.get_expiry(KEY) <= time.time() + 60


def test_after_its_end_a_window_begins_anew_with_its_whole_length(
    storage: SqlStorage, engine: Engine
) -> None:
    count_often(storage, KEY, 7)
    end_windows(engine, ms_ago=3_600_000)

    assert storage.get(KEY) == 0
    assert time.time() - 60 < storage.get_expiry(KEY) <= time.time()
    assert storage.incr(KEY, 60, 2) == 2
    [(_, count, left)] = rows(engine)
    assert count == 2
    assert 30_000 < left <= 60_000


def test_a_window_ends_by_itself(storage: SqlStorage) -> None:
    count_often(storage, KEY, 3)
    storage.clear(KEY)
    storage.incr(KEY, 1)

    deadline = time.monotonic() + 20
    while storage.get(KEY):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert storage.incr(KEY, 60) == 1


def test_keys_know_nothing_of_each_other_and_are_kept_as_digests(
    storage: SqlStorage, engine: Engine
) -> None:
    long = f"{KEY}/{'x' * 1000}"
    for key in (KEY, KEY.upper(), f"{KEY} ", long):
        assert storage.incr(key, 60) == 1

    names = [name for name, _, _ in rows(engine)]
    assert len(set(names)) == 4
    assert all(len(name) == 64 and int(name, 16) for name in names)
    storage.clear(KEY)
    assert [storage.get(key) for key in (KEY, long)] == [0, 1]
    assert storage.reset() == 3
    assert rows(engine) == []


def test_the_clock_of_the_process_decides_nothing(
    storage: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.incr(KEY, 60)
    later = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: later)

    assert storage.incr(KEY, 60) == 2
    assert storage.get(KEY) == 2
    assert later < storage.get_expiry(KEY) <= later + 60


def losing(times: int, error: Exception, lost: list[Engine]) -> Any:
    """`writing` that fails at its end so often, after all of its work."""

    @contextmanager
    def writing_in_vain(engine: Engine) -> Iterator[Connection]:
        with writing(engine) as connection:
            yield connection
            if len(lost) < times:
                lost.append(engine)
                raise error

    return writing_in_vain


def dead(code: int, *, gone: bool = False) -> exc.OperationalError:
    """What SQLAlchemy raises for this error of the server."""
    return exc.OperationalError("INSERT", {}, Exception(code, "lost"), connection_invalidated=gone)


@pytest.mark.parametrize("code", [1213, 1205, 1020])
def test_a_count_that_lost_against_another_is_made_again_and_once(
    storage: SqlStorage, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    lost: list[Engine] = []
    monkeypatch.setattr(module, "writing", losing(3, dead(code), lost))

    assert storage.incr(KEY, 60) == 1
    assert len(lost) == 3


def test_a_count_that_always_loses_gives_up_and_says_so(
    storage: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Engine] = []
    monkeypatch.setattr(module, "writing", losing(99, dead(1213), lost))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    with pytest.raises(Unavailable):
        storage.incr(KEY, 60)
    assert len(lost) == 8


def test_a_database_that_went_away_is_asked_once_more_and_no_oftener(
    storage: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Engine] = []
    monkeypatch.setattr(module, "writing", losing(99, dead(2013, gone=True), lost))

    with pytest.raises(exc.OperationalError):
        storage.incr(KEY, 60)
    assert len(lost) == 2


def test_connections_that_died_in_the_pool_are_replaced(tmp_path: Path, mariadb: MariaDB) -> None:
    shop = create_shop(tmp_path, database_url=mariadb.create_database("cut")).extensions["shop"]
    storage = SqlStorage(shop.engine, shop.reader)
    storage.incr(KEY, 60)
    cut_connections(mariadb, "cut")
    assert storage.incr(KEY, 60) == 2

    storage.get(KEY)
    cut_connections(mariadb, "cut")
    assert storage.get(KEY) == 2


def cut_connections(server: MariaDB, database: str) -> None:
    """End every connection to a database."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (database,))
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")


def test_whether_the_database_answers_can_be_asked(storage: SqlStorage, tmp_path: Path) -> None:
    url = f"mysql+pymysql://root@127.0.0.1:{free_port()}/shop"
    shop = create_app(Config(env="testing", var=tmp_path, database_url=url)).extensions["shop"]

    assert storage.check()
    assert not SqlStorage(shop.engine, shop.reader).check()


def test_one_row_stands_for_a_key_over_all_its_windows(storage: SqlStorage, engine: Engine) -> None:
    for amount in (1, 3, 2):
        assert storage.incr(KEY, 60, amount) == amount
        end_windows(engine, 1)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(RateCounter)).scalar() == 1
