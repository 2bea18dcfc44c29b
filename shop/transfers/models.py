"""Files of products that come in and go out, and how far each has got."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    String,
)
from sqlalchemy.orm import Mapped, mapped_column

from shop import clock
from shop.db import TABLE_OPTIONS, Base, BigId, Id, Instant, LongText, UTCDateTime

CSV, JSONL = "csv", "jsonl"
FORMATS = (CSV, JSONL)
PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = (
    "pending", "running", "completed", "failed", "cancelled",
)  # fmt: skip
STATUSES = (PENDING, RUNNING, COMPLETED, FAILED, CANCELLED)
#: What can still change.
OPEN = (PENDING, RUNNING)
#: What happens when rows are bad: they fail alone; or the whole file is read first, and nothing is
#: written unless all of it could be.
SKIP_BAD_ROWS, CHECK_FIRST = "skip_bad_rows", "check_first"
POLICIES = (SKIP_BAD_ROWS, CHECK_FIRST)
_STATUS = "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')"


class Transfer:
    """Mixin of work on a file, which goes on in short pieces until it has ended.

    Whoever works on it holds its `claim` until `due_ms`, on the database's clock; what is due
    is nobody's, and without a `due_ms` it waits for a command to go on. `position` is how many
    bytes of the file are done: each piece of work moves it in its own transaction, so whoever goes
    on after a kill goes on exactly there. `attempts` counts claims since the last such move.
    """

    id: Mapped[Id]
    status: Mapped[str] = mapped_column(String(10), default=PENDING)
    format: Mapped[str] = mapped_column(String(5))
    file: Mapped[str] = mapped_column(String(64))
    position: Mapped[int] = mapped_column(BigInteger, default=0)
    rows_total: Mapped[int | None] = mapped_column(BigInteger)
    rows_done: Mapped[int] = mapped_column(BigInteger, default=0)
    actor: Mapped[str | None] = mapped_column(String(100))
    request_id: Mapped[str | None] = mapped_column(String(64))
    due_ms: Mapped[int | None] = mapped_column(BigInteger)
    claim: Mapped[str | None] = mapped_column(String(32))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    error: Mapped[str | None] = mapped_column(LongText)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class ProductImport(Transfer, Base):
    """A file whose rows become products.

    While `checking`, rows are read and not written. `created`, `updated` and `failed` count
    products, of which a CSV file may have several rows. `digest` is the SHA-256 of the file.
    """

    __tablename__ = "product_imports"
    __table_args__ = (
        CheckConstraint(_STATUS, name="status"),
        Index(None, "status", "due_ms"),
        Index(None, "digest"),
        TABLE_OPTIONS,
    )

    policy: Mapped[str] = mapped_column(String(20))
    dry_run: Mapped[bool] = mapped_column(Boolean)
    checking: Mapped[bool] = mapped_column(Boolean)
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    line: Mapped[int] = mapped_column(BigInteger, default=0)
    created: Mapped[int] = mapped_column(BigInteger, default=0)
    updated: Mapped[int] = mapped_column(BigInteger, default=0)
    failed: Mapped[int] = mapped_column(BigInteger, default=0)
    faults: Mapped[int] = mapped_column(BigInteger, default=0)
    preview: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)


class ImportFault(Base):
    """Something wrong in a file: the line, and a pointer into the row."""

    __tablename__ = "product_import_faults"
    __table_args__ = (Index(None, "import_id", "id"), TABLE_OPTIONS)

    id: Mapped[Id]
    import_id: Mapped[int] = mapped_column(BigId, ForeignKey("product_imports.id"))
    line: Mapped[int] = mapped_column(BigInteger)
    pointer: Mapped[str] = mapped_column(String(200))
    message: Mapped[str] = mapped_column(String(500))


class ProductExport(Transfer, Base):
    """A file that products are written to; `last_id` is the last product in it.

    `product_status` and `category_id` say which products; None is all.
    """

    __tablename__ = "product_exports"
    __table_args__ = (
        CheckConstraint(_STATUS, name="status"),
        Index(None, "status", "due_ms"),
        TABLE_OPTIONS,
    )

    product_status: Mapped[str | None] = mapped_column(String(10))
    category_id: Mapped[int | None] = mapped_column(BigInteger)
    last_id: Mapped[int] = mapped_column(BigInteger, default=0)
