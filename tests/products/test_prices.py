"""What variants cost and did cost, and the prior price beside a reduced one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.products.models import PriceChange
from tests import factories
from tests.web.checks import assert_problem

Headers = dict[str, str]
ANY_VERSION = {"If-Match": "*"}
START = datetime(2026, 6, 1, tzinfo=UTC)


def money(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "EUR"}


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A clock that stands still until it is moved."""
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


class Priced:
    """A variant whose price is changed on days."""

    def __init__(self, app: Flask, clock: time_machine.Traveller) -> None:
        self._app, self._clock, self._client = app, clock, app.test_client()
        staff = factories.sign_in(app, "staff")
        body = factories.variant_body(price=money(100))
        self.product = factories.create_product(self._client, staff, variants=[body])
        self.address = f"/api/v1/variants/{self.product['variants'][0]['id']}"

    def costs(self, amount: int, *, days: float) -> int | None:
        """Change the price so many days after the start; the prior price that is shown then."""
        self._clock.move_to(START + timedelta(days=days))
        # No session lasts as long as these stories.
        staff = factories.sign_in(self._app, "staff")
        answer = self._client.patch(
            self.address, json={"price": money(amount)}, headers=staff | ANY_VERSION
        )
        assert answer.status_code == 200, answer.text
        shown = self.shown()
        assert answer.get_json() == shown
        return None if shown["prior_price"] is None else int(shown["prior_price"]["amount"])

    def shown(self) -> dict[str, Any]:
        """The variant as everybody sees it, alone and in the list."""
        read = self._client.get(f"/api/v1/products/{self.product['id']}").get_json()
        listed = self._client.get("/api/v1/products").get_json()["items"]
        assert [read] == listed
        variant: dict[str, Any] = read["variants"][0]
        return variant


@pytest.fixture
def variant(app: Flask, clock: time_machine.Traveller) -> Priced:
    """A variant that costs 100 from the start."""
    return Priced(app, clock)


def test_a_reduced_price_shows_the_lowest_of_the_thirty_days_before(variant: Priced) -> None:
    assert variant.shown()["prior_price"] is None
    assert variant.costs(120, days=40) is None
    assert variant.costs(90, days=50) == 100, "in force until ten days ago"
    assert variant.shown()["price"] == money(90)
    assert variant.shown()["prior_price"] == money(100)


def test_what_is_lower_than_yesterday_but_not_than_the_lowest_is_no_reduction(
    variant: Priced,
) -> None:
    variant.costs(80, days=40)
    variant.costs(130, days=45)

    assert variant.costs(95, days=50) is None
    assert variant.costs(80, days=51) is None, "as low as the lowest is not lower"
    assert variant.costs(79, days=52) == 80


def test_a_price_that_ended_before_the_thirty_days_does_not_count(variant: Priced) -> None:
    variant.costs(50, days=10)
    variant.costs(100, days=20)

    assert variant.costs(90, days=50) == 100, "50 ended right when the thirty days began"


def test_a_price_that_ended_within_the_thirty_days_counts(variant: Priced) -> None:
    variant.costs(50, days=10)
    variant.costs(100, days=20)

    assert variant.costs(90, days=49.999) is None
    assert variant.costs(40, days=49.9995) == 50


def test_a_price_counts_however_long_it_has_been_in_force(variant: Priced) -> None:
    assert variant.costs(99, days=1000) == 100


def test_a_younger_variant_counts_the_days_that_it_has(variant: Priced) -> None:
    assert variant.costs(99, days=1) == 100


def test_each_step_of_a_series_is_compared_with_its_own_thirty_days(variant: Priced) -> None:
    assert variant.costs(90, days=40) == 100
    assert variant.costs(80, days=45) == 90
    assert variant.costs(70, days=80) == 80


def test_a_prior_price_stands_as_long_as_its_price_does(
    variant: Priced, clock: time_machine.Traveller
) -> None:
    variant.costs(90, days=40)
    before = variant.shown()

    clock.move_to(START + timedelta(days=4000))

    assert variant.shown() == before
    assert variant.costs(100, days=4001) is None


def test_what_is_no_change_of_price_leaves_the_prior_one(
    client: FlaskClient, variant: Priced, clock: time_machine.Traveller, session: Session
) -> None:
    variant.costs(90, days=40)

    assert variant.costs(90, days=41) == 100
    staff = factories.sign_in(client.application, "staff")
    client.patch(variant.address, json={"name": "L"}, headers=staff | ANY_VERSION)

    assert variant.shown()["prior_price"] == money(100)
    assert len(session.scalars(select(PriceChange)).all()) == 2


def test_the_history_is_kept_for_staff(
    client: FlaskClient, variant: Priced, staff: Headers, customer: Headers
) -> None:
    variant.costs(90, days=0.5)
    variant.costs(95, days=0.75)
    where = f"{variant.address}/prices"
    staff = factories.sign_in(client.application, "staff")

    first = client.get(f"{where}?limit=2", headers=staff).get_json()
    rest = client.get(f"{where}?limit=2&cursor={first['next_cursor']}", headers=staff).get_json()

    assert [item["price"]["amount"] for item in first["items"] + rest["items"]] == [95, 90, 100]
    assert [item["from_at"] for item in first["items"]] == [
        "2026-06-01T18:00:00Z", "2026-06-01T12:00:00Z",
    ]  # fmt: skip
    assert rest["next_cursor"] is None
    assert_problem(client.get(where), "unauthenticated")
    assert_problem(client.get("/api/v1/variants/999/prices", headers=staff), "not-found")


def test_price_and_history_are_kept_together_or_not_at_all(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    taken = factories.create_product(client, staff)["variants"][0]["sku"]
    made = factories.create_product(client, staff)["variants"][0]
    body = {"price": money(1), "sku": taken}

    refused = client.patch(f"/api/v1/variants/{made['id']}", json=body, headers=staff | ANY_VERSION)

    assert_problem(refused, "conflict")
    assert [row.price_amount for row in session.scalars(select(PriceChange))] == [19900, 19900]


def test_a_change_of_price_is_one_change_of_the_variant(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    made = factories.create_product(client, staff)["variants"][0]
    body = {"price": money(1), "sku": "NEW", "name": "L"}

    changed = client.patch(f"/api/v1/variants/{made['id']}", json=body, headers=staff | ANY_VERSION)

    assert changed.get_json()["version"] == 2
    data = session.scalars(
        select(AuditEntry.data).where(
            AuditEntry.table_name == "variants", AuditEntry.action == "update"
        )
    ).one()
    assert '"prior_price_amount":19900' in data


def test_a_new_product_costs_one_statement_for_the_prices_of_all_its_variants(
    client: FlaskClient, staff: Headers, engine: Engine, session: Session
) -> None:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    variants = [factories.variant_body() for _ in range(20)]
    event.listen(engine, "before_cursor_execute", note)
    factories.create_product(client, staff, variants=variants)
    event.remove(engine, "before_cursor_execute", note)

    assert "".join(statements).count("INSERT INTO price_changes") == 1
    assert len(session.scalars(select(PriceChange)).all()) == 20


def test_an_added_variant_has_a_history_too(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    made = factories.create_product(client, staff)
    body = factories.variant_body(price=money(5))

    added = client.post(f"/api/v1/products/{made['id']}/variants", json=body, headers=staff)

    last = session.scalars(select(PriceChange).order_by(PriceChange.id.desc())).first()
    assert last is not None
    assert (last.variant_id, last.price_amount) == (added.get_json()["id"], 5)


@pytest.mark.parametrize(
    "text",
    ["NaN", "Infinity", "-Infinity", "1e1000000", "1e400", "1e3", "19.90", "19.905", "-1", "1_000",
     "01", "+1", "0x10", '" 5 "', '"5"', '"1_000"', "true", "false", "null", "[]", "{}", "1.0",
     "0.30000000000000004", "1000000000001", "9" * 30],
)  # fmt: skip
def test_what_is_no_amount_is_refused_wherever_money_is_taken(
    client: FlaskClient, staff: Headers, text: str
) -> None:
    """IN-11: as it is written, without a library that would mend it."""
    made = factories.create_product(client, staff)
    variant = made["variants"][0]
    price = f'{{"amount": {text}, "currency": "EUR"}}'
    whole = f'{{"name": "x", "variants": [{{"sku": "A", "stock": 1, "price": {price}}}]}}'
    added = f'{{"sku": "A", "stock": 1, "price": {price}}}'
    tries = [
        ("POST", "/api/v1/products", whole),
        ("POST", f"/api/v1/products/{made['id']}/variants", added),
        ("PATCH", f"/api/v1/variants/{variant['id']}", f'{{"price": {price}}}'),
    ]

    for method, path, body in tries:
        headers = staff | ANY_VERSION | {"Content-Type": "application/json"}
        answer = client.open(path, method=method, data=body, headers=headers)
        # What is no JSON at all cannot be read.
        assert answer.status_code in (400, 422), (method, text, answer.text)
    assert client.get(f"/api/v1/products/{made['id']}").get_json() == made


def test_minus_nothing_is_nothing(client: FlaskClient, staff: Headers) -> None:
    """IN-11: -0 is the integer 0 to every JSON reader."""
    variant = factories.create_product(client, staff)["variants"][0]
    headers = staff | ANY_VERSION | {"Content-Type": "application/json"}
    body = '{"price": {"amount": -0, "currency": "EUR"}}'

    answer = client.patch(f"/api/v1/variants/{variant['id']}", data=body, headers=headers)

    assert answer.get_json()["price"] == money(0)
