"""What tests of imports and exports have in common."""

from __future__ import annotations

import csv
import io
import threading
from typing import Any

import orjson
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select

from shop.audit.models import AuditEntry
from shop.db import Base
from shop.products.models import Product, StockLevel, StockMovement, Variant
from shop.transfers.models import ProductExport, ProductImport
from shop.transfers.table import COLUMNS
from shop.transfers.work import Transfers

IMPORTS, EXPORTS = "/api/v1/products/imports", "/api/v1/products/exports"
CSV, JSONL = "text/csv", "application/x-ndjson"
HEADER = ",".join(COLUMNS)
Headers = dict[str, str]


def work(app: Flask) -> int:
    """Do all that is due, in this thread; how many imports and exports it was."""
    transfers: Transfers = app.extensions["shop"].transfers(app)
    return transfers.work()


def json_lines(*rows: Any) -> bytes:
    """A file of JSON Lines."""
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def csv_file(*rows: dict[str, Any], header: str = HEADER) -> bytes:
    """A CSV file with these cells, by column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header.split(","), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def cells(slug: str, sku: str, **more: Any) -> dict[str, Any]:
    """The cells of a variant that can be imported."""
    usual = {"name": "Oak table", "price_amount": 19900, "price_currency": "EUR", "stock": 7}
    return usual | {"slug": slug, "sku": sku} | more


def send(
    client: FlaskClient, staff: Headers, file: bytes, kind: str = JSONL, query: str = ""
) -> dict[str, Any]:
    """Begin an import; what the API answered."""
    answer = client.post(f"{IMPORTS}{query}", data=file, headers=staff, content_type=kind)
    assert answer.status_code == 202, answer.text
    begun: dict[str, Any] = answer.get_json()
    assert answer.headers["Location"] == f"{IMPORTS}/{begun['id']}"
    return begun


def imported(  # noqa: PLR0917 (as short as what it stands for)
    app: Flask, client: FlaskClient, staff: Headers, file: bytes, kind: str = JSONL, query: str = ""
) -> dict[str, Any]:
    """Import a file to its end; what the API says of it then."""
    begun = send(client, staff, file, kind, query)
    assert begun["status"] == "pending"
    assert work(app) == 1
    found: dict[str, Any] = client.get(f"{IMPORTS}/{begun['id']}", headers=staff).get_json()
    return found


def errors(client: FlaskClient, staff: Headers, import_id: int) -> list[tuple[int, str, str]]:
    """Everything that is wrong in a file, page by page."""
    found: list[tuple[int, str, str]] = []
    cursor: str | None = ""
    while cursor is not None:
        url = f"{IMPORTS}/{import_id}/errors?limit=7{cursor and '&cursor='}{cursor}"
        page = client.get(url, headers=staff).get_json()
        found += [(it["line"], it["pointer"], it["message"]) for it in page["items"]]
        cursor = page["next_cursor"]
    return found


def exported(app: Flask, client: FlaskClient, staff: Headers, **body: Any) -> bytes:
    """The file of an export."""
    begun = client.post(EXPORTS, json=body, headers=staff)
    assert begun.status_code == 202, begun.text
    assert work(app) == 1
    where = begun.headers["Location"]
    assert client.get(where, headers=staff).get_json()["status"] == "completed"
    answer = client.get(f"{where}/file", headers=staff, buffered=True)
    assert answer.status_code == 200
    data: bytes = answer.data
    return data


def counts(engine: Engine) -> dict[str, int]:
    """Rows of what an import writes; entries of products alone."""
    models: tuple[type[Base], ...] = (Product, Variant, StockLevel, StockMovement)
    tables = [model.__tablename__ for model in models]
    entries = select(func.count()).where(AuditEntry.table_name.in_(tables))
    with engine.connect() as connection:
        found = {
            model.__tablename__: connection.scalar(select(func.count()).select_from(model)) or 0
            for model in models
        }
        return found | {"audit_log": connection.scalar(entries) or 0}


def stop_after(pieces: int) -> tuple[threading.Event, Any]:
    """An event that is set when so many pieces of work are done, and who listens to them."""
    stopping, left = threading.Event(), [pieces]

    def heard(_now: ProductImport | ProductExport) -> None:
        left[0] -= 1
        if left[0] == 0:
            stopping.set()

    return stopping, heard
