"""Locks that others hold, and connections that all wait: nothing half done, soon well again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import create_engine, text

from shop.engines import database_url
from tests.orders.crowds import Crowd, crowd_at, statuses

#: The shop's `innodb_lock_wait_timeout`, and SQLite's as this test sets it.
LOCK_SECONDS = 5

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(300)]


@contextmanager
def lock_on(crowd: Crowd, variant_id: int) -> Iterator[None]:
    """Hold a row of the stock from outside."""
    engine = create_engine(database_url(crowd.database))
    lock = "SELECT on_hand FROM stock_levels WHERE variant_id = :v FOR UPDATE"
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.connection.isolation_level = None  # type: ignore[attr-defined]
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text(lock), {"v": variant_id})
        try:
            yield
        finally:
            connection.rollback()
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "mariadb"])
def test_a_lock_from_outside_makes_an_order_wait_and_then_fail_decently(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-13, M7."""
    with crowd_at(kind, tmp_path, request, database_seconds=LOCK_SECONDS) as crowd:
        oak, elm = crowd.product(stock=5), crowd.product(stock=5)
        with lock_on(crowd, elm["id"]):
            started = time.monotonic()
            answer = crowd.order((oak["sku"], 1), (elm["sku"], 1), key="waits")
            seconds = time.monotonic() - started

        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert answer.headers["Retry-After"]
        assert seconds < 2 * LOCK_SECONDS, "it does not wait again and again"
        assert crowd.sql("SELECT COUNT(*) FROM orders") == [(0,)]
        assert (crowd.on_hand(oak["id"]), crowd.on_hand(elm["id"])) == (5, 5)
        assert crowd.order((oak["sku"], 1), (elm["sku"], 1), key="waits").status_code == 201
        crowd.verify()


def test_when_every_connection_waits_the_shop_lives_and_recovers(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-16."""
    with crowd_at("mariadb", tmp_path, request, database_seconds=LOCK_SECONDS) as crowd:
        oak, elm = crowd.product(stock=100), crowd.product(stock=100)
        found: list[Any] = []
        with lock_on(crowd, oak["id"]):
            waiting = threading.Thread(
                target=lambda: found.extend(
                    crowd.all_at_once(32, 32, lambda _number: crowd.order((oak["sku"], 1)))
                )
            )
            waiting.start()
            time.sleep(1)
            for _ in range(5):
                started = time.monotonic()
                live = requests.get(f"{crowd.shop.url}/health/live", timeout=20)
                assert live.status_code == 200
                assert time.monotonic() - started < 2
            waiting.join()

        assert set(statuses(found)) == {503}
        assert all(it.body["type"] == "/problems/unavailable" for it in found)
        tries = crowd.all_at_once(32, 16, lambda _number: crowd.order((oak["sku"], 1)))
        assert statuses(tries) == {201: 32}
        assert crowd.order((elm["sku"], 1)).status_code == 201
        assert crowd.on_hand(oak["id"]) == 68
        crowd.verify()
