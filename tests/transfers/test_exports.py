"""Products become a file, which makes the same products again."""

from __future__ import annotations

import csv
import io
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete

from shop.db import db, transactional, writing
from shop.products.models import (
    ListedValue,
    Product,
    ProductListing,
    ProductSlug,
    StockLevel,
    Variant,
)  # fmt: skip
from shop.transfers import operations
from shop.transfers.models import ProductExport
from shop.transfers.work import go_on
from tests import factories
from tests.transfers.checks import (
    CSV,
    EXPORTS,
    JSONL,
    Headers,
    csv_file,
    exported,
    imported,
    stop_after,
    work,
)
from tests.web.checks import assert_problem

KINDS = {"csv": CSV, "jsonl": JSONL}
#: Texts that a spreadsheet would run, or that break a careless writer.
HOSTILE = [
    "=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)", "'=quoted", "''@quoted", "'plain", "a=b",
    '"quoted"', "a,b;c", "two\nlines", "\ttab", "<script>alert(1)</script>", "{{7*7}}", "名前",
    "=\"", ",", "\u2028",
]  # fmt: skip


def fill(client: FlaskClient, staff: Headers) -> None:
    """A catalogue with all that there can be in one."""
    shelf = client.post("/api/v1/categories", json={"name": "Tables"}, headers=staff).get_json()
    for n, text in enumerate(HOSTILE):
        variants = [
            factories.variant_body(name=text, stock=n, attributes={"size": text}),
            factories.variant_body(low_stock_threshold=n + 1),
        ]
        status, category = ("active", "draft", "archived")[n % 3], shelf["id"] if n % 2 else None
        line = "".join(character for character in text if character not in "\n\t\u2028")
        factories.create_product(
            client, staff, name=f"N{n} {line}",
            description=text, status=status, category_id=category, attributes={"note": text},
            variants=variants,
        )  # fmt: skip
    factories.create_product(client, staff, name="=1+1", attributes={})


def catalogue(client: FlaskClient, staff: Headers) -> list[dict[str, Any]]:
    """Every product, without what no two have in common."""
    shown = client.get("/api/v1/products?limit=100", headers=staff).get_json()["items"]
    for product in shown:
        for name in ("id", "version", "created_at", "updated_at"):
            del product[name]
        for variant in product["variants"]:
            del variant["id"], variant["version"]
    return list(shown)


def empty_catalogue(engine: Engine) -> None:
    """Delete every product."""
    with writing(engine) as connection:
        for model in (StockLevel, Variant, ListedValue, ProductListing, ProductSlug, Product):
            connection.execute(delete(model))


@pytest.mark.parametrize("format", KINDS)
def test_an_export_makes_the_same_products_again(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine, format: str
) -> None:
    """IN-21."""
    fill(client, staff)
    before = catalogue(client, staff)
    file = exported(app, client, staff, format=format)
    empty_catalogue(engine)

    done = imported(app, client, staff, file, KINDS[format])

    assert (done["created"], done["failed"]) == (len(HOSTILE) + 1, 0)
    assert catalogue(client, staff) == before
    assert exported(app, client, staff, format=format) == file


def test_no_cell_of_a_csv_file_is_a_formula(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    """IN-21."""
    fill(client, staff)

    rows = list(csv.reader(io.StringIO(exported(app, client, staff, format="csv").decode())))

    cells = [cell for row in rows for cell in row]
    assert "'=1+1" in cells
    assert "'=cmd|' /C calc'!A0" in cells
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r")]


def test_a_file_is_handed_out_as_data(app: Flask, client: FlaskClient, staff: Headers) -> None:
    """IN-25: what looks like a page in it is none to a browser."""
    factories.create_product(client, staff, description="<script>alert(1)</script>")
    begun = client.post(EXPORTS, json={"format": "csv"}, headers=staff)
    where = f"{begun.headers['Location']}/file"
    assert_problem(client.get(where, headers=staff), "conflict")
    work(app)

    answer = client.get(where, headers=staff, buffered=True)

    headers = answer.headers
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    name = f"products-{begun.get_json()['id']}.csv"
    assert headers["Content-Disposition"] == f"attachment; filename={name}"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert int(headers["Content-Length"]) == len(answer.data)
    assert b"<script>" in answer.data


def test_some_products_can_be_exported(app: Flask, client: FlaskClient, staff: Headers) -> None:
    fill(client, staff)
    shelf = client.get("/api/v1/categories").get_json()["items"][0]["id"]

    def names(**body: Any) -> set[int]:
        lines = exported(app, client, staff, format="jsonl", **body).splitlines()
        return {int(orjson.loads(line)["name"][1:].partition(" ")[0]) for line in lines}

    assert names(status="draft") == {1, 4, 7, 10, 13, 16}
    assert names(category_id=shelf) == {1, 3, 5, 7, 9, 11, 13, 15, 17}
    assert names(category_id=shelf, status="draft") == {1, 7, 13}
    assert names(category_id=2**62) == set()


def test_an_empty_shop_exports_a_file_that_can_be_read(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    assert exported(app, client, staff, format="csv") == csv_file()
    assert exported(app, client, staff, format="jsonl") == b""


def fill_quickly(client: FlaskClient, staff: Headers, products: int) -> None:
    """Many plain products."""
    for _ in range(0, products, 250):
        rows = [factories.product_body() for _ in range(250)]
        assert (
            client.post("/api/v1/products/bulk", json={"rows": rows}, headers=staff).status_code
            == 200
        )


@pytest.fixture
def halfway(app: Flask, client: FlaskClient, staff: Headers) -> str:
    """The address of an export that was interrupted after one of its pieces."""
    fill_quickly(client, staff, 1250)
    begun = client.post(EXPORTS, json={"format": "jsonl"}, headers=staff)
    stopping, heard = stop_after(1)
    with app.app_context():
        id_ = begun.get_json()["id"]
        claimed = transactional(operations.claim)(db.session(), ProductExport, id_, 60.0)
        assert claimed is not None
        assert not go_on(claimed, app.extensions["transfers"], 60.0, stopping, heard)
        path = app.extensions["transfers"].path(claimed.file)
        transactional(operations.release)(db.session(), claimed, wait=False)
    assert path.read_bytes().count(b"\n") == 500
    return begun.headers["Location"]


def skus(file: bytes) -> list[str]:
    return [orjson.loads(line)["variants"][0]["sku"] for line in file.splitlines()]


@pytest.mark.parametrize("accident", ["none", "more was written", "the file is gone"])
def test_an_interrupted_export_goes_on_where_it_was(
    app: Flask, client: FlaskClient, staff: Headers, halfway: str, accident: str
) -> None:
    whole = skus(exported_aside(app, client, staff))
    (path,) = [
        it for it in app.extensions["transfers"].path("").iterdir()
        if it.suffix == ".jsonl" and it.read_bytes().count(b"\n") == 500
    ]  # fmt: skip
    if accident == "more was written":
        # By a process that was killed before it could say so.
        with path.open("ab") as file:
            file.write(b'{"half a li')
    elif accident == "the file is gone":
        path.unlink()

    assert work(app) == 1

    shown = client.get(halfway, headers=staff).get_json()
    assert (shown["status"], shown["rows_done"], shown["progress"]) == ("completed", 1250, 1.0)
    file_ = client.get(f"{halfway}/file", headers=staff, buffered=True).data
    assert skus(file_) == whole
    assert shown["size"] == len(file_)


def exported_aside(app: Flask, client: FlaskClient, staff: Headers) -> bytes:
    """What an export has that nothing interrupts, while another one waits."""
    items: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        url = f"/api/v1/products?limit=100{cursor and '&cursor='}{cursor}"
        page = client.get(url, headers=staff).get_json()
        items += page["items"]
        cursor = page["next_cursor"]
    return b"".join(orjson.dumps(it) + b"\n" for it in reversed(items))


def test_only_staff_exports(client: FlaskClient, customer: Headers) -> None:
    for headers, slug in ((customer, "forbidden"), ({}, "unauthenticated")):
        assert_problem(client.post(EXPORTS, json={"format": "csv"}, headers=headers), slug)
        for url in (EXPORTS, f"{EXPORTS}/1", f"{EXPORTS}/1/file"):
            assert_problem(client.get(url, headers=headers), slug)


@pytest.mark.parametrize(
    "body", [{}, {"format": "xls"}, {"format": "csv", "file": "../../x"}, {"format": "../csv"}]
)
def test_an_export_of_another_kind_is_refused(
    client: FlaskClient, staff: Headers, body: dict[str, Any]
) -> None:
    answer = client.post(EXPORTS, json=body, headers=staff)

    pointer = "/file" if "file" in body else "/format"
    assert_problem(answer, "validation", pointer)
