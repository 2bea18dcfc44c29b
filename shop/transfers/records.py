"""The records of a file, from any position on, in bounded memory, however hostile it is."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

#: Bytes of a record: as many as a request has at most, unless it is set otherwise.
LONGEST = 2**20
_PIECE = 2**16
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a file: the line where it begins, and the last line and byte that it takes.

    It has `raw`, a line of JSON, or `cells`; or a `fault`, why it cannot be read.
    """

    line: int
    last_line: int
    end: int
    raw: bytes = b""
    cells: tuple[str, ...] = ()
    fault: str | None = None


class _TooLong(Exception):
    pass


class _Lines:
    """Lines of a file; `line` and `position` are the last that it gave, and where it ended.

    Goes on after an exception, and gives text: what is no UTF-8 stays recognisable in it.
    """

    def __init__(self, file: BinaryIO, position: int, line: int) -> None:
        self._file = file
        self.position, self.line = position, line
        #: Bytes that the record may still have.
        self.left = LONGEST
        file.seek(position)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return self.next_raw().decode("utf-8", "surrogateescape")

    def next_raw(self) -> bytes:
        """Raises StopIteration, _TooLong (after the line, of which it keeps nothing)."""
        piece = self._read()
        if not piece:
            raise StopIteration
        whole = [piece]
        while not piece.endswith(b"\n") and (piece := self._read()):
            if self.left >= 0:
                whole.append(piece)
        self.line += 1
        if self.left < 0:
            raise _TooLong
        return b"".join(whole)

    def _read(self) -> bytes:
        piece = self._file.readline(_PIECE)
        first = self.position == 0
        self.position += len(piece)
        self.left -= len(piece)
        return piece.removeprefix(_BOM) if first else piece


def json_lines(file: BinaryIO, position: int, line: int) -> Iterator[Record]:
    """The lines that are not blank, after a position and the line there."""
    lines = _Lines(file, position, line)
    while True:
        lines.left, first, raw, fault = LONGEST, lines.line + 1, b"", None
        try:
            raw = lines.next_raw()
        except StopIteration:
            return
        except _TooLong:
            fault = "Longer than 1 MiB."
        if fault or raw.strip():
            yield Record(first, lines.line, lines.position, raw=raw, fault=fault)


def csv_rows(file: BinaryIO, position: int, line: int) -> Iterator[Record]:
    """The rows that are not blank, after a position and the line there."""
    lines = _Lines(file, position, line)
    reader = csv.reader(lines, strict=True)
    while True:
        lines.left, first, cells, fault = LONGEST, lines.line + 1, list[str](), None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _TooLong:
            # What follows is read as if a row began there: after a missing quote one does.
            fault = "Longer than 1 MiB: is a quote missing?"
        except csv.Error as error:
            fault = f"Not CSV: {error}."
        if cells and not _is_text(cells):
            fault = "Not UTF-8."
        if fault and lines.line > first:
            fault += f" Nothing was read from line {first} to {lines.line}."
        if fault or cells:
            yield Record(first, lines.line, lines.position, cells=tuple(cells), fault=fault)


def _is_text(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True
