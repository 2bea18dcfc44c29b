"""Importing: a file becomes products in short pieces.

The products of a piece, what is known of the import, and how far it has got commit together, so
that after a kill whoever goes on finds nothing doubled and nothing missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from typing import Any, BinaryIO

from sqlalchemy.orm import Session

from shop import logs
from shop.db import db, transactional
from shop.errors import Refusal
from shop.products.bulk import FAILED, UPDATED, NewProduct, Outcome, Row, check_rows, write_rows
from shop.products.operations import SkuTaken, SlugTaken
from shop.products.rows import load_row, problem_out
from shop.transfers import models, operations
from shop.transfers.files import Folder
from shop.transfers.models import COMPLETED, ProductImport
from shop.transfers.reading import Entry, count_rows, entries

log = logs.get(__name__)

#: Products of a piece: fewer and each costs more, more and others wait longer for the database.
_PIECE = 250
_PIECE_BYTES = 2 * 2**20
_PREVIEWED = 20

#: Entries of the file with what they say.
Piece = tuple[list[Entry], list[Row]]

#: Hears of each piece that is done.
Listener = Callable[[ProductImport], None]


class Importer:
    """Works on one import that this process has claimed for `seconds` at a time.

    It ends at the end of a piece when `stopping` is set.
    """

    def __init__(
        self, folder: Folder, seconds: float, stopping: threading.Event, heard: Listener
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        self._stopping = stopping
        self._heard = heard
        #: Names in the part of the file that was checked.
        self._met: set[int] = set()

    def run(self, claimed: ProductImport) -> bool:
        """Go on until the end of the file (True) or until stopped.

        Raises:
            Lost: somebody else has it now, or cancelled it.
            Refusal: the file cannot be imported at all.
        """
        with self._folder.path(claimed.file).open("rb") as file:
            if claimed.rows_total is None:
                total = count_rows(file, claimed.format)
                claimed = self._change(claimed, lambda _, held: setattr(held, "rows_total", total))
            if claimed.checking:
                if not self._read_through(file, self._again(claimed, checking=True)):
                    return False
                claimed = self._end_check(claimed)
                if claimed.checking:
                    return True
            if not self._read_through(file, claimed):
                return False
        transactional(operations.finish)(db.session(), claimed, COMPLETED)
        return True

    def _read_through(self, file: BinaryIO, claimed: ProductImport) -> bool:
        found = entries(file, claimed.format, claimed.position, claimed.line)
        with closing(_ahead(_loaded(found))) as pieces:
            for piece, rows in pieces:
                if self._stopping.is_set():
                    return False
                claimed = self._do(claimed, piece, rows)
                self._heard(claimed)
        return True

    def _do(
        self, claimed: ProductImport, piece: Sequence[Entry], rows: Sequence[Row]
    ) -> ProductImport:
        def do(session: Session, held: ProductImport) -> None:
            write = self._check if held.checking else write_rows
            _record(session, held, piece, write(session, rows))

        changed = self._change(claimed, do)
        if changed.checking:
            self._met.update(name for row in rows for name in _names(row))
        return changed

    def _check(self, session: Session, rows: Sequence[Row]) -> list[Outcome]:
        outcomes = []
        for row, refusal in zip(rows, check_rows(session, rows), strict=True):
            why = refusal or self._met_before(row)
            status = "created" if isinstance(row, NewProduct) else UPDATED
            outcomes.append(Outcome(FAILED, refusal=why) if why else Outcome(status))
        return outcomes

    def _met_before(self, row: Row) -> Refusal | None:
        """As `check_rows` for the names in earlier pieces, which nobody has written."""
        if isinstance(row, NewProduct) and not self._met.isdisjoint(_names(row)):
            if hash(("slug", row.data.get("slug"))) in self._met:
                return SlugTaken("An earlier product of the file has the slug.")
            return SkuTaken("An earlier product of the file has one of the SKUs.")
        return None

    def _again(self, claimed: ProductImport, *, checking: bool) -> ProductImport:
        # What was met is not known after a kill, and checking changes nothing: it begins anew.
        self._met.clear()
        return self._change(
            claimed, lambda session, held: operations.begin_again(session, held, checking=checking)
        )

    def _end_check(self, claimed: ProductImport) -> ProductImport:
        """Still `checking` when that was all."""

        @transactional
        def end() -> ProductImport:
            session = db.session()
            held = operations.hold(session, claimed, self._seconds)
            if held.dry_run:
                operations.finish(session, held, COMPLETED)
            elif held.failed:
                why = f"{held.failed} products are bad: nothing was written."
                operations.finish(session, held, models.FAILED, why)
            else:
                operations.begin_again(session, held, checking=False)
            session.flush()
            session.expunge(held)
            return held

        self._met.clear()
        return end()

    def _change(
        self, claimed: ProductImport, work: Callable[[Session, ProductImport], None]
    ) -> ProductImport:
        """Do something in a transaction in which the import is held; as it is then."""

        @transactional
        def change() -> ProductImport:
            session = db.session()
            held = operations.hold(session, claimed, self._seconds)
            work(session, held)
            session.flush()
            return held

        try:
            return change()
        finally:
            # Nothing of a piece is needed in the next one, and there may be many.
            db.session.expunge_all()


def _pieces(found: Iterator[Entry]) -> Iterator[list[Entry]]:
    piece: list[Entry] = []
    size = 0
    for entry in found:
        piece.append(entry)
        size += entry.size
        if len(piece) == _PIECE or size > _PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _loaded(found: Iterator[Entry]) -> Iterator[Piece]:
    return ((piece, [_load(entry) for entry in piece]) for piece in _pieces(found))


def _ahead(pieces: Iterator[Piece]) -> Generator[Piece]:
    """The same, each of which is made while the database is busy with the one before it."""
    with ThreadPoolExecutor(1, "import-reader") as reader:

        def begin() -> Future[Piece | None]:
            # In the context of this thread: rows are read by the settings of the shop.
            return reader.submit(copy_context().run, lambda: next(pieces, None))

        upcoming = begin()
        while (piece := upcoming.result()) is not None:
            upcoming = begin()
            yield piece


def _load(entry: Entry) -> Row:
    return entry.found if isinstance(entry.found, Refusal) else load_row(entry.found)


def _names(row: Row) -> list[int]:
    """Names that no other product may have, as numbers: a million of them must find room."""
    if not isinstance(row, NewProduct):
        return []
    names = [hash(("sku", variant["sku"])) for variant in row.data["variants"]]
    return names + ([hash(("slug", row.data["slug"]))] if "slug" in row.data else [])


def _record(
    session: Session, held: ProductImport, piece: Sequence[Entry], outcomes: Sequence[Outcome]
) -> None:
    faults: list[tuple[int, str, str]] = []
    shown: list[dict[str, Any]] = []
    for entry, outcome in zip(piece, outcomes, strict=True):
        line: dict[str, Any] = {"line": entry.lines[0], "status": outcome.status}
        if outcome.refusal is not None:
            held.failed += 1
            found = _faults(entry, outcome.refusal)
            faults += found
            told = [{"pointer": pointer, "message": message} for _, pointer, message in found]
            line["problem"] = problem_out(outcome.refusal) | {"errors": told}
        elif outcome.status == UPDATED:
            held.updated += 1
        else:
            held.created += 1
        shown.append(line)
    if held.dry_run and held.position == 0:
        held.preview = shown[:_PREVIEWED]
    held.rows_done += sum(entry.rows for entry in piece)
    held.position, held.line = piece[-1].end, piece[-1].last_line
    operations.add_faults(session, held, faults)


def _faults(entry: Entry, refusal: Refusal) -> list[tuple[int, str, str]]:
    if not refusal.faults:
        return [(entry.lines[0], "", refusal.detail)]
    return [
        (*entry.place(fault.pointer), _told(refusal, fault.message)) for fault in refusal.faults
    ]


def _told(refusal: Refusal, message: str) -> str:
    return refusal.detail if message == "Taken." else message
