"""Many who send the same request at once, to all workers: one effect, one answer."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import requests
from sqlalchemy import text

from tests import factories
from tests.chaos.history import connected, tell
from tests.running import RunningShop
from tests.servers import MariaDB

SENDERS = 20
PRODUCTS = "/api/v1/products"

pytestmark = pytest.mark.xdist_group("chaos")


@dataclass(frozen=True, slots=True)
class Final:
    """How one sender got its answer."""

    status: int
    body: bytes
    replayed: bool
    told_to_wait: int


def send_until_final(http: requests.Session, url: str, body: Any, key: str) -> Final:
    waits = 0
    while True:
        answer = http.post(url, json=body, headers={"Idempotency-Key": key}, timeout=30)
        if answer.status_code != 409:
            replayed = "Idempotency-Replayed" in answer.headers
            return Final(answer.status_code, answer.content, replayed, waits)
        assert answer.json()["type"] == "/problems/idempotency-in-progress", answer.text
        assert answer.headers["Retry-After"] == "1"
        waits += 1
        time.sleep(0.05)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(20, id="quick"),
        pytest.param(1000, id="full", marks=[pytest.mark.full, pytest.mark.timeout(1800)]),
    ],
)
@pytest.mark.parametrize("engine", ["sqlite", "mariadb"])
def test_of_many_equal_requests_at_once_one_has_an_effect(
    engine: str, keys: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-08, G4."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    if engine == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        url = server.create_database(f"keys{secrets.randbits(32)}")
    shop = RunningShop(tmp_path / "shop", url, None, sinks="none")
    with shop, ThreadPoolExecutor(SENDERS) as pool:
        headers = {"Authorization": f"Bearer {shop.admin_token()}"}
        clients = [requests.Session() for _ in range(SENDERS)]
        for client in clients:
            client.headers.update(headers)
        finals = [_race(pool, clients, f"{shop.url}{PRODUCTS}", f"key {n}") for n in range(keys)]

    for answers in finals:
        assert {answer.status for answer in answers} == {201}
        assert len({answer.body for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
    with connected(url) as connection:
        products = connection.execute(text("SELECT COUNT(*) FROM products")).scalar_one()
    assert products == keys
    waits = sum(answer.told_to_wait for answers in finals for answer in answers)
    tell(f"{engine}: {keys} keys x {SENDERS}, {waits} times told to wait")


def _race(
    pool: ThreadPoolExecutor, clients: list[requests.Session], url: str, key: str
) -> list[Final]:
    body, gate = factories.product_body(), Barrier(SENDERS)

    def send(http: requests.Session) -> Final:
        gate.wait()
        return send_until_final(http, url, body, key)

    return list(pool.map(send, clients))
