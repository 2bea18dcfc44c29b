"""Ads over HTTP: who sees, makes and changes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop import clock
from shop.audit.models import AuditEntry
from tests import factories
from tests.ads.checks import ADS, TARGET, Headers, create_ad, happened
from tests.web.checks import assert_problem


def names(client: FlaskClient, query: str = "", headers: Headers | None = None) -> list[str]:
    """Names of the ads that are listed."""
    answer = client.get(f"{ADS}{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [ad["name"] for ad in answer.get_json()["items"]]


def test_a_shop_front_gets_the_ads_of_a_placement_that_are_open(
    client: FlaskClient, staff: Headers
) -> None:
    now = clock.now()
    past, future = (now - timedelta(hours=1)).isoformat(), (now + timedelta(hours=1)).isoformat()
    create_ad(client, staff, name="always")
    create_ad(client, staff, name="running", starts_at=past, ends_at=future)
    create_ad(client, staff, name="over", ends_at=past)
    create_ad(client, staff, name="to come", starts_at=future)
    create_ad(client, staff, name="elsewhere", placement="cart")
    for status in ("draft", "paused", "archived"):
        create_ad(client, staff, name=status, status=status)

    assert names(client, "?placement=home") == ["running", "always"]
    assert names(client, "?placement=home&status=draft") == ["running", "always"]
    assert names(client) == ["elsewhere", "running", "always"]
    assert names(client, "?placement=nowhere") == []
    assert len(names(client, "", staff)) == 8
    assert names(client, "?status=paused", staff) == ["paused"]
    first = client.get(f"{ADS}?limit=2").get_json()
    rest = client.get(f"{ADS}?limit=2&cursor={first['next_cursor']}").get_json()
    assert [ad["name"] for ad in (*first["items"], *rest["items"])] == names(client)
    assert rest["next_cursor"] is None


def test_what_is_not_open_is_seen_by_staff_alone(
    client: FlaskClient, staff: Headers, customer: Headers
) -> None:
    ad = create_ad(client, staff, status="paused")

    assert_problem(client.get(f"{ADS}/{ad}"), "not-found")
    assert_problem(client.get(f"{ADS}/{ad}", headers=customer), "not-found")
    assert client.get(f"{ADS}/{ad}", headers=staff).get_json()["status"] == "paused"


def test_only_staff_makes_changes_and_measures_ads(
    client: FlaskClient, staff: Headers, customer: Headers
) -> None:
    ad = create_ad(client, staff)
    calls: tuple[tuple[str, str, Any], ...] = (
        ("POST", "", {"name": "x", "target_url": TARGET}), ("PATCH", f"/{ad}", {"name": "x"}),
        ("DELETE", f"/{ad}", None), ("GET", f"/{ad}/stats", None),
    )  # fmt: skip
    for method, path, body in calls:
        asked = {"method": method, "json": body}
        assert_problem(client.open(f"{ADS}{path}", **asked), "unauthenticated")
        assert_problem(client.open(f"{ADS}{path}", headers=customer, **asked), "forbidden")
    assert client.get(f"{ADS}/{ad}").status_code == 200


def test_an_ad_is_changed_and_deleted_and_both_are_in_the_log(
    client: FlaskClient, staff: Headers, session: Session
) -> None:
    product = factories.create_product(client, staff)["id"]
    ad = create_ad(client, staff, product_id=product)
    where = f"{ADS}/{ad}"
    tag = client.get(where).headers["ETag"]

    changed = client.patch(where, json={"name": "Elm"}, headers=staff | {"If-Match": tag})
    stale = client.patch(where, json={"name": "Ash"}, headers=staff | {"If-Match": tag})

    assert changed.get_json() | {"name": "Elm", "version": 2} == changed.get_json()
    assert_problem(stale, "version-conflict")
    assert_problem(client.delete(where, headers=staff | {"If-Match": tag}), "version-conflict")
    assert client.delete(where, headers=staff).status_code == 204
    for gone in (where, f"{where}/click"):
        assert_problem(client.get(gone, headers=staff), "not-found")
    assert_problem(client.get(f"{where}/stats", headers=staff), "not-found")
    entries = session.scalars(
        select(AuditEntry).where(AuditEntry.table_name == "ads").order_by(AuditEntry.id)
    ).all()
    assert [(entry.sequence, entry.action) for entry in entries] == [
        (1, "insert"), (2, "update"), (3, "delete"),
    ]  # fmt: skip
    assert orjson.loads(entries[1].data)["before"]["name"] == "Oak week"


def test_what_makes_no_sense_is_refused(client: FlaskClient, staff: Headers) -> None:
    ad = create_ad(client, staff, starts_at="2026-01-02T00:00:00Z")
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"ends_at": "2026-01-02T00:00:00Z"}, "/ends_at"), ({"product_id": 10**9}, "/product_id"),
        ({"status": "open"}, "/status"), ({"placement": "Home page"}, "/placement"),
        ({"name": " "}, "/name"), ({"clicks": 7}, "/clicks"), ({"starts_at": "now"}, "/starts_at"),
    )  # fmt: skip
    for body, pointer in wrong:
        answer = client.patch(f"{ADS}/{ad}", json=body, headers=staff)
        assert_problem(answer, "validation", pointer)
        whole = {"name": "x", "target_url": TARGET, "starts_at": "2026-01-02T00:00:00Z"} | body
        assert_problem(client.post(ADS, json=whole, headers=staff), "validation", pointer)


def test_a_product_with_an_ad_is_archived_instead_of_deleted(
    client: FlaskClient, staff: Headers
) -> None:
    product = factories.create_product(client, staff)
    create_ad(client, staff, product_id=product["id"])

    answer = client.delete(f"/api/v1/products/{product['id']}", headers=staff | {"If-Match": "*"})

    assert_problem(answer, "conflict")


def test_a_list_may_be_kept_unless_it_has_tokens(client: FlaskClient, staff: Headers) -> None:
    create_ad(client, staff)

    plain, shown = client.get(ADS), client.get(f"{ADS}?tokens=true")

    assert plain.headers["Cache-Control"].startswith("public")
    assert "token" not in plain.get_json()["items"][0]
    assert shown.headers["Cache-Control"] == "no-store"
    tokens = {client.get(f"{ADS}?tokens=true").get_json()["items"][0]["token"] for _ in range(3)}
    assert len(tokens) == 3


def test_numbers_outlive_their_ad(
    app: Flask, client: FlaskClient, staff: Headers, session: Session
) -> None:
    from shop.ads.models import AdEvent, Kind

    ad = create_ad(client, staff)
    happened(app, ad, Kind.CLICK, clock.now())

    client.delete(f"{ADS}/{ad}", headers=staff)

    assert session.scalars(select(AdEvent.ad_id)).all() == [ad]
    assert create_ad(client, staff) > ad
