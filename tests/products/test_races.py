"""Staff edits while others buy, and edits at the same time as others: nothing gets lost."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.products.models import StockLevel, StockMovement
from tests import factories

Headers = dict[str, str]


class Shelf:
    """A variant of which many are there, and everything that was answered about it."""

    def __init__(self, app: Flask, staff: Headers, on_hand: int) -> None:
        self._app, self._staff = app, staff
        body = factories.product_body(variants=[factories.variant_body(stock=on_hand)])
        made = app.test_client().post("/api/v1/products", json=body, headers=staff).get_json()
        self._address = f"/api/v1/variants/{made['variants'][0]['id']}/stock"

    def change(self, **change: int) -> int | None:
        """By how much the stock was changed; None when it was refused."""
        body = {"reason": "race"} | change
        client = self._app.test_client()
        answer = client.post(self._address, json=body, headers=self._staff)
        assert answer.status_code in (200, 409), answer.text
        if answer.status_code == 409:
            return None
        assert answer.get_json()["on_hand"] >= 0
        return change["delta"] if "delta" in change else change["set"] - change["expected"]

    def count_and_set(self, off_by: int) -> int | None:
        """Set the stock to what was counted, if it is still what it was."""
        client = self._app.test_client()
        there = client.get(self._address, headers=self._staff).get_json()["on_hand"]
        return self.change(set=max(there + off_by, 0), expected=there)


@pytest.mark.parametrize("takes", [200, pytest.param(5_000, marks=pytest.mark.full)])
@pytest.mark.timeout(1200)
def test_stock_is_conserved_while_staff_corrects_it(
    app: Flask, staff: Headers, session: Session, takes: int
) -> None:
    """CC-09: purchases against +n, -n and counts."""
    start = takes * 3 // 4
    shelf, chance = Shelf(app, staff, start), random.Random(9)
    work: list[tuple[str, int]] = [("take", -1)] * takes
    work += [("delta", n) for n in (7, -7, 30, -30)] * (takes // 40)
    work += [("count", n) for n in (-3, 4)] * (takes // 40)
    chance.shuffle(work)

    def do(what: tuple[str, int]) -> int | None:
        kind, number = what
        return shelf.count_and_set(number) if kind == "count" else shelf.change(delta=number)

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(do, work))

    level = session.execute(select(StockLevel)).scalar_one()
    changes = [number for number in done if number is not None]
    assert level.on_hand == start + sum(changes) >= 0
    total, lowest = session.execute(
        select(func.sum(StockMovement.delta), func.min(StockMovement.on_hand))
    ).one()
    assert (int(total), lowest >= 0) == (level.on_hand, True)
    sequences = session.scalars(
        select(AuditEntry.sequence).where(AuditEntry.table_name == "stock_levels")
    )
    assert sorted(sequences) == list(range(1, level.version + 1))
    assert level.version == 1 + len(changes)


@pytest.mark.parametrize("rounds", [25, pytest.param(500, marks=pytest.mark.full)])
@pytest.mark.parametrize("header", ["tag", "*"])
@pytest.mark.timeout(1200)
def test_two_edits_of_different_fields_are_both_kept_or_one_is_refused(
    app: Flask, client: FlaskClient, staff: Headers, rounds: int, header: str
) -> None:
    """CC-10: neither overwrites the other, whether both name the version that they read or not."""
    path = f"/api/v1/products/{factories.create_product(client, staff)['id']}"
    outcomes = []
    for number in range(rounds):
        tag = client.get(path, headers=staff).headers["ETag"]
        headers = staff | {"If-Match": tag if header == "tag" else "*"}
        together = threading.Barrier(2)

        def edit(
            change: dict[str, Any],
            headers: Headers = headers,
            together: threading.Barrier = together,
        ) -> int:
            together.wait(20)
            return app.test_client().patch(path, json=change, headers=headers).status_code

        wishes: list[dict[str, Any]] = [
            {"name": f"Name {number}"}, {"description": f"Text {number}"},
        ]  # fmt: skip
        with ThreadPoolExecutor(2) as pool:
            statuses = list(pool.map(edit, wishes))

        shown = client.get(path, headers=staff).get_json()
        for wish, status in zip(wishes, statuses, strict=True):
            (field,) = wish
            assert (shown[field] == wish[field]) == (status == 200), (statuses, shown)
        outcomes.append(tuple(sorted(statuses)))

    wanted = {(200, 412)} if header == "tag" else {(200, 200)}
    assert set(outcomes) == wanted
