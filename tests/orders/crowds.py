"""Real servers with a shop, and crowds of clients that all want something at the same time."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from shop.app import CHECKS
from shop.checks import verify
from shop.engines import database_url
from tests import factories
from tests.orders.checks import ADDRESS
from tests.running import RunningShop
from tests.servers import MariaDB

API = "/api/v1"
#: Kinds of MariaDB servers that the shop must not notice a difference of.
KINDS: dict[str, dict[str, str]] = {
    "mariadb": {},
    "mariadb-snapshot-on": {"innodb_snapshot_isolation": "ON"},
    "mariadb-snapshot-off": {"innodb_snapshot_isolation": "OFF"},
    "mariadb-read-committed": {"transaction_isolation": "READ-COMMITTED"},
    "mariadb-repeatable-read": {"transaction_isolation": "REPEATABLE-READ"},
}


@contextmanager
def database_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty database: `sqlite`, or one of KINDS."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'shop.db'}"
        return
    name = f"crowd{secrets.randbits(32)}"
    if not KINDS[kind]:
        server: MariaDB = request.getfixturevalue("mariadb")
        yield server.create_database(name)
        return
    with MariaDB(folder / "database", **KINDS[kind]) as own:
        yield own.create_database(name)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a client got, and when it was waiting for it."""

    status: int
    started: float
    ended: float
    body: Any = None


class Crowd:
    """Clients of a running shop, who act as its administrator."""

    def __init__(self, shop: RunningShop, url: str) -> None:
        """Sign in."""
        self.shop, self.database = shop, url
        self.headers = {"Authorization": f"Bearer {shop.admin_token()}"}
        self._local = threading.local()

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> requests.Response:
        """One request on this thread's connection; a POST has a key of its own."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        headers = dict(self.headers)
        if method == "POST":
            headers["Idempotency-Key"] = key or secrets.token_hex(8)
        url = f"{self.shop.url}{API}{path}"
        found: requests.Response = self._local.session.request(
            method, url, json=body, headers=headers, timeout=60
        )
        return found

    def product(self, stock: int, amount: int = 1000) -> dict[str, Any]:
        """A new variant that is for sale."""
        price = {"amount": amount, "currency": "EUR"}
        variants = [factories.variant_body(sku=f"V-{secrets.token_hex(6)}", stock=stock)]
        variants[0]["price"] = price
        answer = self.call("POST", "/products", factories.product_body(variants=variants))
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()["variants"][0]
        return found

    def order(self, *items: tuple[str, int], key: str | None = None) -> requests.Response:
        """The answer to an order."""
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in items]
        body = {"items": lines, "shipping_address": ADDRESS}
        return self.call("POST", "/orders", body, key=key)

    def all_at_once(
        self, count: int, parallel: int, act: Callable[[int], requests.Response]
    ) -> list[Attempt]:
        """Do something so many times, with so many clients."""

        def attempt(number: int) -> Attempt:
            started = time.monotonic()
            answer = act(number)
            ended = time.monotonic()
            body = answer.json() if answer.status_code >= 300 else None
            return Attempt(answer.status_code, started, ended, body)

        with ThreadPoolExecutor(parallel) as pool:
            return list(pool.map(attempt, range(count)))

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Rows, asked behind the shop's back."""
        engine = create_engine(database_url(self.database))
        with engine.connect() as connection:
            found = list(connection.execute(text(statement), values).all())
        engine.dispose()
        return found

    def on_hand(self, variant_id: int) -> int:
        """How many of a variant are there."""
        ((count,),) = self.sql(
            "SELECT on_hand FROM stock_levels WHERE variant_id = :v", v=variant_id
        )
        return int(count)

    def verify(self) -> None:
        """Nothing is wrong with orders, money and stock."""
        engine = create_engine(database_url(self.database))
        with Session(engine) as session:
            report = verify(session, CHECKS)
        engine.dispose()
        assert report["sound"], report


@contextmanager
def crowd_at(
    kind: str, folder: Path, request: pytest.FixtureRequest, **settings: object
) -> Iterator[Crowd]:
    """A crowd at a shop with two workers over a database of that kind."""
    with database_of(kind, folder, request) as url:
        usual: dict[str, object] = {"sinks": "none", "scheduler": "off", "rate_limits": "off"}
        with RunningShop(folder / "shop", url, None, **{**usual, **settings}) as shop:  # type: ignore[arg-type]
            yield Crowd(shop, url)


def overlapping(attempts: list[Attempt]) -> float:
    """Which part of the attempts had to do with another one."""
    ordered = sorted(attempts, key=lambda attempt: attempt.started)
    met, latest = 0, float("-inf")
    for this, following in zip(ordered, [*ordered[1:], None], strict=True):
        met += this.started < latest or (following is not None and following.started < this.ended)
        latest = max(latest, this.ended)
    return met / len(attempts)


def statuses(attempts: list[Attempt]) -> Counter[int]:
    """How often which status was answered."""
    return Counter(attempt.status for attempt in attempts)
