"""Where the files lie: in the data folder, under names of our own making.

What a client calls its file is nowhere asked for. Each machine has its own data folder: a file is
worked on where it lies.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shop.errors import Refusal, Unavailable

_PIECE = 2**16
#: A file that nobody knows may be one that is just coming in.
_YOUNG_SECONDS = 3600


class TooLarge(Refusal):
    """The file has more bytes than this shop takes."""

    slug = "too-large"


@dataclass(frozen=True, slots=True)
class Received:
    """A file that came in whole; `digest` is its SHA-256."""

    name: str
    size: int
    digest: str


class Folder:
    """The folder of imports and exports; `most` is how many bytes a file that comes in has."""

    def __init__(self, var: Path, most: int) -> None:
        self._path = var / "transfers"
        self.most = most

    def path(self, name: str) -> Path:
        """Where a file of this name lies."""
        return self._path / name

    def new_name(self, format: str) -> str:
        """A name that no file has had."""
        return f"{secrets.token_hex(16)}.{format}"

    def create(self, name: str) -> None:
        """Make an empty file that nobody else may read."""
        self._path.mkdir(parents=True, exist_ok=True)
        self.path(name).touch(mode=0o600)

    @contextmanager
    def receive(self, stream: BinaryIO, format: str) -> Iterator[Received]:
        """Keep what comes out of a stream; forget it again when the block raises.

        Raises:
            TooLarge: it is larger than the shop takes.
            Unavailable: there is no room for it.
        """
        name = self.new_name(format)
        try:
            yield self._receive(stream, name)
        except OSError as error:
            self.path(name).unlink(missing_ok=True)
            raise Unavailable("The file cannot be kept just now.") from error
        except BaseException:
            self.path(name).unlink(missing_ok=True)
            raise

    def _receive(self, stream: BinaryIO, name: str) -> Received:
        self.create(name)
        size, digest = 0, hashlib.sha256()
        with self.path(name).open("wb") as file:
            while piece := stream.read(_PIECE):
                size += len(piece)
                if size > self.most:
                    raise TooLarge(f"A file has {self.most} bytes at most.")
                digest.update(piece)
                file.write(piece)
            file.flush()
            # The database will say that it is here: it must be, whatever happens then.
            os.fsync(file.fileno())
        return Received(name, size, digest.hexdigest())

    def sweep(self, known: set[str]) -> int:
        """Remove files that are not known and not young; how many it were."""
        removed = 0
        for path in self._path.iterdir() if self._path.is_dir() else ():
            if path.name not in known and path.stat().st_mtime < time.time() - _YOUNG_SECONDS:
                path.unlink(missing_ok=True)
                removed += 1
        return removed
