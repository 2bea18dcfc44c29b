"""Metrics of a real server: its workers add up, and a killed one takes no count with it."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.monitoring.checks import NAMES, Scrape
from tests.running import RunningShop

PATH = "/api/v1/products"
READ = {"method": "GET", "route": PATH, "status": "200"}
CONNECTIONS, EACH = 16, 10


def scrape(shop: RunningShop) -> Scrape:
    """Over a connection of its own, so from any worker."""
    answer = requests.get(f"{shop.url}/metrics", timeout=20)
    answer.raise_for_status()
    return Scrape(answer.text)


def counted(shop: RunningShop) -> float:
    return scrape(shop).value("shop_http_requests_total", **READ)


@contextmanager
def connections(shop: RunningShop) -> Iterator[list[http.client.HTTPConnection]]:
    """Connections that stay open, some to each worker."""
    found = [http.client.HTTPConnection("127.0.0.1", shop.port, timeout=20) for _ in range(16)]
    try:
        for connection in found:
            connection.connect()
        yield found
    finally:
        for connection in found:
            connection.close()


def read(connection: http.client.HTTPConnection) -> None:
    for _ in range(EACH):
        connection.request("GET", PATH)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()


def test_workers_add_up_and_a_killed_one_takes_no_count_with_it(tmp_path: Path) -> None:
    """OP-13."""
    with RunningShop(tmp_path / "var", "", None, sinks="none", scheduler="off") as shop:
        before = shop.worker_pids()
        with connections(shop) as held, ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(read, held))
        first = scrape(shop)
        assert set(first.types) >= NAMES
        assert first.value("shop_http_requests_total", **READ) == CONNECTIONS * EACH
        assert first.value("shop_http_request_seconds_count", **READ) == CONNECTIONS * EACH
        # Each worker is asked, and all give the same answer.
        assert {counted(shop) for _ in range(10)} == {CONNECTIONS * EACH}

        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while len(set(shop.worker_pids()) - {before[0]}) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(shop.worker_pids()) == 2
        assert {counted(shop) for _ in range(10)} == {CONNECTIONS * EACH}
        with connections(shop) as held, ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(read, held))
        assert counted(shop) == 2 * CONNECTIONS * EACH
        # Nobody asks but this one: it has no connection while it counts.
        assert scrape(shop).value("shop_db_pool_in_use") == 0
