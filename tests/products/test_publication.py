"""Drafts that become active by themselves, and what is hidden until then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.db import db, transactional
from shop.products import jobs
from shop.products.models import Product
from tests import factories
from tests.web.checks import assert_problem

Headers = dict[str, str]
URL = "/api/v1/products"
ANY_VERSION = {"If-Match": "*"}
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def publish(app: Flask, moment: datetime) -> int:
    """Let the job run at a moment; how many products it made active."""

    @transactional
    def run() -> dict[str, Any]:
        return jobs.publish(db.session(), moment)

    with app.app_context():
        number: int = run()["published"]
        return number


def draft(client: FlaskClient, staff: Headers, at: str, **more: Any) -> dict[str, Any]:
    """A draft that becomes active at a time."""
    return factories.create_product(client, staff, status="draft", publish_at=at, **more)


def test_a_draft_becomes_active_when_its_time_has_come(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    made = draft(client, staff, "2026-12-01T12:00:00Z")
    path = f"{URL}/{made['id']}"
    assert made["publish_at"] == "2026-12-01T12:00:00Z"

    assert publish(app, NOON - timedelta(microseconds=1)) == 0
    assert_problem(client.get(path), "not-found")
    assert publish(app, NOON) == 1
    assert publish(app, NOON) == 0

    shown = client.get(path).get_json()
    assert (shown["status"], shown["publish_at"], shown["version"]) == ("active", None, 2)


def test_a_publication_by_the_scheduler_is_audited_in_its_name(
    app: Flask, client: FlaskClient, staff: Headers, session: Session
) -> None:
    made = draft(client, staff, "2020-01-01T00:00:00Z")

    ran = app.test_cli_runner().invoke(args=["jobs", "run", "publish"])

    assert "done" in ran.output, ran.output
    entries = session.scalars(
        select(AuditEntry).where(
            AuditEntry.table_name == "products", AuditEntry.row_id == made["id"]
        )
    ).all()
    assert [(entry.action, entry.sequence) for entry in entries] == [("insert", 1), ("update", 2)]
    assert entries[1].actor == "jobs/publish"
    assert '"status":"draft"' in entries[1].data
    assert '"status":"active"' in entries[1].data


def test_a_run_publishes_some_and_the_next_ones_the_rest(
    app: Flask, client: FlaskClient, staff: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BATCH", 2)
    later = draft(client, staff, "2026-11-30T00:00:00Z")
    for _ in range(2):
        draft(client, staff, "2026-11-29T00:00:00Z")

    assert publish(app, NOON) == 2
    assert client.get(f"{URL}/{later['id']}").status_code == 404, "it waited less than the others"
    assert publish(app, NOON) == 1
    assert publish(app, NOON) == 0


@pytest.mark.parametrize("status", ["active", "archived"])
def test_only_a_draft_has_a_time_of_publication(
    client: FlaskClient, staff: Headers, status: str
) -> None:
    at = {"publish_at": "2026-12-01T12:00:00Z"}

    made = client.post(URL, json=factories.product_body(status=status, **at), headers=staff)

    assert_problem(made, "validation", "/publish_at")
    path = f"{URL}/{factories.create_product(client, staff, status=status)['id']}"
    for body in (at, at | {"status": status}):
        changed = client.patch(path, json=body, headers=staff | ANY_VERSION)
        assert_problem(changed, "validation", "/publish_at")
    both = client.patch(path, json=at | {"status": "draft"}, headers=staff | ANY_VERSION)
    assert (both.status_code, both.get_json()["status"]) == (200, "draft")


def test_a_draft_that_becomes_something_else_by_hand_forgets_its_time(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    path = f"{URL}/{draft(client, staff, '2026-12-01T12:00:00Z')['id']}"

    for status in ("archived", "draft"):
        changed = client.patch(path, json={"status": status}, headers=staff | ANY_VERSION)
        assert changed.get_json()["publish_at"] is None
    assert publish(app, NOON) == 0


def test_a_time_of_publication_can_be_taken_back(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    path = f"{URL}/{draft(client, staff, '2026-12-01T12:00:00Z')['id']}"

    client.patch(path, json={"publish_at": None}, headers=staff | ANY_VERSION)

    assert publish(app, NOON) == 0


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2026-12-01T12:00:00.123456Z", "2026-12-01T12:00:00.123456Z"),
        ("2026-12-01T12:00:00+05:30", "2026-12-01T06:30:00Z"),
        # 02:30 is skipped in Berlin that night: an offset leaves nothing to guess.
        ("2026-03-29T02:30:00+01:00", "2026-03-29T01:30:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00-14:00", "0001-01-01T14:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_time_is_stored_as_the_instant_that_it_is(
    client: FlaskClient, staff: Headers, session: Session, sent: str, shown: str
) -> None:
    """IN-10: the same on both engines."""
    made = draft(client, staff, sent)

    read = client.get(f"{URL}/{made['id']}", headers=staff).get_json()
    assert made["publish_at"] == read["publish_at"] == shown
    (stored,) = session.scalars(select(Product.publish_at))
    assert stored == datetime.fromisoformat(shown)


@pytest.mark.parametrize(
    "value",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z",
     "2026-12-31T23:59:60Z", "2026-12-01T12:00:00", "2026-12-01", "2026-03-29T02:30:00",
     1_795_355_200, 1_795_355_200.5, "1795355200", "now", "", True, {}],
)  # fmt: skip
def test_what_is_no_instant_is_refused(client: FlaskClient, staff: Headers, value: Any) -> None:
    """IN-10."""
    body = factories.product_body(status="draft", publish_at=value)

    answer = client.post(URL, json=body, headers=staff)

    assert_problem(answer, "validation", "/publish_at")


def archived(client: FlaskClient, staff: Headers, product: dict[str, Any]) -> None:
    """The product leaves the shop window."""
    path = f"{URL}/{product['id']}"
    client.patch(path, json={"status": "archived"}, headers=staff | ANY_VERSION)


def drafted(client: FlaskClient, staff: Headers, product: dict[str, Any]) -> None:
    """The product goes back to be worked on, until it is time."""
    path, body = f"{URL}/{product['id']}", {"status": "draft", "publish_at": "2999-01-01T00:00:00Z"}
    client.patch(path, json=body, headers=staff | ANY_VERSION)


@pytest.mark.parametrize("hide", [archived, drafted])
def test_hidden_things_stay_hidden(
    app: Flask,
    client: FlaskClient,
    staff: Headers,
    customer: Headers,
    hide: Callable[[FlaskClient, Headers, dict[str, Any]], None],
) -> None:
    """AZ-12: by id, slug and former slug, in lists and counts, and with all that hangs on it."""
    shelf = client.post("/api/v1/categories", json={"name": "Shelf"}, headers=staff).get_json()
    made = factories.create_product(
        client, staff, slug="old-oak", category_id=shelf["id"], external_reference="ERP-1"
    )
    client.patch(f"{URL}/{made['id']}", json={"slug": "oak"}, headers=staff | ANY_VERSION)
    author = factories.sign_in(app, "customer")
    written = client.post(f"{URL}/{made['id']}/reviews", json={"rating": 5}, headers=author)
    review = written.headers["Location"]
    client.post(f"{review}/approve", headers=staff)
    places = [f"{URL}/{made['id']}", f"{URL}/oak", f"{URL}/old-oak",
              f"{URL}/{made['id']}/reviews", review]  # fmt: skip
    assert [client.get(place).status_code for place in places] == [200, 200, 301, 200, 200]

    hide(client, staff, made)

    for headers in ({}, customer):
        for place in places:
            assert_problem(client.get(place, headers=headers), "not-found")
        for query in ("", f"?category={shelf['id']}", "?status=draft", "?status=archived"):
            assert client.get(f"{URL}{query}", headers=headers).get_json()["items"] == []
        tree = client.get("/api/v1/categories", headers=headers).get_json()["items"]
        assert [category["product_count"] for category in tree] == [0]
    for verb, tail, body in (("PUT", "/vote", None), ("POST", "/reports", {"reason": "spam"})):
        answer = client.open(f"{review}{tail}", method=verb, json=body, headers=customer)
        assert_problem(answer, "not-found")
    written = client.post(f"{URL}/{made['id']}/reviews", json={"rating": 5}, headers=customer)
    assert_problem(written, "not-found")
    assert client.get(review, headers=author).status_code == 200, "one's own words stay"


def test_an_archived_product_is_edited_by_staff_and_brought_back(
    client: FlaskClient, staff: Headers
) -> None:
    made = factories.create_product(client, staff)
    path = f"{URL}/{made['id']}"
    archived(client, staff, made)

    renamed = client.patch(path, json={"name": "Elm"}, headers=staff | {"If-Match": '"2"'})
    assert renamed.get_json()["name"] == "Elm"
    assert client.get(path, headers=staff).status_code == 200
    assert client.get(path).status_code == 404
    client.patch(path, json={"status": "active"}, headers=staff | {"If-Match": '"3"'})
    assert client.get(path).get_json()["name"] == "Elm"
