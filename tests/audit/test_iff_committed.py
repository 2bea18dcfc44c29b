"""An event for each change that was made, and none for those that were not."""

from __future__ import annotations

import json
import random
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from shop.audit.sinks.memory import MemorySink
from shop.crashes import Crashed
from tests import factories
from tests.audit.running import RunningDrain, cursor, eventually
from tests.audit.test_oracle import entries
from tests.chaos.history import Change, tell

API = "/api/v1"
_FAILING = 0.3


class Mutations:
    """Mixed changes of a shop, three of ten of which fail on purpose, in many ways."""

    def __init__(self, client: FlaskClient, staff: dict[str, str], chance: random.Random) -> None:
        """Nothing is changed yet."""
        self.expected: list[Change] = []
        self.statuses: Counter[int | str] = Counter()
        self.die = False
        self._client, self._staff, self._chance = client, staff, chance
        self._products: list[dict[str, Any]] = []

    def pass_point(self, name: str) -> None:
        """What stands in for the crash points: the next transaction ends before its commit."""
        if name == "before-commit" and self.die:
            raise Crashed(name)

    def make(self, count: int) -> None:
        """So many, one after the other."""
        ways: list[Callable[[bool], None]] = [
            self._create, self._rename, self._rename, self._stock, self._stock, self._add_variant,
            self._drop_variant, self._delete,
        ]  # fmt: skip
        for _ in range(count):
            way = self._chance.choice(ways) if len(self._products) > 3 else self._create
            fails = self._chance.random() < _FAILING
            self.die = fails and self._chance.random() < 0.3
            way(fails and not self.die)
            self.die = False

    def _send(self, method: str, path: str, body: Any = None, tag: str | None = None) -> Any:
        """Send; the answer's JSON if it was done, else None."""
        headers = self._staff | ({"If-Match": tag} if tag else {})
        try:
            answer = self._client.open(API + path, method=method, json=body, headers=headers)
        except Crashed:
            self.statuses["died"] += 1
            return None
        self.statuses[answer.status_code] += 1
        if answer.status_code >= 300:
            return None
        return answer.get_json() if answer.data else {}

    def _create(self, fails: bool) -> None:
        body = factories.product_body(variants=[factories.variant_body() for _ in range(2)])
        if fails and self._products:
            # The second one, so that much is done when it turns out.
            body["variants"][1]["sku"] = self._any()["variants"][0]["sku"]
        elif fails:
            body["name"] = ""
        if (product := self._send("POST", "/products", body)) is not None:
            self._products.append(product)
            self.expected.append(Change("products", product["id"], 1))
            for variant in product["variants"]:
                self._expect_variant(variant["id"], 1)

    def _rename(self, fails: bool) -> None:
        product = self._any()
        tag = f'"{product["version"] - fails}"'
        body = {"name": f"edition {self._chance.random()}"}
        if self._send("PATCH", f"/products/{product['id']}", body, tag) is not None:
            product["version"] += 1
            self.expected.append(Change("products", product["id"], product["version"]))

    def _stock(self, fails: bool) -> None:
        variant = self._chance.choice(self._any()["variants"])
        body = {"delta": -(10**6) if fails else 1, "reason": "counted"}
        if (level := self._send("POST", f"/variants/{variant['id']}/stock", body)) is not None:
            variant["stock version"] = level["version"]
            self.expected.append(Change("stock_levels", variant["id"], level["version"]))

    def _add_variant(self, fails: bool) -> None:
        product = self._any()
        body = factories.variant_body()
        if fails:
            body["sku"] = product["variants"][0]["sku"]
        variant = self._send("POST", f"/products/{product['id']}/variants", body)
        if variant is not None:
            product["variants"].append(variant)
            self._expect_variant(variant["id"], 1)

    def _drop_variant(self, fails: bool) -> None:
        product = self._any()
        variant = self._chance.choice(product["variants"])
        tag = '"77"' if fails else "*"
        # The last one cannot be dropped, which is another way to fail.
        if self._send("DELETE", f"/variants/{variant['id']}", tag=tag) is not None:
            product["variants"].remove(variant)
            self._expect_gone(variant)

    def _delete(self, fails: bool) -> None:
        product = self._any()
        tag = '"77777"' if fails else "*"
        if self._send("DELETE", f"/products/{product['id']}", tag=tag) is not None:
            self._products.remove(product)
            self.expected.append(Change("products", product["id"], product["version"] + 1))
            for variant in product["variants"]:
                self._expect_gone(variant)

    def _any(self) -> dict[str, Any]:
        return self._chance.choice(self._products)

    def _expect_variant(self, id_: int, version: int) -> None:
        self.expected += [Change("variants", id_, version), Change("stock_levels", id_, version)]

    def _expect_gone(self, variant: dict[str, Any]) -> None:
        stock = variant.get("stock version", 1)
        self.expected += [
            Change("variants", variant["id"], 2), Change("stock_levels", variant["id"], stock + 1)
        ]  # fmt: skip


@pytest.mark.parametrize(
    "count", [120, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(3600)])]
)
def test_there_is_an_event_if_and_only_if_there_was_a_commit(
    app: Flask, staff: dict[str, str], engine: Engine, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DO-01."""
    before, seed, sink = entries(app), secrets.randbits(32), MemorySink()
    mutations = Mutations(app.test_client(), staff, random.Random(seed))
    monkeypatch.setattr("shop.db.crash_point", mutations.pass_point)
    with RunningDrain(engine, sink, window=50, batch=50):
        mutations.make(count)
        eventually(lambda: cursor(engine) == entries(app), 60)

    events = [json.loads(message) for message in sink.messages][before:]
    told = Counter(
        Change(it["data"]["table"], it["data"]["id"], int(it["sequence"])) for it in events
    )
    assert told == Counter(mutations.expected)
    done = sum(mutations.statuses[status] for status in (200, 201, 204))
    assert {200, 201, 204, 409, 412, "died"} <= set(mutations.statuses)
    assert max(it for it in mutations.statuses if isinstance(it, int)) < 500
    tell(f"seed {seed}: {count} requests, {done} done, {count - done} failed, {len(events)} events,"
         " one to one")  # fmt: skip
