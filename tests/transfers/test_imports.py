"""A file becomes products: each of its rows once, whatever happens on the way."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.db import db, transactional, writing
from shop.products.models import Product
from shop.transfers import operations
from shop.transfers.models import ProductImport
from shop.transfers.operations import MOST_ATTEMPTS, Lost
from shop.transfers.work import go_on
from tests import factories
from tests.transfers.checks import (
    CSV,
    IMPORTS,
    Headers,
    cells,
    counts,
    csv_file,
    errors,
    imported,
    json_lines,
    send,
    stop_after,
    work,
)
from tests.users.checks import api_key, bearer
from tests.web.checks import assert_problem


def test_every_line_of_a_file_becomes_a_product(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    rows = [factories.product_body(slug=f"oak-{n}") for n in range(600)]

    done = imported(app, client, staff, json_lines(*rows))

    assert (done["status"], done["progress"], done["error"]) == ("completed", 1.0, None)
    assert (done["rows_total"], done["rows_done"]) == (600, 600)
    assert (done["created"], done["updated"], done["failed"]) == (600, 0, 0)
    assert done["finished_at"] is not None
    assert counts(engine) == {
        "products": 600, "variants": 600, "stock_levels": 600, "stock_movements": 600,
        "audit_log": 1800,
    }  # fmt: skip
    shown = client.get("/api/v1/products/oak-599").get_json()
    assert shown["name"] == rows[599]["name"]
    assert shown["variants"][0]["sku"] == rows[599]["variants"][0]["sku"]


def test_what_is_imported_was_done_by_whoever_sent_the_file(
    app: Flask, client: FlaskClient, staff: Headers, session: Session
) -> None:
    begun = client.post(
        IMPORTS, data=json_lines(factories.product_body()), content_type="application/x-ndjson",
        headers=staff | {"X-Request-ID": "import-4711"},
    ).get_json()  # fmt: skip
    work(app)

    entries = session.scalars(select(AuditEntry).where(AuditEntry.table_name == "products")).all()
    assert [(it.actor, it.request_id) for it in entries] == [(begun["created_by"], "import-4711")]
    assert begun["created_by"].startswith("users/")


def test_rows_of_csv_with_one_slug_are_variants_of_one_product(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    file = csv_file(
        cells("oak", "OAK-S", variant_name="Small", attributes='{"material":"oak"}'),
        cells("oak", "OAK-L", variant_name="Large", name="", stock=0, low_stock_threshold=3),
        cells("elm", "ELM", name='Elm, round and "small"', status="draft"),
        cells("", "ASH-1", name="Ash"), cells("", "ASH-2", name="Ash"),
    )  # fmt: skip

    done = imported(app, client, staff, file, CSV)

    assert (done["rows_total"], done["rows_done"], done["created"]) == (5, 5, 4)
    oak = client.get("/api/v1/products/oak").get_json()
    assert [(v["sku"], v["name"], v["available"]) for v in oak["variants"]] == [
        ("OAK-S", "Small", 7), ("OAK-L", "Large", 0),
    ]  # fmt: skip
    assert oak["attributes"] == {"material": "oak"}
    elm = client.get("/api/v1/products/elm", headers=staff).get_json()
    assert (elm["name"], elm["status"]) == ('Elm, round and "small"', "draft")
    assert client.get("/api/v1/products/ash").status_code == 200


def test_bad_rows_fail_alone_and_are_told_by_line_and_column(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    taken = factories.create_product(client, staff, slug="taken")
    file = csv_file(
        cells("one", "ONE"),
        cells("two", "TWO-A"), cells("two", "TWO-B", price_amount="19.90"),
        cells("three", "THREE", stock="many", status="gone", name=" "),
        cells("taken", "FOUR"),
        cells("five", taken["variants"][0]["sku"]),
        cells("six", "SIX", category_id=2**62, attributes="{"),
        cells("seven", "SEVEN", price_currency="USD"),
        cells("eight", "EIGHT-A"), cells("eight", "EIGHT-B", name="Another"),
        cells("nine", "ONE"),
        cells("ten", "TEN"),
    )  # fmt: skip

    done = imported(app, client, staff, file, CSV)

    assert (done["status"], done["created"], done["failed"]) == ("completed", 2, 8)
    found = {(line, pointer) for line, pointer, _ in errors(client, staff, done["id"])}
    assert found == {
        (4, "/price_amount"), (5, "/stock"), (6, "/slug"), (7, "/sku"), (8, "/attributes"),
        (9, "/price_currency"), (11, "/name"), (12, "/sku"),
    }  # fmt: skip
    assert client.get("/api/v1/products/ten").status_code == 200
    assert client.get("/api/v1/products/two").status_code == 404


def test_lines_of_json_change_what_is_there(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    there = factories.create_product(client, staff)
    sku = there["variants"][0]["sku"]
    price = {"amount": 5, "currency": "EUR"}

    done = imported(
        app, client, staff,
        json_lines(
            {"sku": sku, "version": "*", "price": price},
            {"id": there["id"], "version": 1, "name": "Renamed"},
            {"id": there["id"], "version": 1, "name": "Too late"},
            factories.product_body(),
        ),
    )  # fmt: skip

    assert (done["created"], done["updated"], done["failed"]) == (1, 2, 1)
    shown = client.get(f"/api/v1/products/{there['id']}").get_json()
    assert (shown["name"], shown["variants"][0]["price"]) == ("Renamed", price)
    ((line, _pointer, message),) = errors(client, staff, done["id"])
    assert line == 3
    assert "version" in message


def test_a_dry_run_writes_nothing_and_says_what_would_happen(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    first = factories.product_body(slug="oak")
    rows = [first, factories.product_body(name="")]
    rows += [factories.product_body() for _ in range(300)]
    # Its slug was met more than a piece of work ago.
    rows += [factories.product_body(slug="oak"), factories.product_body(variants=first["variants"])]

    done = imported(app, client, staff, json_lines(*rows), query="?dry_run=true")

    assert (done["status"], done["dry_run"]) == ("completed", True)
    assert (done["created"], done["failed"], done["rows_done"]) == (301, 3, 304)
    assert [it["status"] for it in done["preview"]] == ["created", "failed", *["created"] * 18]
    assert done["preview"][1]["line"] == 2
    assert done["preview"][1]["problem"]["errors"][0]["pointer"] == "/name"
    assert [line for line, _, _ in errors(client, staff, done["id"])] == [2, 303, 304]
    assert set(counts(engine).values()) == {0}


@pytest.mark.parametrize("bad", [0, 1])
def test_a_file_that_is_checked_first_is_written_whole_or_not_at_all(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine, bad: int
) -> None:
    rows = [factories.product_body() for _ in range(300)]
    rows += [factories.product_body(name="")] * bad

    done = imported(app, client, staff, json_lines(*rows), query="?policy=check_first")

    if bad:
        assert (done["status"], done["failed"]) == ("failed", 1)
        assert done["error"] == "1 products are bad: nothing was written."
        assert [line for line, _, _ in errors(client, staff, done["id"])] == [301]
        assert set(counts(engine).values()) == {0}
    else:
        assert (done["status"], done["created"], done["progress"]) == ("completed", 300, 1.0)
        assert counts(engine)["products"] == 300


def begin(app: Flask, import_id: int) -> ProductImport:
    """Claim an import, as its process would."""
    claimed = transactional(operations.claim)(db.session(), ProductImport, import_id, 60.0)
    assert claimed is not None
    return claimed


def test_an_interrupted_import_goes_on_where_it_was(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    """A CSV file whose products are several rows, with a broken row at the seam."""
    rows = [cells(f"oak-{n // 2}", f"OAK-{n}", name=f"Oak {n // 2}") for n in range(1400)]
    rows[1000]["stock"] = "x"
    begun = send(client, staff, csv_file(*rows), CSV)
    stopping, heard = stop_after(1)

    with app.app_context():
        claimed = begin(app, begun["id"])
        ended = go_on(claimed, app.extensions["transfers"], 60.0, stopping, heard)
        transactional(operations.release)(db.session(), claimed, wait=False)

    assert not ended
    halfway = client.get(f"{IMPORTS}/{begun['id']}", headers=staff).get_json()
    assert (halfway["status"], halfway["rows_done"], halfway["created"]) == ("running", 500, 250)
    assert 0.3 < halfway["progress"] < 0.4
    assert counts(engine)["products"] == 250
    assert work(app) == 1
    done = client.get(f"{IMPORTS}/{begun['id']}", headers=staff).get_json()
    assert (done["status"], done["rows_done"]) == ("completed", 1400)
    assert (done["created"], done["failed"]) == (699, 1)
    assert counts(engine) == {
        "products": 699, "variants": 1398, "stock_levels": 1398, "stock_movements": 1398,
        "audit_log": 699 + 2 * 1398,
    }  # fmt: skip
    assert [line for line, _, _ in errors(client, staff, begun["id"])] == [1002]


def test_a_check_that_was_interrupted_begins_anew(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    rows = [factories.product_body(slug=f"oak-{n}") for n in range(260)]
    rows += [factories.product_body(slug="oak-0"), {}]
    begun = send(client, staff, json_lines({}, *rows), query="?dry_run=true")
    stopping, heard = stop_after(1)

    with app.app_context():
        claimed = begin(app, begun["id"])
        assert not go_on(claimed, app.extensions["transfers"], 60.0, stopping, heard)
        transactional(operations.release)(db.session(), claimed, wait=False)
    work(app)

    done = client.get(f"{IMPORTS}/{begun['id']}", headers=staff).get_json()
    assert (done["created"], done["failed"], done["rows_done"]) == (260, 3, 263)
    assert {line for line, _, _ in errors(client, staff, begun["id"])} == {1, 262, 263}


def test_nobody_else_works_on_an_import_while_it_is_claimed(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    begun = send(client, staff, json_lines(factories.product_body()))
    with app.app_context():
        begin(app, begun["id"])

    assert work(app) == 0


def test_who_lost_an_import_keeps_nothing_of_what_it_did(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    """A process that was frozen, while another one took over and finished."""
    begun = send(client, staff, json_lines(*[factories.product_body() for _ in range(3)]))
    with app.app_context():
        frozen = begin(app, begun["id"])
        with writing(engine) as connection:
            connection.execute(update(ProductImport).values(due_ms=0))
        assert work(app) == 1

        stopping, heard = stop_after(100)
        with pytest.raises(Lost):
            go_on(frozen, app.extensions["transfers"], 60.0, stopping, heard)

    assert counts(engine)["products"] == 3


def test_an_import_that_ends_its_process_each_time_is_given_up(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    begun = send(client, staff, json_lines(factories.product_body()))
    for _ in range(MOST_ATTEMPTS):
        with app.app_context():
            begin(app, begun["id"])
        with writing(engine) as connection:
            connection.execute(update(ProductImport).values(due_ms=0))

    work(app)

    found = client.get(f"{IMPORTS}/{begun['id']}", headers=staff).get_json()
    assert (found["status"], found["created"]) == ("failed", 0)
    assert "Given up" in found["error"]


def test_a_cancelled_import_ends_where_it_is(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    begun = send(client, staff, json_lines(*[factories.product_body() for _ in range(600)]))
    url = f"{IMPORTS}/{begun['id']}"

    def cancel(_now: ProductImport) -> None:
        answer = app.test_client().post(f"{url}/cancel", headers=staff)
        assert answer.get_json()["status"] == "cancelled"

    with app.app_context():
        claimed = begin(app, begun["id"])
        with pytest.raises(Lost):
            go_on(claimed, app.extensions["transfers"], 60.0, stop_after(100)[0], cancel)

    assert work(app) == 0
    found = client.get(url, headers=staff).get_json()
    assert (found["status"], found["created"]) == ("cancelled", 250)
    assert counts(engine)["products"] == 250
    assert_problem(client.post(f"{url}/cancel", headers=staff), "conflict")


def test_imports_are_listed_newest_first(app: Flask, client: FlaskClient, staff: Headers) -> None:
    ids = [send(client, staff, json_lines({"n": n}))["id"] for n in range(3)]

    first = client.get(f"{IMPORTS}?limit=2", headers=staff).get_json()
    second = client.get(f"{IMPORTS}?cursor={first['next_cursor']}", headers=staff).get_json()

    assert [it["id"] for it in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None


def test_only_staff_and_machines_with_the_scope_import(
    app: Flask, client: FlaskClient, customer: Headers, session: Session
) -> None:
    file = json_lines(factories.product_body(slug="by-a-machine"))

    for headers, slug in ((customer, "forbidden"), ({}, "unauthenticated")):
        answer = client.post(
            IMPORTS, data=file, headers=headers, content_type="application/x-ndjson"
        )
        assert_problem(answer, slug)
    imported(app, client, bearer(api_key(app, "products:write")), file)

    assert session.scalars(select(Product.slug)).all() == ["by-a-machine"]
    assert client.get(f"{IMPORTS}/1", headers=customer).status_code == 403


def test_an_import_that_is_not_there_is_not_found(client: FlaskClient, staff: Headers) -> None:
    for method, url in (("GET", ""), ("GET", "/errors"), ("POST", "/cancel")):
        answer: Any = client.open(f"{IMPORTS}/999{url}", method=method, headers=staff)
        assert_problem(answer, "not-found")
