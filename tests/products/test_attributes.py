"""Attributes keep their types, and fit their definitions where there are some."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.products.models import Product, Variant
from tests import factories
from tests.web.checks import assert_problem

Headers = dict[str, str]
URL, DEFINITIONS = "/api/v1/products", "/api/v1/attributes"
ANY_VERSION = {"If-Match": "*"}


def define(client: FlaskClient, staff: Headers, code: str, kind: str, **more: Any) -> Any:
    """A definition, as it was answered."""
    body = {"code": code, "kind": kind, "name": code.title()} | more
    return client.post(DEFINITIONS, json=body, headers=staff)


VALUES: dict[str, Any] = {
    "text": "oak", "empty": "", "digits": "4", "number": 4, "zero": 0, "one": 1, "below": -7,
    "largest": 2**53 - 1, "smallest": -(2**53) + 1, "yes": True, "no": False, "word": "true",
    "null_word": "null", "emoji": "🪑", "quote": "\"'\\",
}  # fmt: skip


@pytest.mark.parametrize("field", ["attributes", "metadata"])
def test_values_keep_their_types_wherever_they_are_seen(
    client: FlaskClient, staff: Headers, session: Session, field: str
) -> None:
    """DL-17: in answers, in lists, in the database and in the log, on both engines."""
    variant = factories.variant_body(**{field: VALUES})

    made = factories.create_product(client, staff, **{field: VALUES}, variants=[variant])

    path = f"{URL}/{made['id']}"
    where = f"/api/v1/variants/{made['variants'][0]['id']}"
    changed = client.patch(path, json={"name": "Elm"}, headers=staff | ANY_VERSION)
    again = client.patch(where, json={"name": "L"}, headers=staff | ANY_VERSION)
    listed = client.get(URL).get_json()["items"][0]
    for shown in (made, changed.get_json(), client.get(path).get_json(), listed):
        for found in (shown[field], shown["variants"][0][field]):
            assert typed(found) == typed(VALUES)
    assert typed(again.get_json()[field]) == typed(VALUES)
    column = "attributes" if field == "attributes" else "public_metadata"
    for model in (Product, Variant):
        assert typed(getattr(session.scalars(select(model)).one(), column)) == typed(VALUES)
    data = session.scalars(select(AuditEntry.data).where(AuditEntry.action == "insert")).all()
    assert any('"one":1,' in entry and '"yes":true' in entry for entry in data)


def typed(values: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    """The values with their types: True is 1 to Python."""
    return {name: (type(value), value) for name, value in values.items()}


@pytest.mark.parametrize("field", ["attributes", "metadata"])
@pytest.mark.parametrize(
    "value", [1.5, 1.0, None, [], {}, ["oak"], {"a": 1}, 2**53, -(2**53), 2**63, "x" * 501, "\0"]
)
def test_what_is_no_value_is_refused_with_a_pointer(
    client: FlaskClient, staff: Headers, field: str, value: Any
) -> None:
    body = factories.product_body(**{field: {"it": value}})

    assert_problem(client.post(URL, json=body, headers=staff), "validation", f"/{field}/it")


def test_a_value_that_fits_its_definition_is_taken_and_any_other_refused(
    client: FlaskClient, staff: Headers
) -> None:
    define(client, staff, "wood", "choice", options=["oak", "ash"])
    define(client, staff, "weight", "integer", unit="g")
    define(client, staff, "outdoor", "boolean")
    define(client, staff, "care", "text")
    good = {"wood": "ash", "weight": 1200, "outdoor": False, "care": "dry", "free": 7}
    bad = {"wood": "elm", "weight": "1200", "outdoor": 0, "care": 5, "free": 7}
    faults = ["wood", "weight", "outdoor", "care"]
    variants = [factories.variant_body(), factories.variant_body(attributes=bad)]

    made = factories.create_product(client, staff, attributes=good)

    assert made["attributes"] == good
    new = client.post(URL, json=factories.product_body(attributes=bad), headers=staff)
    assert_problem(new, "validation", *[f"/attributes/{code}" for code in faults])
    new = client.post(URL, json=factories.product_body(variants=variants), headers=staff)
    assert_problem(new, "validation", *[f"/variants/1/attributes/{code}" for code in faults])
    added = client.post(f"{URL}/{made['id']}/variants", json=variants[1], headers=staff)
    assert_problem(added, "validation", *[f"/attributes/{code}" for code in faults])
    for path in (f"{URL}/{made['id']}", f"/api/v1/variants/{made['variants'][0]['id']}"):
        changed = client.patch(path, json={"attributes": bad}, headers=staff | ANY_VERSION)
        assert_problem(changed, "validation", *[f"/attributes/{code}" for code in faults])
    assert client.get(URL).get_json()["items"] == [made]


def test_true_is_no_number_and_one_is_not_true(client: FlaskClient, staff: Headers) -> None:
    define(client, staff, "drawers", "integer")
    define(client, staff, "outdoor", "boolean")
    body = factories.product_body(attributes={"drawers": True, "outdoor": 1})

    answer = client.post(URL, json=body, headers=staff)

    assert_problem(answer, "validation", "/attributes/drawers", "/attributes/outdoor")


def test_a_definition_never_breaks_what_is_stored(client: FlaskClient, staff: Headers) -> None:
    made = factories.create_product(client, staff, attributes={"wood": "elm", "legs": 4})
    path = f"{URL}/{made['id']}"
    where = define(client, staff, "wood", "choice", options=["oak"]).headers["Location"]
    define(client, staff, "legs", "boolean")

    assert client.get(path).get_json()["attributes"] == {"wood": "elm", "legs": 4}
    kept = {"attributes": {"wood": "elm", "legs": 4, "new": True}}
    assert client.patch(path, json=kept, headers=staff | ANY_VERSION).status_code == 200
    worse = {"attributes": {"wood": "pine", "legs": 5}}
    answer = client.patch(path, json=worse, headers=staff | ANY_VERSION)
    assert_problem(answer, "validation", "/attributes/wood", "/attributes/legs")

    client.patch(where, json={"options": ["pine"]}, headers=staff | ANY_VERSION)
    assert client.patch(path, json=kept, headers=staff | ANY_VERSION).status_code == 200
    assert client.delete(where, headers=staff | ANY_VERSION).status_code == 204
    free = {"attributes": {"wood": 12, "legs": 4}}
    assert client.patch(path, json=free, headers=staff | ANY_VERSION).status_code == 200


def test_a_definition_is_made_read_changed_and_deleted(
    app: Flask, client: FlaskClient, staff: Headers, customer: Headers, session: Session
) -> None:
    made = define(client, staff, "wood", "choice", options=["oak", "ash"], unit=None)
    where = made.headers["Location"]

    assert made.status_code == 201
    assert client.get(where).get_json() == made.get_json()
    assert_problem(client.patch(where, json={"name": "W"}, headers=staff), "version-required")
    changed = client.patch(where, json={"name": "W"}, headers=staff | {"If-Match": '"1"'})
    assert (changed.get_json()["name"], changed.get_json()["version"]) == ("W", 2)
    stale = staff | {"If-Match": '"1"'}
    assert_problem(client.patch(where, json={"name": "X"}, headers=stale), "version-conflict")
    assert_problem(client.delete(where, headers=stale), "version-conflict")
    assert_problem(client.delete(where, headers=customer | ANY_VERSION), "forbidden")
    assert client.delete(where, headers=staff | ANY_VERSION).status_code == 204
    assert_problem(client.get(where), "not-found")
    entries = session.scalars(
        select(AuditEntry).where(AuditEntry.table_name == "attribute_definitions")
    ).all()
    assert [(entry.type, entry.sequence) for entry in entries] == [
        ("shop.attribute_definition.created", 1), ("shop.attribute_definition.updated", 2),
        ("shop.attribute_definition.deleted", 3),
    ]  # fmt: skip


def test_definitions_are_paged_through_by_code(client: FlaskClient, staff: Headers) -> None:
    for code in ("wood", "care", "a_b", "ab", "legs"):
        define(client, staff, code, "text")

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = f"?limit=2&cursor={cursor}" if cursor else "?limit=2"
        body = client.get(f"{DEFINITIONS}{query}").get_json()
        seen += [item["code"] for item in body["items"]]
        cursor = body["next_cursor"]

    assert seen == ["a_b", "ab", "care", "legs", "wood"]


def test_a_code_is_defined_once(client: FlaskClient, staff: Headers) -> None:
    define(client, staff, "wood", "text")

    assert_problem(define(client, staff, "wood", "integer"), "conflict")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("choice", []), ("choice", ["oak", "oak"]), ("text", ["oak"]), ("integer", ["1"])],
)
def test_options_belong_to_a_choice(
    client: FlaskClient, staff: Headers, kind: str, options: list[str]
) -> None:
    assert_problem(define(client, staff, "it", kind, options=options), "validation", "/options")
    first = {"options": ["a"]} if kind == "choice" else {}
    where = define(client, staff, "it", kind, **first).headers["Location"]
    answer = client.patch(where, json={"options": options}, headers=staff | ANY_VERSION)
    assert_problem(answer, "validation", "/options")


@pytest.mark.parametrize("field", ["code", "kind", "id", "version"])
def test_code_and_kind_stay(client: FlaskClient, staff: Headers, field: str) -> None:
    where = define(client, staff, "it", "text").headers["Location"]

    answer = client.patch(where, json={field: "integer"}, headers=staff | ANY_VERSION)

    assert_problem(answer, "validation", f"/{field}")


def test_a_reference_of_another_system_names_one_product_and_one_variant(
    client: FlaskClient, staff: Headers
) -> None:
    variant = factories.variant_body(external_reference="ERP/1")
    made = factories.create_product(
        client, staff, external_reference="ERP/1", variants=[variant], metadata={"Erp.Id": 1}
    )
    assert (made["external_reference"], made["metadata"]) == ("ERP/1", {"Erp.Id": 1})
    assert made["variants"][0]["external_reference"] == "ERP/1"
    others = [factories.create_product(client, staff) for _ in range(2)]
    assert [other["external_reference"] for other in others] == [None, None]

    same = factories.product_body(external_reference="ERP/1")
    assert "reference" in assert_problem(
        client.post(URL, json=same, headers=staff), "conflict"
    )["detail"]  # fmt: skip
    twins = [factories.variant_body(external_reference="T") for _ in range(2)]
    for body in (factories.product_body(variants=[variant | {"sku": "X"}]),
                 factories.product_body(variants=twins)):  # fmt: skip
        assert_problem(client.post(URL, json=body, headers=staff), "conflict")
    for path in (f"{URL}/{others[0]['id']}", f"/api/v1/variants/{others[0]['variants'][0]['id']}"):
        body = {"external_reference": "ERP/1"}
        assert_problem(client.patch(path, json=body, headers=staff | ANY_VERSION), "conflict")
        for reference in ("erp/1", None, "x" * 100):
            body = {"external_reference": reference}
            answer = client.patch(path, json=body, headers=staff | ANY_VERSION)
            assert answer.get_json()["external_reference"] == reference


@pytest.mark.parametrize("reference", ['12"', "12'", "12'\"", "12\\"])
def test_a_taken_reference_is_a_conflict_whatever_quotes_it_has(
    client: FlaskClient, staff: Headers, reference: str
) -> None:
    factories.create_product(client, staff, external_reference=reference)

    same = factories.product_body(external_reference=reference)

    assert_problem(client.post(URL, json=same, headers=staff), "conflict")


@pytest.mark.parametrize("reference", ["", " ", "a b", "é", "x" * 101, "a\n", 5, True, []])
def test_what_is_no_reference_is_refused(
    client: FlaskClient, staff: Headers, reference: Any
) -> None:
    body = factories.product_body(external_reference=reference)

    assert_problem(client.post(URL, json=body, headers=staff), "validation", "/external_reference")


def test_a_threshold_of_stock_is_seen_and_changed_by_staff_alone(
    client: FlaskClient, staff: Headers, customer: Headers
) -> None:
    made = factories.create_product(client, staff)
    where = f"/api/v1/variants/{made['variants'][0]['id']}"

    for threshold in (5, 1, None):
        body = {"low_stock_threshold": threshold}
        assert client.patch(where, json=body, headers=staff | ANY_VERSION).status_code == 200
        shown = client.get(f"{where}/stock", headers=staff).get_json()
        assert shown["low_stock_threshold"] == threshold
    for wrong in (0, -1, 1.5, "5", True):
        bad = {"low_stock_threshold": wrong}
        answer = client.patch(where, json=bad, headers=staff | ANY_VERSION)
        assert_problem(answer, "validation", "/low_stock_threshold")
    assert_problem(client.get(f"{where}/stock", headers=customer), "forbidden")
    assert "low_stock_threshold" not in client.get(f"{URL}/{made['id']}").text
