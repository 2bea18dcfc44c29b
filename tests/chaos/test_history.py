"""The checker that the killing tests rely on finds each kind of harm when there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from shop.audit.events import events_after
from shop.audit.sequencer import stamp
from tests import factories
from tests.chaos.history import Change, Ledger, check
from tests.conftest import create_shop
from tests.running import Arrival

History = list[Arrival]


def _lose(heard: History) -> History:
    return heard[:-1]


def _alter(heard: History) -> History:
    other = heard[0].payload.replace(b'"specversion"', b' "specversion"')
    return [*heard, Arrival(heard[0].topic, other, 0)]


def _invent(heard: History) -> History:
    event = orjson.loads(heard[0].payload) | {"id": "01INVENTED"}
    return [*heard, Arrival(heard[0].topic, orjson.dumps(event), 0)]


def _swap(heard: History) -> History:
    """Deliver the last change of the product before its creation."""
    own = [n for n, arrival in enumerate(heard) if arrival.topic.startswith("shop/products/")]
    swapped = list(heard)
    swapped[own[0]], swapped[own[-1]] = heard[own[-1]], heard[own[0]]
    return swapped


def _repeat(heard: History) -> History:
    return [*heard, *heard]


@pytest.fixture
def shop(tmp_path: Path) -> Flask:
    """A shop in which a product was made and renamed."""
    app = create_shop(tmp_path)
    staff = factories.sign_in(app, role="staff")
    client: FlaskClient = app.test_client()
    product = factories.create_product(client, staff)
    headers = staff | {"If-Match": f'"{product["version"]}"'}
    address = f"/api/v1/products/{product['id']}"
    assert client.patch(address, json={"name": "Ash"}, headers=headers).status_code == 200
    stamp(app.extensions["shop"].engine)
    return app


def _heard(app: Flask) -> History:
    with app.extensions["shop"].engine.connect() as connection:
        events = events_after(connection, 0, 100)
    return [Arrival(f"shop/{e.table}/{e.row_id}", e.message(), 0) for e in events]


def _check(app: Flask, heard: History, ledger: Ledger, most: int | None = None) -> None:
    url = app.extensions["shop"].config.database
    check(url, ledger, heard, prefix="shop", most_duplicates=most, patience=0.2)


def test_the_checker_is_content_with_an_honest_history(shop: Flask) -> None:
    ledger = Ledger(acknowledged=[Change("products", 1, 1), Change("products", 1, 2)])
    _check(shop, _repeat(_heard(shop)), ledger, most=len(_heard(shop)))


@pytest.mark.parametrize("harm", [_lose, _alter, _invent, _swap])
def test_the_checker_finds_deliveries_that_are_wrong(
    shop: Flask, harm: Callable[[History], History]
) -> None:
    with pytest.raises(AssertionError):
        _check(shop, harm(_heard(shop)), Ledger())


def test_the_checker_finds_too_many_repetitions(shop: Flask) -> None:
    with pytest.raises(AssertionError, match="duplicates"):
        _check(shop, _repeat(_heard(shop)), Ledger(), most=3)


def test_the_checker_finds_an_acknowledged_change_that_left_no_entry(shop: Flask) -> None:
    with pytest.raises(AssertionError, match="left no entry"):
        _check(shop, _heard(shop), Ledger(acknowledged=[Change("products", 1, 3)]))
