"""The doors of imports and exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from flask import Response, current_app, request, send_file, url_for
from werkzeug.exceptions import UnsupportedMediaType

from shop.db import db, transactional
from shop.errors import Conflict, NotFound
from shop.transfers import operations, queries
from shop.transfers.files import Folder, Received
from shop.transfers.models import COMPLETED, CSV, JSONL, ProductExport, ProductImport
from shop.transfers.reading import check_beginning
from shop.transfers.schemas import (
    ExportIn,
    ExportOut,
    ExportPage,
    FaultPage,
    ImportOut,
    ImportPage,
    ImportQuery,
    export_out,
    fault_out,
    import_out,
)
from shop.turns import aside
from shop.web.answers import answer
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES
from shop.web.fields import LARGEST_ID
from shop.web.pagination import PageQuery, decode_cursor, page

transfers = Blueprint("transfers", __name__, description="Files of products")

_SCOPE = "products:write"
_MEDIA_TYPES = {"text/csv": CSV, "application/x-ndjson": JSONL}
_TYPE_OF = {format: name for name, format in _MEDIA_TYPES.items()}
_EXAMPLES = {
    "text/csv": "slug,name,sku,price_amount,price_currency,stock\noak,Oak table,OAK-1,1990,EUR,7\n",
    "application/x-ndjson": '{"sku": "OAK-1", "version": "*", "name": "Large"}\n',
}
#: For OpenAPI: the bodies that are files.
_FILE: dict[str, Any] = {
    "required": True,
    "content": {
        name: {"schema": {"type": "string"}, "example": example}
        for name, example in _EXAMPLES.items()
    },
}


class NotReady(Conflict):
    """The file of an export is not whole yet."""


def _folder() -> Folder:
    return cast(Folder, current_app.extensions["transfers"])


@transfers.post("/products/imports")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.query(ImportQuery)
@transfers.doc(requestBody=_FILE)
@transfers.response(202, ImportOut, headers=LOCATION)
@transfers.refuses(413, 415)
def import_products(policy: str, dry_run: str) -> Response:
    """Import a file of products: CSV (`text/csv`) or JSON Lines (`application/x-ndjson`).

    ---
    In CSV a row is a variant, and rows of one product, which have the same `slug`, follow each
    other. In JSON Lines a line is a row as in `POST /products/bulk`. See docs/import.md. The answer
    comes when the file is here; `Location` says how far its import is.
    """
    format = _format()
    folder = _folder()
    # One more than is taken, so that a file that is larger is seen to be.
    request.max_content_length = folder.most + 1
    with aside(), folder.receive(cast(BinaryIO, request.stream), format) as received:
        _check(folder.path(received.name), format)
        begun = _begin(received, format=format, policy=policy, dry_run=dry_run == "true")
    location = url_for("transfers.get_import", id=begun.id)
    return answer(import_out(begun), 202, location=location)


def _format() -> str:
    if request.mimetype not in _MEDIA_TYPES or request.headers.get("Content-Encoding"):
        raise UnsupportedMediaType("Send a file of text/csv or application/x-ndjson.")
    if request.mimetype_params.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("Send the file in UTF-8.")
    return _MEDIA_TYPES[request.mimetype]


def _check(path: Path, format: str) -> None:
    with path.open("rb") as file:
        check_beginning(file, format)


@transactional
def _begin(received: Received, **options: Any) -> ProductImport:
    file = {"file": received.name, "size": received.size, "digest": received.digest}
    return operations.begin_import(db.session(), **file, **options)


def _newest(
    model: Any, scope: str, shown: Callable[[Any], dict[str, Any]], limit: int, cursor: str | None
) -> Response:
    """A page of imports or exports, newest first."""
    before = cast(int, decode_cursor(scope, cursor, [int])[0]) if cursor else LARGEST_ID
    rows = db.session.scalars(queries.newest(model, before, limit + 1)).all()
    return page(
        rows, limit, scope=scope, key=lambda row: (row.id,),
        shape=lambda found: [shown(it) for it in found],
    )  # fmt: skip


@transfers.get("/products/imports")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.query(PageQuery)
@transfers.response(200, ImportPage, headers=ETAG | LINK)
@transfers.conditional
def list_imports(limit: int, cursor: str | None = None) -> Response:
    """List imports, newest first."""
    return _newest(ProductImport, "imports", import_out, limit, cursor)


@transfers.get("/products/imports/<id:id>")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.response(200, ImportOut, headers=ETAG)
@transfers.conditional
@transfers.refuses(404)
def get_import(id: int) -> Response:
    """How far an import is."""
    return answer(import_out(operations.find(db.session(), ProductImport, id)))


@transfers.get("/products/imports/<id:id>/errors")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.query(PageQuery)
@transfers.response(200, FaultPage, headers=ETAG | LINK)
@transfers.conditional
@transfers.refuses(404)
def list_import_errors(limit: int, id: int, cursor: str | None = None) -> Response:
    """What is wrong in a file, line by line; the first 10,000 places are kept."""
    operations.find(db.session(), ProductImport, id)
    after = cast(int, decode_cursor("import-errors", cursor, [int])[0]) if cursor else 0
    rows = db.session.scalars(queries.faults_of(id, after, limit + 1)).all()
    return page(
        rows, limit, scope="import-errors", key=lambda row: (row.id,),
        shape=lambda found: [fault_out(it) for it in found],
    )  # fmt: skip


@transfers.post("/products/imports/<id:id>/cancel")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.response(200, ImportOut)
@transfers.refuses(404, 409)
@transactional
def cancel_import(id: int) -> Response:
    """End an import where it is. What it has written stays."""
    return answer(import_out(operations.cancel_import(db.session(), id)))


@transfers.post("/products/exports")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.body(ExportIn)
@transfers.response(202, ExportOut, headers=LOCATION)
@transactional
def export_products(data: dict[str, Any]) -> Response:
    """Export products to a file, which `POST /products/imports` would take."""
    begun = operations.begin_export(
        db.session(), file=_folder().new_name(data["format"]), format=data["format"],
        product_status=data["status"], category_id=data["category_id"],
    )  # fmt: skip
    location = url_for("transfers.get_export", id=begun.id)
    return answer(export_out(begun), 202, location=location)


@transfers.get("/products/exports")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.query(PageQuery)
@transfers.response(200, ExportPage, headers=ETAG | LINK)
@transfers.conditional
def list_exports(limit: int, cursor: str | None = None) -> Response:
    """List exports, newest first."""
    return _newest(ProductExport, "exports", export_out, limit, cursor)


@transfers.get("/products/exports/<id:id>")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.response(200, ExportOut, headers=ETAG)
@transfers.conditional
@transfers.refuses(404)
def get_export(id: int) -> Response:
    """How far an export is."""
    return answer(export_out(operations.find(db.session(), ProductExport, id)))


@transfers.get("/products/exports/<id:id>/file")
@transfers.allow(*EMPLOYEES, scope=_SCOPE)
@transfers.doc(responses={200: {"description": "The file.", "content": {
    name: {"schema": {"type": "string"}} for name in _MEDIA_TYPES}}})  # fmt: skip
@transfers.refuses(404, 409)
def get_export_file(id: int) -> Response:
    """The file of a completed export."""
    found = operations.find(db.session(), ProductExport, id)
    if found.status != COMPLETED:
        raise NotReady(f"The export is not completed: it is {found.status}.")
    path = _folder().path(found.file)
    if not path.is_file():
        raise NotFound("The file is not on this machine, or not any more.")
    name = f"products-{id}.{found.format}"
    return send_file(
        path.absolute(), _TYPE_OF[found.format], as_attachment=True, download_name=name,
        conditional=False, etag=False, max_age=0,
    )  # fmt: skip
