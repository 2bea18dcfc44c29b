"""Clients that write to the shop without a pause and keep a ledger of what they were told."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from tests.chaos.history import Change, Ledger, Outcome, tell
from tests.running import RunningShop

PROBLEM = "application/problem+json"
_ANSWER_SECONDS = 30.0
_PAUSE_SECONDS = 0.1


class Writer:
    """Makes products, changes them and deletes some; nobody else touches its products."""

    def __init__(
        self, shop: RunningShop, ledger: Ledger, number: int, seed: int, rest: float = 0.0
    ) -> None:
        """Take a part of the seed; ``thread`` is started by the caller.

        It rests at most ``rest`` seconds before each request.
        """
        self.thread = threading.Thread(target=self._run, name=f"writer-{number}", daemon=True)
        self._products = f"{shop.url}/api/v1/products"
        self._token = shop.admin_token()
        self._ledger = ledger
        self._number = number
        self._rest = rest
        self._chance = random.Random(f"{seed}/{number}")
        self._ending = threading.Event()
        self._client = requests.Session()
        self.failure: BaseException | None = None

    def end(self) -> None:
        """End after the present request."""
        self._ending.set()

    def _run(self) -> None:
        """Write until told to end; an answer that makes no sense is kept for the test to see."""
        count = 0
        try:
            while not self._ending.is_set():
                count += 1
                self._live(f"w{self._number}-{count}")
        except BaseException as error:
            self.failure = error

    def _live(self, name: str) -> None:
        """The life of one product; it ends early when nobody knows what became of a request."""
        product = self._create(name)
        for number in range(self._chance.randrange(4)):
            if product is None or self._ending.is_set():
                return
            product = self._rename(product, f"{name} edition {number}")
        if product is not None and self._chance.random() < 0.5:
            self._delete(product)

    def _create(self, name: str) -> dict[str, Any] | None:
        price = {"amount": self._chance.randrange(1, 100_000), "currency": "EUR"}
        variant = {"sku": name, "price": price, "stock": self._chance.randrange(100)}
        body = {"name": name, "slug": name, "variants": [variant]}
        return self._send("POST", self._products, body, None)

    def _rename(self, product: dict[str, Any], name: str) -> dict[str, Any] | None:
        address = f"{self._products}/{product['id']}"
        return self._send("PATCH", address, {"name": name}, product["version"])

    def _delete(self, product: dict[str, Any]) -> None:
        address = f"{self._products}/{product['id']}"
        self._send("DELETE", address, None, product["version"], product)

    def _send(
        self,
        method: str,
        address: str,
        body: dict[str, Any] | None,
        version: int | None,
        doomed: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Send one request and note its end; answers the product when it was done."""
        headers = {"Authorization": f"Bearer {self._token}"}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        self._ending.wait(self._rest * self._chance.random())
        try:
            answer = self._client.request(
                method, address, json=body, headers=headers, timeout=_ANSWER_SECONDS
            )
        except requests.RequestException as error:
            # The request may have arrived before its answer was lost.
            kind = "timeout" if isinstance(error, requests.Timeout) else "connection"
            self._ledger.note(Outcome(time.monotonic(), method, None, kind))
            self._ending.wait(_PAUSE_SECONDS)
            return None
        if not answer.ok:
            self._ledger.note(Outcome(time.monotonic(), method, answer.status_code, flaw(answer)))
            self._ending.wait(_PAUSE_SECONDS)
            return None
        product = doomed or answer.json()
        changes = _changes(method, product)
        took = answer.elapsed.total_seconds()
        self._ledger.note(
            Outcome(time.monotonic(), method, answer.status_code, seconds=took), changes
        )
        return None if doomed else product


def _changes(method: str, product: dict[str, Any]) -> list[Change]:
    """What the shop has vouched for by its answer to a request."""
    if method == "PATCH":
        return [Change("products", product["id"], product["version"])]
    after = 1 if method == "DELETE" else 0
    changes = [Change("products", product["id"], product["version"] + after)]
    for variant in product["variants"]:
        changes.append(Change("variants", variant["id"], variant["version"] + after))
        # Nobody sells here, so the stock of a variant has its first version for life.
        changes.append(Change("stock_levels", variant["id"], 1 + after))
    return changes


def flaw(answer: requests.Response) -> str | None:
    """What is wrong with the form of a refusal; None when it is as promised."""
    if answer.headers.get("Content-Type") != PROBLEM:
        return f"{answer.status_code} as {answer.headers.get('Content-Type')}"
    if answer.status_code == 503 and "Retry-After" not in answer.headers:
        return "503 without Retry-After"
    if answer.status_code >= 500 and answer.status_code != 503:
        return f"{answer.status_code}: {answer.text[:200]}"
    return None


@contextmanager
def writing(
    shop: RunningShop, ledger: Ledger, seed: int, count: int = 4, rest: float = 0.0
) -> Iterator[None]:
    """Let several writers write meanwhile; they have ended when the block is left."""
    tell(f"seed {seed}")
    writers = [Writer(shop, ledger, number, seed, rest) for number in range(count)]
    for writer in writers:
        writer.thread.start()
    try:
        yield
    finally:
        for writer in writers:
            writer.end()
        for writer in writers:
            writer.thread.join(_ANSWER_SECONDS + 10)
    failures = [writer.failure for writer in writers if writer.failure is not None]
    assert not failures, f"writers gave up: {failures}"
    assert not any(writer.thread.is_alive() for writer in writers), "a writer never ended"
