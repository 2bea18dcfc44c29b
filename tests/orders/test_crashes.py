"""Whoever dies while orders are placed, paid and given back: each is done once, or not at all."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.chaos.history import tell
from tests.orders.checks import ADDRESS
from tests.orders.crowds import Crowd, crowd_at, database_of
from tests.running import CUT_OFF, RunningShop
from tests.servers import MariaDB

LEASE_SECONDS = 2
#: The points that are passed when an order is placed, when it is paid, and when money goes back,
#: and how many passes there are before the request is through.
PLACING = ("idempotency-claimed", "order-stock-taken", "order-inserted", "before-answer-kept",
           "before-commit:2", "after-commit:2")  # fmt: skip
PAYING = ("payment-claimed", "payment-answered", "before-commit:2", "after-commit:2",
          "before-commit:3", "after-commit:3")  # fmt: skip
REFUNDING = ("refund-claimed", "refund-answered", "before-commit:3", "after-commit:3",
             "before-commit:4", "after-commit:4", "before-commit:5", "after-commit:5")  # fmt: skip

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]


@contextmanager
def dying_at(shop: RunningShop, point: str) -> Iterator[None]:
    """A running shop one of whose workers dies there, and does."""
    shop.change(crash_at=point)
    shop.start()
    before = set(shop.worker_pids())
    try:
        yield
        deadline = time.monotonic() + 5
        while before <= set(shop.worker_pids()):
            assert time.monotonic() < deadline, f"nobody died at {point}"
            time.sleep(0.1)
    finally:
        shop.stop()
        shop.change(crash_at="")


def until_final(crowd: Crowd, path: str, body: Any, key: str) -> requests.Response:
    """What a patient client gets in the end, who always sends the same key."""
    deadline = time.monotonic() + LEASE_SECONDS + 5
    while time.monotonic() < deadline:
        try:
            answer = requests.post(
                f"{crowd.shop.url}/api/v1{path}", json=body, timeout=10,
                headers=crowd.headers | {"Idempotency-Key": key},
            )  # fmt: skip
        except CUT_OFF:
            time.sleep(0.1)
            continue
        retried = answer.headers.get("Retry-After")
        if answer.status_code not in (409, 503) or retried is None:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"no final answer within the lease and 5 s: {path} {key}")


@pytest.mark.parametrize("kind", ["sqlite", "mariadb"])
def test_whoever_dies_at_any_point_of_an_order_is_made_up_for_by_the_same_request(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """BL-18, DO-03, G5: place, pay, refund; the same key until it is final."""
    with database_of(kind, tmp_path, request) as url:
        shop = RunningShop(
            tmp_path / "shop", url, None, env="testing", scheduler="off", sinks="none",
            idempotency_lease_seconds=LEASE_SECONDS,
        )  # fmt: skip
        with shop:
            crowd = Crowd(shop, url)
            oak = crowd.product(stock=500)
        deaths = 0
        for place in PLACING:
            order = place_dying(crowd, oak["sku"], place)
            deaths += 1
            assert order["status"] == "placed"
        unpaid = crowd.sql("SELECT id FROM orders ORDER BY id")
        assert len(unpaid) == len(PLACING)
        for (order_id,), point in zip(unpaid, PAYING, strict=True):
            with dying_at(shop, point):
                paid = until_final(crowd, f"/orders/{order_id}/payments", {}, f"pay {point}")
                again = until_final(crowd, f"/orders/{order_id}/payments", {}, f"pay {point}")
            assert (paid.status_code, paid.json()["status"]) == (201, "succeeded"), point
            assert again.content == paid.content
            deaths += 1
        assert crowd.sql("SELECT COUNT(*) FROM payments") == [(len(PAYING),)]
        for number, point in enumerate(REFUNDING):
            body = {"amount": {"amount": 10, "currency": "EUR"}, "reason": point}
            path = f"/orders/{unpaid[number % 2][0]}/refunds"
            with dying_at(shop, point):
                back = until_final(crowd, path, body, f"back {point}")
                again = until_final(crowd, path, body, f"back {point}")
            assert (back.status_code, back.json()["status"]) == (201, "succeeded"), point
            assert again.content == back.content
            deaths += 1
        assert crowd.sql("SELECT COUNT(*), SUM(amount) FROM refunds") == [
            (len(REFUNDING), 10 * len(REFUNDING))
        ]
        assert crowd.on_hand(oak["id"]) == 500 - len(PLACING)
        crowd.verify()
    tell(f"{kind}: {deaths} deaths")


def place_dying(crowd: Crowd, sku: str, point: str) -> Any:
    """An order in spite of a death at a point."""
    body = {"items": [{"sku": sku, "quantity": 1}], "shipping_address": ADDRESS}
    with dying_at(crowd.shop, point):
        answer = until_final(crowd, "/orders", body, f"place {point}")
        again = until_final(crowd, "/orders", body, f"place {point}")
    assert (answer.status_code, again.status_code) == (201, 201), (point, answer.text)
    assert again.content == answer.content
    return answer.json()


@dataclass
class Buyers:
    """Threads that order, pay, cancel, and remember what was acknowledged."""

    crowd: Crowd
    skus: list[str]
    acknowledged: list[tuple[int, str]] = field(default_factory=list)
    unknown: int = 0
    refused: set[int] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Buyers:
        self._threads = [threading.Thread(target=self._buy, args=(n,)) for n in range(6)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_why: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _buy(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stop.is_set():
            try:
                answer = self.crowd.order(
                    *((sku, chance.randint(1, 3)) for sku in chance.sample(self.skus, 2))
                )
                if answer.status_code == 201:
                    self._go_on(chance, answer.json()["id"])
                else:
                    self.refused.add(answer.status_code)
                    time.sleep(0.05)
            except requests.RequestException:
                self.unknown += 1
                time.sleep(0.05)

    def _go_on(self, chance: random.Random, order: int) -> None:
        self.acknowledged.append((order, "placed"))
        wishes: list[tuple[str, Any]] = [("payments", {}), ("cancel", None), ("", None)]
        action, body = chance.choice(wishes)
        if action:
            answer = self.crowd.call("POST", f"/orders/{order}/{action}", body)
            if answer.status_code < 300:
                self.acknowledged.append((order, action))

    def check(self) -> None:
        """What was acknowledged is there, and everything adds up."""
        rows = self.crowd.sql("SELECT id, status, payment_status FROM orders")
        found = {row[0]: (row[1], row[2]) for row in rows}
        for order, what in self.acknowledged:
            assert order in found, f"order {order} was acknowledged and is lost"
            if what == "payments":
                assert found[order][1] == "paid"
            if what == "cancel":
                assert found[order][0] == "cancelled"
        assert self.refused <= {503, 409}, self.refused
        self.crowd.verify()


@dataclass(frozen=True, slots=True)
class Kills:
    """What is killed how often."""

    kind: str
    what: str
    count: int


FULL = [pytest.mark.full, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(Kills("sqlite", "workers", 6), id="sqlite-workers-quick"),
        pytest.param(Kills("mariadb", "workers", 6), id="mariadb-workers-quick"),
        pytest.param(Kills("mariadb", "database", 2), id="database-quick"),
        pytest.param(Kills("sqlite", "all", 3), id="sqlite-all-quick"),
        pytest.param(Kills("mariadb", "workers", 60), id="mariadb-workers-full", marks=FULL),
        pytest.param(Kills("mariadb", "database", 20), id="database-full", marks=FULL),
        pytest.param(Kills("sqlite", "all", 200), id="sqlite-all-full", marks=FULL),
    ],
)
def test_what_was_acknowledged_survives_every_death(
    kills: Kills, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """DO-03: workers and master; DO-13: the database; DO-14: everything, on SQLite."""
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    own = MariaDB(tmp_path / "own", innodb_flush_log_at_trx_commit=1)
    with own if kills.what == "database" else nothing():
        if kills.what == "database":
            request.node.url = own.create_database("orders")
        with crowd_of(kills, tmp_path, request) as crowd:
            products = [crowd.product(stock=10**6) for _ in range(8)]
            buyers = Buyers(crowd, [product["sku"] for product in products])
            with buyers:
                for _ in range(kills.count):
                    time.sleep(chance.uniform(0.3, 1.5))
                    strike(kills.what, crowd, own, chance)
                time.sleep(1)
            if kills.kind == "sqlite":
                assert crowd.sql("PRAGMA integrity_check") == [("ok",)]
            buyers.check()
    placed = len({order for order, _ in buyers.acknowledged})
    assert placed > kills.count
    tell(f"{kills}: seed {seed}, {placed} orders acknowledged, {buyers.unknown} unknown")


@contextmanager
def nothing() -> Iterator[None]:
    """No server of one's own."""
    yield


@contextmanager
def crowd_of(kills: Kills, folder: Path, request: pytest.FixtureRequest) -> Iterator[Crowd]:
    """A crowd over the database that is to be killed, or over any."""
    if kills.what != "database":
        with crowd_at(kills.kind, folder, request, workers=2) as crowd:
            yield crowd
        return
    with RunningShop(
        folder / "shop", request.node.url, None, sinks="none", scheduler="off", rate_limits="off"
    ) as shop:
        yield Crowd(shop, request.node.url)


def strike(what: str, crowd: Crowd, database: MariaDB, chance: random.Random) -> None:
    """Kill once, and bring back what does not come back by itself."""
    if what == "workers" and chance.random() < 0.7:
        crowd.shop.kill_worker(chance)
    elif what == "database":
        database.kill()
        database.restart()
    else:
        crowd.shop.kill()
        crowd.shop.start()
