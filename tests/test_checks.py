"""`flask shop verify` finds whatever was changed behind the shop's back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from shop import checks
from shop.audit.sequencer import stamp
from shop.db import writing
from tests import factories

Headers = dict[str, str]
PRODUCTS = "/api/v1/products"


@pytest.fixture
def verify(app: Flask) -> Callable[[], tuple[int, dict[str, Any]]]:
    """Runs the command; its exit code and what it found, by the name of the check."""

    def run() -> tuple[int, dict[str, Any]]:
        result = app.test_cli_runner().invoke(args=["shop", "verify"])
        report = json.loads(result.stdout)
        assert report["sound"] == (result.exit_code == 0)
        return result.exit_code, {check["name"]: check for check in report["checks"]}

    return run


@pytest.fixture
def stocked(app: Flask, client: FlaskClient, staff: Headers, engine: Engine) -> dict[str, Any]:
    """A shop in which something of everything happened; the product that all is about."""
    attributes = {"wood": "oak"}
    product = factories.create_product(client, staff, status="active", attributes=attributes)
    gone = factories.create_product(client, staff, status="active")
    for answer in (
        client.delete(f"{PRODUCTS}/{gone['id']}", headers=staff | {"If-Match": "*"}),
        client.post("/api/v1/categories", json={"name": "Oak"}, headers=staff),
        client.post(
            f"/api/v1/variants/{product['variants'][0]['id']}/stock",
            json={"delta": -2, "reason": "sold"}, headers=staff,
        ),
    ):  # fmt: skip
        assert answer.status_code < 300, answer.text
    review(app, client, staff, product["id"])
    while stamp(engine):
        pass
    return product


def review(app: Flask, client: FlaskClient, staff: Headers, product: int) -> None:
    """An approved review that somebody found helpful and somebody reported."""
    author, reader = (factories.sign_in(app, "customer") for _ in range(2))
    body = {"rating": 4, "title": "Good"}
    written = client.post(f"{PRODUCTS}/{product}/reviews", json=body, headers=author)
    where = written.headers["Location"]
    assert client.post(f"{where}/approve", headers=staff).status_code == 200
    assert client.put(f"{where}/vote", headers=reader).status_code == 204
    reason = {"reason": "rude"}
    assert client.post(f"{where}/reports", json=reason, headers=reader).status_code == 202


def test_a_shop_that_was_only_used_is_sound(
    verify: Callable[[], Any], stocked: dict[str, Any]
) -> None:
    code, found = verify()

    assert code == 0, found
    checked = {
        "audit-positions", "audit-sequences", "audit-rows", "stock", "listings", "ratings",
        "review-counts", "listed-values",
    }  # fmt: skip
    assert set(found) >= checked
    # Those of orders have tests of their own.
    assert all(found[name]["looked_at"] > 0 for name in checked)
    assert found["stock"]["looked_at"] == 1


#: What somebody does by SQL, the check that finds it, and a part of the finding.
HARM: dict[str, tuple[str, str, dict[str, Any]]] = {
    "stock was counted without a movement": (
        "UPDATE stock_levels SET on_hand = on_hand + 1", "stock",
        {"on_hand": 6, "sum_of_movements": 5, "last_movement": 5},
    ),
    "a movement was removed": (
        "DELETE FROM stock_movements WHERE delta = -2", "stock",
        {"on_hand": 5, "sum_of_movements": 7, "last_movement": 7},
    ),
    "the ledger is empty": (
        "DELETE FROM stock_movements", "stock", {"on_hand": 5, "sum_of_movements": None},
    ),
    "a movement tells another stock": (
        "UPDATE stock_movements SET on_hand = 9 WHERE delta = -2", "stock", {"last_movement": 9},
    ),
    "a listing is missing": (
        "DELETE FROM product_listings", "listings", {"status": None, "price_from": None},
    ),
    "a listing shows another price": (
        "UPDATE product_listings SET price_from = 1", "listings", {"price_from": 1},
    ),
    "a listing counts what is not there": (
        "UPDATE product_listings SET stocked_variants = 2", "listings", {"stocked_variants": 2},
    ),
    "a draft is listed": (
        "UPDATE products SET status = 'draft'", "listings", {"status": "active"},
    ),
    "a value is listed at another price": (
        "UPDATE listed_values SET price_from = 1", "listed-values", {"price_from": 1},
    ),
    "stars were added": (
        "UPDATE product_ratings SET stars_5 = 1", "ratings", {"stars_5": 1, "counted_5": 0},
    ),
    "ratings are missing": (
        "DELETE FROM product_ratings", "ratings", {"stars_4": 0, "counted_4": 1},
    ),
    "an approved review was taken away": (
        "UPDATE reviews SET status = 'rejected'", "ratings", {"stars_4": 1, "counted_4": 0},
    ),
    "a vote was removed": (
        "DELETE FROM review_votes", "review-counts", {"helpful_count": 1, "votes": 0},
    ),
    "a report was removed": (
        "DELETE FROM review_reports", "review-counts", {"report_count": 1, "reports": 0},
    ),
    "a row was changed and its version raised": (
        "UPDATE categories SET version = 2", "audit-rows",
        {"table": "categories", "version": 2, "last_entry": None},
    ),
    "a version was set back": (
        "UPDATE stock_levels SET version = 1", "audit-rows",
        {"table": "stock_levels", "version": 1, "further_entry": "update"},
    ),
    "a row was removed": (
        "DELETE FROM categories", "audit-rows", {"table": "categories", "last_entry": "insert"},
    ),
    "a deletion was taken out of the log": (
        "DELETE FROM audit_log WHERE action = 'delete' AND table_name = 'stock_levels'",
        "audit-rows", {"table": "stock_levels", "last_entry": "insert"},
    ),
    "a row lost its only entry": (
        "DELETE FROM audit_log WHERE table_name = 'categories'", "audit-rows",
        {"table": "categories", "version": 1, "last_entry": None},
    ),
    "an entry shows another version": (
        "UPDATE audit_log SET data = REPLACE(data, '\"version\"\\:1', '\"version\"\\:7')"
        " WHERE table_name = 'categories'", "audit-rows", {"table": "categories"},
    ),
    "a live row was said to be deleted": (
        "UPDATE audit_log SET action = 'delete' WHERE table_name = 'categories'", "audit-rows",
        {"table": "categories", "last_entry": "delete"},
    ),
    "the first entry of a row is missing": (
        "DELETE FROM audit_log WHERE table_name = 'stock_levels' AND sequence = 1"
        " AND row_id IN (SELECT variant_id FROM stock_levels)", "audit-sequences",
        {"table_name": "stock_levels", "entries": 1, "first": 2, "last": 2},
    ),
    "an entry in the middle is missing": (
        "DELETE FROM audit_log WHERE table_name = 'reviews' AND sequence = 2", "audit-sequences",
        {"table_name": "reviews", "first": 1, "last": 4, "entries": 3},
    ),
    "a position is missing": (
        "UPDATE audit_log SET position = NULL WHERE position = 3", "audit-positions",
        {"what": "a hole", "position": 3},
    ),
    "the first position is missing": (
        "UPDATE audit_log SET position = NULL WHERE position = 1", "audit-positions",
        {"what": "not the first", "position": 2},
    ),
    "the head lags behind": (
        "UPDATE audit_head SET position = position - 1", "audit-positions",
        {"what": "not the head"},
    ),
    "the head is gone": ("DELETE FROM audit_head", "audit-positions", {"head": None}),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
def test_what_was_done_by_sql_is_found(
    verify: Callable[[], Any], stocked: dict[str, Any], engine: Engine, harm: str
) -> None:
    statement, check, part = HARM[harm]
    with writing(engine) as connection:
        assert connection.execute(text(statement)).rowcount > 0

    code, found = verify()

    assert code == 1
    findings = found[check]["findings"]
    assert any(part.items() <= finding.items() for finding in findings), findings
    assert not found[check]["more"]


def test_the_first_hundred_findings_are_enough(
    app: Flask, verify: Callable[[], Any], engine: Engine
) -> None:
    made = app.test_cli_runner().invoke(args=["shop", "demo", "--products", "150"])
    assert made.exit_code == 0, made.output
    with writing(engine) as connection:
        connection.execute(text("UPDATE stock_levels SET on_hand = on_hand + 1"))

    code, found = verify()

    assert code == 1
    assert len(found["stock"]["findings"]) == checks.MOST_FINDINGS
    assert found["stock"]["more"]
    assert found["stock"]["looked_at"] >= 150


def test_a_shop_without_anything_is_sound(verify: Callable[[], Any]) -> None:
    code, _found = verify()

    assert code == 0
