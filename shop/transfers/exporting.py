"""Exporting: products become a file in short pieces, which anybody can go on with."""

from __future__ import annotations

import csv
import io
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from sqlalchemy.orm import Session

from shop.db import db, transactional
from shop.products.categories import below
from shop.products.queries import all_categories
from shop.transfers import operations, queries
from shop.transfers.files import Folder
from shop.transfers.models import COMPLETED, CSV, ProductExport
from shop.transfers.table import (
    COLUMNS,
    PRODUCT_COLUMNS,
    VARIANT_COLUMNS,
    product_body,
    write_rows,
)

_PIECE = 500
Body = dict[str, Any]


class Exporter:
    """Works on one export that this process has claimed for `seconds` at a time.

    It ends at the end of a piece when `stopping` is set.
    """

    def __init__(
        self,
        folder: Folder,
        seconds: float,
        stopping: threading.Event,
        heard: Callable[[ProductExport], None],
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        self._stopping = stopping
        self._heard = heard

    def run(self, claimed: ProductExport) -> bool:
        """Go on until the last product (True) or until stopped. Raises Lost."""
        path = self._folder.path(claimed.file)
        if claimed.rows_total is None:
            claimed = self._change(claimed, rows_total=_count(claimed))
        if not _is_whole(path, claimed.position):
            self._folder.create(claimed.file)
            claimed = self._change(claimed, position=0, last_id=0, rows_done=0)
        with path.open("r+b") as file:
            more = True
            while more:
                if self._stopping.is_set():
                    return False
                last_id, bodies = _products_after(claimed)
                more = last_id > claimed.last_id
                # Of a shop without products there is a file, too: it has a header.
                end = _append(file, claimed, bodies)
                done = claimed.rows_done + len(bodies)
                claimed = self._change(claimed, position=end, last_id=last_id, rows_done=done)
                self._heard(claimed)
        transactional(operations.finish)(db.session(), claimed, COMPLETED)
        return True

    def _change(self, claimed: ProductExport, **values: Any) -> ProductExport:
        @transactional
        def change() -> ProductExport:
            session = db.session()
            held = operations.hold(session, claimed, self._seconds)
            for name, value in values.items():
                setattr(held, name, value)
            session.flush()
            return held

        try:
            return change()
        finally:
            db.session.expunge_all()


def _is_whole(path: Path, position: int) -> bool:
    """Whether the file has what was written to it by whoever worked on it before."""
    return path.exists() and path.stat().st_size >= position


def _chosen(session: Session, export: ProductExport) -> tuple[str | None, set[int] | None]:
    if export.category_id is None:
        return export.product_status, None
    tree = session.scalars(all_categories()).all()
    return export.product_status, below(tree, export.category_id)


def _count(export: ProductExport) -> int:
    session = db.session()
    try:
        return session.execute(queries.product_count(*_chosen(session, export))).scalar_one()
    finally:
        session.rollback()


def _products_after(export: ProductExport) -> tuple[int, list[Body]]:
    """The next products, as they would be sent to make them again, and the id of the last."""
    session = db.session()
    sources = [column.source for column in PRODUCT_COLUMNS]
    found = queries.products_after(sources, export.last_id, _PIECE, *_chosen(session, export))
    products = session.execute(found).all()
    ids = [row[0] for row in products]
    owned: defaultdict[int, list[Sequence[Any]]] = defaultdict(list)
    if ids:
        sources = [column.source for column in VARIANT_COLUMNS]
        for row in session.execute(queries.variants_of(sources, ids)):
            owned[row[0]].append(row[1:])
    session.rollback()
    # Deleted between the two questions: not there any more.
    bodies = [product_body(row[1:], owned[row[0]]) for row in products if row[0] in owned]
    return (ids[-1] if ids else export.last_id), bodies


def _append(file: BinaryIO, export: ProductExport, bodies: Iterable[Body]) -> int:
    """Write products after what is known to be written; where they end."""
    file.seek(export.position)
    # What comes after it was written by somebody who could not say so any more.
    file.truncate()
    if export.format == CSV:
        file.write(_csv(export.position == 0, bodies))
    else:
        file.writelines(orjson.dumps(body) + b"\n" for body in bodies)
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _csv(begins: bool, bodies: Iterable[Body]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    if begins:
        writer.writerow(COLUMNS)
    for body in bodies:
        writer.writerows(write_rows(body))
    return text.getvalue().encode()
