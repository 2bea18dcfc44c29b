"""Many changes at once: a result for each row, and what happens to the good ones."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, event, func, select, text, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop.audit.models import AuditEntry
from shop.db import Base, db, transactional, writing
from shop.products.bulk import NewProduct, write_rows
from shop.products.models import Product, StockLevel, StockMovement, Variant
from shop.products.schemas import ProductIn
from shop.savepoints import savepoint
from tests import factories
from tests.web.checks import assert_problem

URL = "/api/v1/products/bulk"
Headers = dict[str, str]


@pytest.fixture
def send(client: FlaskClient, staff: Headers) -> Any:
    """Sends rows under a policy."""

    def send(rows: list[Any], policy: str = "skip_bad_rows", **headers: str) -> TestResponse:
        body = {"rows": rows, "policy": policy}
        return client.post(URL, json=body, headers=staff | headers)

    return send


def pointers(answer: TestResponse) -> list[str]:
    """The places that a problem names."""
    return [fault["pointer"] for fault in answer.get_json()["errors"]]


def counts(engine: Engine) -> dict[str, int]:
    models: tuple[type[Base], ...] = (Product, Variant, StockLevel, StockMovement, AuditEntry)
    with engine.connect() as connection:
        return {
            model.__tablename__: connection.scalar(select(func.count()).select_from(model)) or 0
            for model in models
        }


def grown(engine: Engine, before: dict[str, int]) -> dict[str, int]:
    """How many rows there are more than before, by table."""
    return {name: n - before[name] for name, n in counts(engine).items()}


def test_every_row_is_written_and_audited_as_if_it_had_come_alone(
    send: Any, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    before = counts(engine)
    rows = [factories.product_body(description=f"Number {n}") for n in range(249)]
    several = [factories.variant_body(stock=n, low_stock_threshold=n + 1) for n in range(3)]
    rows.append(factories.product_body(slug="three", status="draft", variants=several))

    answer = send(rows, "all_or_nothing")

    assert answer.status_code == 200, answer.text
    results = answer.get_json()["rows"]
    assert [row["index"] for row in results] == list(range(250))
    assert {(row["status"], row["version"]) for row in results} == {("created", 1)}
    for n in (0, 17, 249):
        shown = client.get(f"/api/v1/products/{results[n]['id']}", headers=staff).get_json()
        assert shown["name"] == rows[n]["name"]
        assert shown["description"] == rows[n].get("description", "")
        skus = [(variant["sku"], variant["stock"]) for variant in rows[n]["variants"]]
        assert [(v["sku"], v["available"]) for v in shown["variants"]] == skus
    assert grown(engine, before) == {
        "products": 250, "variants": 252, "stock_levels": 252, "stock_movements": 252,
        "audit_log": 754,
    }  # fmt: skip


def test_entries_of_many_rows_are_those_of_one(
    send: Any, client: FlaskClient, staff: Headers, session: Session
) -> None:
    factories.create_product(client, staff, name="One")
    send([factories.product_body(name=name) for name in ("Two", "Three")])

    entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    found = [entry for entry in entries if entry.table_name != "users"]
    assert Counter(entry.table_name for entry in found) == {
        "products": 3, "variants": 3, "stock_levels": 3,
    }  # fmt: skip
    for table in ("products", "variants", "stock_levels"):
        one, *many = [entry for entry in found if entry.table_name == table]
        for other in many:
            assert (other.type, other.sequence, other.actor) == (one.type, 1, one.actor)
            assert set(data_of(other)["after"]) == set(data_of(one)["after"])
    ids = {entry.row_id for entry in found if entry.table_name == "products"}
    assert ids == set(session.scalars(select(Product.id)))


def data_of(entry: AuditEntry) -> dict[str, Any]:
    """The data of an event."""
    found: dict[str, Any] = orjson.loads(entry.data)
    return found


def bad_rows(taken: dict[str, Any]) -> list[tuple[dict[str, Any], str, str]]:
    """Rows that cannot be written, with the problem and the pointer that each must get."""
    sku = taken["variants"][0]["sku"]
    return [
        (factories.product_body(variants=[factories.variant_body(sku=sku)]), "conflict",
         "/variants/0/sku"),
        (factories.product_body(slug=taken["slug"]), "conflict", "/slug"),
        (factories.product_body(category_id=2**62), "validation", "/category_id"),
        (factories.product_body(name=""), "validation", "/name"),
        (factories.product_body(variants=[]), "validation", "/variants"),
        (factories.product_body(variants=[factories.variant_body(stock=1.5)]), "validation",
         "/variants/0/stock"),
        (factories.product_body() | {"a/b": 1}, "validation", "/a~1b"),
        (factories.product_body(slug="imports"), "conflict", "/slug"),
        ({}, "validation", "/name"),
        ({"id": 2**62, "version": 1, "name": "x"}, "not-found", ""),
        ({"id": taken["id"], "version": 7, "name": "x"}, "version-conflict", ""),
        ({"id": taken["id"], "name": "x"}, "validation", "/version"),
        ({"id": taken["id"], "version": 1, "stock": 3}, "validation", "/stock"),
        ({"sku": "NOBODY", "version": "*", "name": "x"}, "not-found", ""),
        ({"sku": sku, "version": "any", "name": "x"}, "validation", "/version"),
    ]  # fmt: skip


def test_bad_rows_fail_alone_and_say_why(
    send: Any, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    taken = factories.create_product(client, staff)
    bad = bad_rows(taken)
    rows = [factories.product_body()]
    for row, _, _ in bad:
        rows += [row, factories.product_body()]
    before = counts(engine)

    answer = send(rows)

    assert answer.status_code == 200
    results = answer.get_json()["rows"]
    assert [row["status"] for row in results] == ["created", *["failed", "created"] * len(bad)]
    for (_, slug, pointer), result in zip(bad, results[1::2], strict=True):
        problem = result["problem"]
        assert problem["slug"] == slug, result
        assert problem["detail"]
        named = [fault["pointer"] for fault in problem["errors"]]
        assert pointer in named or (not pointer and not named), result
    assert grown(engine, before)["products"] == len(bad) + 1


def test_one_bad_row_changes_nothing_under_all_or_nothing(
    send: Any, client: FlaskClient, staff: Headers, engine: Engine
) -> None:
    """AZ-13."""
    taken = factories.create_product(client, staff)
    before = counts(engine)
    for row, slug, pointer in bad_rows(taken):
        change = {"id": taken["id"], "version": 1, "name": "Changed"}
        answer = send([factories.product_body(), change, row], "all_or_nothing")

        named = pointers(answer)
        assert_problem(answer, "validation" if slug == "validation" else "conflict", *named)
        assert f"/rows/2{pointer}" in named
        assert all(name.startswith("/rows/2") for name in named)
        assert counts(engine) == before
    shown = client.get(f"/api/v1/products/{taken['id']}").get_json()
    assert shown == taken


def test_all_bad_rows_are_named_at_once(send: Any) -> None:
    """AZ-13: those that are not there and those that are not allowed alike."""
    rows = [{"id": n, "version": 1, "name": "x"} for n in range(10**9, 10**9 + 250)]

    answer = send(rows, "all_or_nothing")

    assert_problem(answer, "conflict", *(f"/rows/{n}" for n in range(250)))


def test_rows_change_products_and_variants(
    send: Any, client: FlaskClient, staff: Headers, session: Session
) -> None:
    one, two = (factories.create_product(client, staff) for _ in range(2))
    sku = two["variants"][0]["sku"]

    answer = send([
        {"id": one["id"], "version": 1, "name": "Renamed", "status": "archived"},
        {"sku": sku, "version": "*", "price": {"amount": 5, "currency": "EUR"}},
        {"sku": sku, "version": 2, "name": "Large"},
        {"id": one["id"], "version": 1, "name": "Too late"},
    ])  # fmt: skip

    results = answer.get_json()["rows"]
    assert [(row["status"], row.get("version")) for row in results] == [
        ("updated", 2), ("updated", 2), ("updated", 3), ("failed", None),
    ]  # fmt: skip
    assert results[3]["problem"]["slug"] == "version-conflict"
    assert results[1]["id"] == two["variants"][0]["id"]
    shown = client.get(f"/api/v1/products/{one['id']}", headers=staff).get_json()
    assert (shown["name"], shown["status"], shown["version"]) == ("Renamed", "archived", 2)
    (variant,) = client.get(f"/api/v1/products/{two['id']}").get_json()["variants"]
    assert (variant["name"], variant["price"]["amount"], variant["version"]) == ("Large", 5, 3)
    updates = select(AuditEntry.table_name, AuditEntry.sequence).where(
        AuditEntry.action == "update"
    )
    found = sorted(tuple(row) for row in session.execute(updates))
    assert found == [("products", 2), ("variants", 2), ("variants", 3)]


def test_names_are_unique_within_a_request_too(send: Any) -> None:
    first = factories.product_body(slug="oak")
    sku = first["variants"][0]["sku"]
    same_sku = factories.product_body(variants=[factories.variant_body(sku=sku)])
    twice = factories.product_body(variants=[factories.variant_body(sku="X-1")] * 2)

    results = send([first, same_sku, factories.product_body(slug="oak"), twice]).get_json()["rows"]

    assert [row["status"] for row in results] == ["created", "failed", "failed", "failed"]


def test_a_name_without_slug_gets_a_free_one(
    send: Any, client: FlaskClient, staff: Headers
) -> None:
    factories.create_product(client, staff, name="Oak table")
    names = ["Oak table", "Elm table", "Elm table", "東京", "1984", "Imports", "♥"]

    results = send([factories.product_body(name=name) for name in names]).get_json()["rows"]

    shown = [client.get(f"/api/v1/products/{row['id']}").get_json()["slug"] for row in results]
    assert len(set(shown)) == len(names)
    assert shown[0].startswith("oak-table-")
    assert shown[1] == "elm-table"
    assert shown[4:6] == ["product-1984", "product-imports"]


def loaded(app: Flask, **changes: Any) -> NewProduct:
    """A row as `write_rows` takes it."""
    with app.app_context():
        return NewProduct(ProductIn().load(factories.product_body(**changes)))


def test_a_name_that_is_taken_meanwhile_fails_its_row_alone(app: Flask, engine: Engine) -> None:
    """As when somebody else commits between the question whether it is taken and the insertion."""
    rows = [loaded(app), loaded(app, slug="late"), loaded(app)]

    @transactional
    def write() -> list[str]:
        # What the question sees is asked for before the others' row is there.
        def late(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if statement.startswith("INSERT INTO products") and not others:
                others.append(1)
                connection.exec_driver_sql(
                    "INSERT INTO products (name, slug, description, status, attributes,"
                    " created_at, updated_at, version)"
                    " VALUES ('x', 'late', '', 'draft', '{}', '2026-01-01', '2026-01-01', 1)"
                )

        event.listen(engine, "before_cursor_execute", late)
        try:
            return [outcome.status for outcome in write_rows(db.session(), rows)]
        finally:
            event.remove(engine, "before_cursor_execute", late)

    others: list[int] = []
    before = counts(engine)
    with app.app_context():
        statuses = write()

    # The others' row was written inside of the savepoint and went with it: all is well after all.
    assert others == [1]
    assert statuses == ["created", "created", "created"]
    assert grown(engine, before)["products"] == 3
    assert grown(engine, before)["audit_log"] == 9


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
def test_rows_that_race_for_names_are_written_once_and_lose_alone(
    app: Flask, engine: Engine
) -> None:
    """Eight requests at once, each with the same twenty slugs and five of its own."""
    headers = factories.sign_in(app, "staff")
    answers: list[list[dict[str, Any]]] = []
    start = threading.Barrier(8)

    def request(number: int) -> None:
        rows = [factories.product_body(slug=f"same-{n}") for n in range(20)]
        rows += [factories.product_body(slug=f"own-{number}-{n}") for n in range(5)]
        start.wait()
        body = {"rows": rows if number % 2 else rows[::-1], "policy": "skip_bad_rows"}
        answer = app.test_client().post(URL, json=body, headers=headers)
        answers.append(answer.get_json().get("rows", []))

    before = counts(engine)
    threads = [threading.Thread(target=request, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    statuses = Counter(row["status"] for rows in answers for row in rows)
    assert statuses == {"created": 60, "failed": 140}
    assert grown(engine, before) == {
        "products": 60, "variants": 60, "stock_levels": 60, "stock_movements": 60,
        "audit_log": 180,
    }  # fmt: skip


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
def test_a_deadlock_inside_a_savepoint_runs_the_whole_transaction_again(
    app: Flask, engine: Engine, client: FlaskClient, staff: Headers
) -> None:
    one, two = (factories.create_product(client, staff)["id"] for _ in range(2))
    runs: list[int] = []
    other = engine.connect()
    name = update(Product).values(name="other")

    @transactional
    def write() -> None:
        runs.append(1)
        session = db.session()
        session.connection().execute(name.where(Product.id == one))
        if len(runs) == 1:
            # More rows than ours: the engine will choose us as the victim.
            other.execute(delete(AuditEntry))
            other.execute(name.where(Product.id == two))
            waiting.start()
            wait_for_lock(engine)
        with savepoint(session):
            session.connection().execute(name.where(Product.id == two).values(name="mine"))

    def finish() -> None:
        other.execute(name.where(Product.id == one))
        other.commit()

    waiting = threading.Thread(target=finish)
    with app.app_context():
        write()
    waiting.join()
    other.close()

    assert len(runs) == 2
    with engine.connect() as connection:
        assert connection.scalar(select(Product.name).where(Product.id == two)) == "mine"


def wait_for_lock(engine: Engine) -> None:
    """Until somebody waits for a row that somebody else has locked."""
    waiting = text("SELECT count(*) FROM information_schema.innodb_lock_waits")
    with engine.connect() as connection:
        while not connection.scalar(waiting):
            connection.rollback()
            # The view is made anew only when nobody has read it for a tenth of a second.
            time.sleep(0.15)


def test_few_statements_write_many_rows(send: Any, engine: Engine) -> None:
    def statements(rows: int) -> int:
        seen: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            seen.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        assert send([factories.product_body() for _ in range(rows)]).status_code == 200
        event.remove(engine, "before_cursor_execute", note)
        return len(seen)

    few = statements(2)

    # SQLite takes a bounded number of values in one statement.
    assert statements(250) <= few + 4


@pytest.mark.parametrize(
    "body",
    [
        {"rows": []}, {"rows": [{}] * 251}, {"rows": [1]}, {"rows": {}}, {"rows": None}, {},
        {"rows": [{}], "policy": "maybe"}, {"rows": [{}], "more": 1},
    ],
)  # fmt: skip
def test_what_is_no_list_of_rows_is_refused_as_a_whole(
    client: FlaskClient, staff: Headers, body: Any
) -> None:
    answer = client.post(URL, json=body, headers=staff)

    assert_problem(answer, "validation", *pointers(answer))


def test_a_failed_write_leaves_no_entry_behind(app: Flask, engine: Engine) -> None:
    before = counts(engine)

    @transactional
    def write() -> None:
        write_rows(db.session(), [loaded(app)])
        raise KeyError

    with app.app_context(), pytest.raises(KeyError):
        write()

    assert grown(engine, before) == dict.fromkeys(before, 0)
    with writing(engine) as connection:
        connection.execute(delete(AuditEntry))
