"""Crowds at two real workers: the last units, many products at once, contradicting wishes."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.chaos.history import tell
from tests.orders.crowds import KINDS, Crowd, crowd_at, overlapping, statuses

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(300)]


def sizes(quick: Any, full: Any, *, kinds: tuple[str, ...] = ("sqlite", "mariadb")) -> Any:
    """Each kind of database quickly, and in full: SQLite, and every kind of MariaDB."""
    slow = [pytest.mark.full, pytest.mark.timeout(1800)]
    every = ("sqlite", *(kind for kind in KINDS if KINDS[kind]))
    return [
        *(pytest.param(kind, quick, id=f"{kind}-quick") for kind in kinds),
        *(pytest.param(kind, full, id=f"{kind}-full", marks=slow) for kind in every),
    ]


@dataclass(frozen=True, slots=True)
class Rush:
    """How many want something of which how much is there, and how many of them at once."""

    attempts: int
    units: int
    parallel: int


@pytest.mark.parametrize(("kind", "rush"), sizes(Rush(300, 20, 16), Rush(10_000, 100, 64)))
def test_the_last_units_are_sold_once(
    kind: str, rush: Rush, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-01, CC-14, G2."""
    attempts = min(rush.attempts, 2_000) if kind == "sqlite" else rush.attempts
    with crowd_at(kind, tmp_path, request) as crowd:
        oak = crowd.product(stock=rush.units)

        tries = crowd.all_at_once(
            attempts, rush.parallel, lambda _number: crowd.order((oak["sku"], 1))
        )

        assert statuses(tries) == {201: rush.units, 409: attempts - rush.units}
        slugs = {it.body["type"] for it in tries if it.status == 409}
        assert slugs == {"/problems/out-of-stock"}
        assert overlapping(tries) >= 0.9
        assert crowd.on_hand(oak["id"]) == 0
        assert crowd.sql("SELECT COUNT(*) FROM orders") == [(rush.units,)]
        crowd.verify()
    seconds = max(it.ended for it in tries) - min(it.started for it in tries)
    tell(f"{kind}: {attempts} attempts for {rush.units} units in {seconds:.1f} s")


@pytest.mark.parametrize(("kind", "carts"), sizes(200, 5_000))
def test_carts_of_many_products_in_any_order_are_served_without_a_deadlock(
    kind: str, carts: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-02, CC-14, G3."""
    seed = secrets.randbits(32)
    stock = carts // 5
    with crowd_at(kind, tmp_path, request) as crowd:
        products = [crowd.product(stock=stock) for _ in range(20)]

        def buy(number: int) -> requests.Response:
            chosen = random.Random(f"{seed}/{number}").sample(products, 5)
            return crowd.order(*((product["sku"], 1 + number % 2) for product in chosen))

        tries = crowd.all_at_once(carts, 16, buy)

        found = statuses(tries)
        assert set(found) <= {201, 409}, found
        assert found[201] > carts // 4
        assert overlapping(tries) >= 0.9
        left = sum(crowd.on_hand(product["id"]) for product in products)
        ((sold,),) = crowd.sql("SELECT SUM(quantity) FROM order_items")
        assert 20 * stock == left + int(sold)
        crowd.verify()
    tell(f"{kind}: seed {seed}, {carts} carts, {dict(found)}")


#: What is sent for a wish.
WISHES: dict[str, Any] = {"cancel": None, "ship": {}, "payments": {}, "refunds": {"reason": "x"}}
#: How an order may end that somebody wanted to cancel, somebody to send and somebody to pay.
ENDS = {
    ("cancelled", "unpaid", "unfulfilled"), ("cancelled", "refunded", "unfulfilled"),
    ("cancelled", "failed", "unfulfilled"), ("placed", "paid", "shipped"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "rounds"), sizes(30, 500))
def test_of_contradicting_wishes_one_is_fulfilled(
    kind: str, rounds: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-05, CC-14: cancel, ship and pay at once; every other order is paid already."""
    with crowd_at(kind, tmp_path, request) as crowd:
        oak = crowd.product(stock=rounds)
        ends = set()
        for number in range(rounds):
            order = crowd.order((oak["sku"], 1)).json()["id"]
            wishes = ["cancel", "ship", "payments"]
            if number % 2:
                assert crowd.call("POST", f"/orders/{order}/payments", {}).status_code == 201
                wishes = ["cancel", "ship", "refunds"]

            def wish(number: int, order: int = order, wishes: list[str] = wishes) -> Any:
                name = wishes[number]
                return crowd.call("POST", f"/orders/{order}/{name}", WISHES[name])

            tries = crowd.all_at_once(3, 3, wish)

            assert set(statuses(tries)) <= {200, 201, 409}
            ends.add(end_of(crowd, order))
        assert ends <= ENDS | {("placed", "refunded", "shipped")}
        assert len(ends) > 1, "they did not even meet"
        crowd.verify()
    tell(f"{kind}: {rounds} rounds, {ends}")


def end_of(crowd: Crowd, order: int) -> tuple[str, ...]:
    """Where an order has come to; a payment that came after all counts as what it leads to."""
    found = crowd.call("GET", f"/orders/{order}").json()
    return found["status"], found["payment_status"], found["fulfilment_status"]


@pytest.mark.parametrize(("kind", "refunds"), sizes(40, 100))
def test_refunds_at_once_never_exceed_what_was_paid(
    kind: str, refunds: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-04, CC-14."""
    with crowd_at(kind, tmp_path, request) as crowd:
        oak = crowd.product(stock=10, amount=1000)
        for parts in (1, 2):
            order = crowd.order((oak["sku"], 1)).json()["id"]
            crowd.call("POST", f"/orders/{order}/payments", {})
            money = {"amount": 1000 // parts, "currency": "EUR"}
            body = {"amount": money, "reason": "broken"}

            def give_back(_number: int, order: int = order, body: Any = body) -> Any:
                return crowd.call("POST", f"/orders/{order}/refunds", body)

            tries = crowd.all_at_once(refunds, 16, give_back)

            assert statuses(tries) == {201: parts, 409: refunds - parts}
        crowd.verify()


@pytest.mark.parametrize(
    ("kind", "orders"),
    [pytest.param("sqlite", 150, id="quick"),
     pytest.param("sqlite", 2_000, id="full", marks=pytest.mark.full)],
)  # fmt: skip
def test_many_writers_on_sqlite_wait_for_each_other(
    kind: str, orders: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-15."""
    with crowd_at(kind, tmp_path, request) as crowd:
        oak = crowd.product(stock=orders)

        tries = crowd.all_at_once(orders, 16, lambda _number: crowd.order((oak["sku"], 1)))

        assert statuses(tries) == {201: orders}
        assert crowd.on_hand(oak["id"]) == 0
        crowd.verify()


@pytest.mark.parametrize(("kind", "orders"), sizes(50, 1_000))
def test_who_has_ordered_finds_the_order_at_once_on_any_worker(
    kind: str, orders: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """CC-17."""
    with crowd_at(kind, tmp_path, request) as crowd:
        oak = crowd.product(stock=orders)

        def order_and_look(_number: int) -> requests.Response:
            number = crowd.order((oak["sku"], 1)).json()["number"]
            # Not the connection of the order: perhaps another worker.
            url = f"{crowd.shop.url}/api/v1/orders/{number}"
            return requests.get(url, headers=crowd.headers, timeout=20)

        assert statuses(crowd.all_at_once(orders, 8, order_and_look)) == {200: orders}
