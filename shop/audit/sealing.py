"""Seals: a chain of digests over the log, behind the stamping, so that changes of it are seen.

Entries are not hashed when they are stamped, since whoever stamps holds the row of the head: that
would add to every event's lag. The leader seals what is stamped about once a second, reads and
hashes with no transaction open, and inserts one row. The unique `previous` lets the chain have no
second branch.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Select, exc, insert, select

from shop import clock, logs
from shop.audit import queries
from shop.audit.models import AuditEntry, Seal
from shop.db import reason, writing
from shop.leases import Lease
from shop.retry import Backoff

log = logs.get(__name__)

#: Entries of a seal at most.
MOST = 1000
_PAGE = 100
#: How long the sealer waits when everything is sealed.
_SECONDS = 1.0
#: With more to seal it rests so many times as long as it worked: publishing comes first.
_REST = 20.0
#: The digest before the first seal.
GENESIS = "0" * 64
_MARK = 8

#: Never another list: what is sealed already was made of these, whatever events may become.
_SEALED = (
    AuditEntry.position,
    AuditEntry.event_id,
    AuditEntry.type,
    AuditEntry.table_name,
    AuditEntry.row_id,
    AuditEntry.sequence,
    AuditEntry.action,
    AuditEntry.created_at,
    AuditEntry.actor,
    AuditEntry.request_id,
    AuditEntry.data,
)


@dataclass(frozen=True, slots=True)
class Content:
    """What some entries are: their positions, the digest of all, and a mark of each."""

    positions: list[int]
    digest: str
    marks: str

    def mark_at(self, index: int) -> str:
        """The mark of one entry."""
        return self.marks[index * _MARK : (index + 1) * _MARK]


def sealed_between(previous: int, through: int) -> Select[*tuple[Any, ...]]:
    """What is sealed of the entries behind `previous` up to `through`, by position."""
    return (
        select(*_SEALED)
        .where(AuditEntry.position > previous, AuditEntry.position <= through)
        .order_by(AuditEntry.position)
    )


def content_of(rows: Iterable[Any]) -> Content:
    """The content of entries, in the order of their positions."""
    whole, positions, marks = hashlib.sha256(), [], []
    for row in rows:
        # Names and lengths of all parts are told by JSON: no two entries read the same.
        one = hashlib.sha256(orjson.dumps(list(row), option=orjson.OPT_UTC_Z)).digest()
        whole.update(one)
        positions.append(row.position)
        marks.append(one.hex()[:_MARK])
    return Content(positions, whole.hexdigest(), "".join(marks))


def chained(digest: str, previous: int, through: int, content: str) -> str:
    """The digest of a link: of the one before it, its positions and its content."""
    return hashlib.sha256(f"{digest} {previous} {through} {content}".encode()).hexdigest()


def seal(engine: Engine, lease: Lease) -> int:
    """Seal what is stamped and not sealed, at most `MOST` entries; answers how many.

    Nothing when the lease is another's, or the positions are not dense (`verify` says so).
    """
    with engine.connect() as connection:
        last = connection.execute(queries.LAST_SEAL).first()
        previous, digest = (last.through, last.digest) if last is not None else (0, GENESIS)
        found = content_of(_stamped_behind(connection, previous))
    if not found.positions:
        return 0
    through = found.positions[-1]
    if through - previous != len(found.positions):
        log.error("seal.hole", after=previous, through=through, entries=len(found.positions))
        return 0
    with writing(engine) as connection:
        if not lease.still_mine(connection):
            return 0
        _insert(connection, previous, through, found, digest)
    return len(found.positions)


def _stamped_behind(connection: Connection, previous: int) -> Iterator[Any]:
    """The next entries, at most `MOST`, a few at a time: other threads publish meanwhile."""
    first, most = previous, previous + MOST
    while first < most:
        rows = connection.execute(sealed_between(first, min(first + _PAGE, most))).all()
        yield from rows
        if len(rows) < _PAGE:
            return
        first += _PAGE


def _insert(
    connection: Connection, previous: int, through: int, found: Content, digest: str
) -> None:
    connection.execute(
        insert(Seal).values(
            previous=previous, through=through, entries=len(found.positions),
            content=found.digest, marks=found.marks,
            digest=chained(digest, previous, through, found.digest), sealed_at=clock.now(),
        )
    )  # fmt: skip


class Sealer(threading.Thread):
    """Seals while its process leads the drain."""

    def __init__(self, engine: Engine, lease: Lease) -> None:
        super().__init__(name="sealer", daemon=True)
        self._engine = engine
        self._lease = lease
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def run(self) -> None:
        backoff = Backoff(first=1.0, most=60.0)
        while self._lease.held and not self._stopping.is_set():
            try:
                started = time.monotonic()
                full = seal(self._engine, self._lease) == MOST
                backoff.reset()
                pause = _REST * (time.monotonic() - started) if full else _SECONDS
            except exc.SQLAlchemyError as error:
                log.warning("seal.interrupted", reason=reason(error))
                pause = backoff.delay()
            self._stopping.wait(pause)
