"""Reading a file of products: its entries, each of which is a product or a change of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from shop.errors import Fault, Invalid, Refusal
from shop.products.operations import MOST_VARIANTS
from shop.transfers.models import JSONL
from shop.transfers.records import LONGEST, Record, csv_rows, json_lines
from shop.transfers.table import place_of, read_header, read_product, slug_in
from shop.web.bodies import read_json

#: Characters of all rows of a product: four times what one of them has at most.
_LARGEST = 4 * LONGEST


@dataclass(frozen=True, slots=True)
class Entry:
    """One product of a file, or one change: the lines of its rows, and where it ends.

    `found` is what is to be loaded, or why there is nothing.
    """

    lines: Sequence[int]
    rows: int
    last_line: int
    end: int
    size: int
    found: dict[str, Any] | Refusal
    flat: bool = False

    def place(self, pointer: str) -> tuple[int, str]:
        """The line that a pointer into the entry means, and the pointer into that line."""
        if not self.flat:
            return self.lines[0], pointer
        row, pointer = place_of(pointer)
        return self.lines[min(row, len(self.lines) - 1)], pointer


def check_beginning(file: BinaryIO, format: str) -> None:
    """Look at the beginning of a file. Raises Invalid: it cannot be one of products."""
    if format == JSONL:
        if next(json_lines(file, 0, 0), None) is None:
            raise Invalid("There is nothing in the file.")
    else:
        _read_header(file)


def _read_header(file: BinaryIO) -> tuple[tuple[str, ...], Record]:
    record = next(csv_rows(file, 0, 0), None)
    if record is None:
        raise Invalid("There is nothing in the file.")
    if record.fault is not None:
        raise Invalid("The header cannot be read.", faults=(Fault("", record.fault),))
    return read_header(record.cells), record


def count_rows(file: BinaryIO, format: str) -> int:
    """How many rows there are, the header not counted."""
    if format == JSONL:
        return sum(1 for _ in json_lines(file, 0, 0))
    _, header = _read_header(file)
    return sum(1 for _ in csv_rows(file, header.end, header.last_line))


def entries(file: BinaryIO, format: str, position: int, line: int) -> Iterator[Entry]:
    """The entries after a position, which is the end of another or 0. Raises Invalid."""
    if format == JSONL:
        return _json_entries(file, position, line)
    header, record = _read_header(file)
    if position == 0:
        position, line = record.end, record.last_line
    return _csv_entries(file, header, position, line)


def _json_entries(file: BinaryIO, position: int, line: int) -> Iterator[Entry]:
    for record in json_lines(file, position, line):
        size = record.end - position
        position = record.end
        found = _json_object(record)
        yield Entry((record.line,), 1, record.last_line, record.end, size, found)


def _json_object(record: Record) -> dict[str, Any] | Refusal:
    if record.fault is not None:
        return _unreadable(record.fault)
    try:
        value = read_json(record.raw)
    except Refusal as refusal:
        return _unreadable(refusal.detail.replace("The body", "The line"))
    return value if isinstance(value, dict) else _unreadable("Not a JSON object.")


def _unreadable(why: str) -> Refusal:
    return Invalid("The row cannot be read.", faults=(Fault("", why),))


class _Group:
    """Rows that follow each other and belong to one product; it is bad when one of them is."""

    def __init__(self, slug: str, first: Record) -> None:
        self.slug = slug
        self.rows: list[Sequence[str]] = []
        self.lines: list[int] = []
        self.count = self._size = 0
        self.fault: str | None = None
        self.bad_line = self.first_line = first.line
        self.add(first)

    def takes(self, record: Record, slug: str) -> bool:
        """Whether a row belongs to it. One that cannot be read at all might: better none than
        half a product."""
        return bool(self.slug) and (slug == self.slug or not record.cells)

    def add(self, record: Record) -> None:
        """Add a row; more than a product can have are counted and not kept."""
        self.last = record
        self.count += 1
        self._size += sum(map(len, record.cells))
        if record.fault is not None and self.fault is None:
            self.fault, self.bad_line = record.fault, record.line
        if self._size > _LARGEST:
            self.fault, self.rows = "The rows of the product are too long together.", []
        elif self.count <= MOST_VARIANTS + 1:
            self.rows.append(record.cells)
            self.lines.append(record.line)


def _csv_entries(
    file: BinaryIO, header: Sequence[str], position: int, line: int
) -> Iterator[Entry]:
    group: _Group | None = None
    for record in csv_rows(file, position, line):
        slug = slug_in(header, record.cells)
        if group is not None and group.takes(record, slug):
            group.add(record)
            continue
        if group is not None:
            yield _entry(header, group, position)
            position = group.last.end
        group = _Group(slug, record)
    if group is not None:
        yield _entry(header, group, position)


def _entry(header: Sequence[str], group: _Group, begin: int) -> Entry:
    found: dict[str, Any] | Refusal
    lines = group.lines
    if group.fault is not None:
        found = _unreadable(group.fault)
        if group.count > 1:
            # Named by its first line, too: somebody has to send all of it again.
            fault = Fault("/variants/1", f"Not made: line {group.bad_line} cannot be read.")
            found = Invalid(found.detail, faults=(*found.faults, fault))
        lines = [group.bad_line, group.first_line]
    else:
        try:
            found = read_product(header, group.rows)
        except Refusal as refusal:
            # Without its traceback, which would hold on to all of the cells.
            found = refusal.with_traceback(None)
    last, size = group.last, group.last.end - begin
    return Entry(lines, group.count, last.last_line, last.end, size, found, flat=True)
