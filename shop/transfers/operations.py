"""What happens to files that come in and go out. Each statement decides in the database."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from shop import clock, provenance
from shop.db import database_ms
from shop.errors import Conflict, NotFound
from shop.transfers import queries
from shop.transfers.models import (
    CANCELLED,
    CHECK_FIRST,
    OPEN,
    RUNNING,
    ImportFault,
    ProductExport,
    ProductImport,
)
from shop.transfers.queries import T

#: Faults of one import that are kept; those after them are only counted.
MOST_FAULTS = 10_000
#: Claims without any progress: what ends its process each time must not do so for ever.
MOST_ATTEMPTS = 5


class Lost(Exception):
    """It is another's by now, or was cancelled: what was done here must not be kept."""


class Ended(Conflict):
    """It has ended and cannot be cancelled any more."""


def begin_import(session: Session, **values: Any) -> ProductImport:
    """Plan an import, which anybody may begin at once unless `due_ms` is given."""
    checking = values["dry_run"] or values["policy"] == CHECK_FIRST
    found = ProductImport(**_who(), **{"due_ms": 0, "checking": checking} | values)
    session.add(found)
    session.flush()
    return found


def begin_export(session: Session, **values: Any) -> ProductExport:
    """Plan an export."""
    found = ProductExport(**_who(), **{"due_ms": 0} | values)
    session.add(found)
    session.flush()
    return found


def _who() -> dict[str, Any]:
    return {"actor": provenance.actor.get(), "request_id": provenance.request_id.get()}


def find(session: Session, model: type[T], transfer_id: int) -> T:
    """Raises NotFound."""
    found = session.get(model, transfer_id, populate_existing=True)
    if found is None:
        raise NotFound("There is no such import or export.")
    return found


def claim(session: Session, model: type[T], transfer_id: int, seconds: float) -> T | None:
    """Take what is nobody's for so many seconds; None when it is gone, ended or another's.

    It is detached from the session: as it was when it was taken.
    """
    nobodys = (model.due_ms.is_(None)) | (model.due_ms <= database_ms())
    taken = _changed(
        session,
        update(model)
        .where(model.id == transfer_id, model.status.in_(OPEN), nobodys)
        .values(
            claim=secrets.token_hex(16),
            due_ms=database_ms() + int(seconds * 1000),
            status=RUNNING,
            attempts=model.attempts + 1,
        ),
    )
    if not taken:
        return None
    found = session.get_one(model, transfer_id, populate_existing=True)
    session.expunge(found)
    return found


def hold(session: Session, transfer: T, seconds: float) -> T:
    """The transfer under a lock, kept for so many seconds more. Raises Lost."""
    model = type(transfer)
    assert transfer.claim is not None
    held = session.scalars(queries.held(model, transfer.id, transfer.claim)).one_or_none()
    if held is None:
        raise Lost
    now = session.execute(select(database_ms())).scalar_one()
    held.due_ms, held.attempts = now + int(seconds * 1000), 0
    return held


def release(session: Session, transfer: T, *, wait: bool) -> None:
    """Give a claim back: to whoever comes next, or, to `wait`, to a command."""
    model = type(transfer)
    mine = (model.id == transfer.id, model.claim == transfer.claim, model.status.in_(OPEN))
    values = {"claim": None, "due_ms": None if wait else 0, "attempts": 0}
    _changed(session, update(model).where(*mine).values(values))


def finish(session: Session, transfer: T, status: str, error: str | None = None) -> None:
    """Record the end of what is held. Raises Lost."""
    model = type(transfer)
    mine = (model.id == transfer.id, model.claim == transfer.claim, model.status.in_(OPEN))
    values = {"status": status, "error": error, "finished_at": clock.now(), "claim": None}
    if not _changed(session, update(model).where(*mine).values(values)):
        raise Lost


def cancel_import(session: Session, import_id: int) -> ProductImport:
    """End an import where it is; what it wrote stays. Raises NotFound, Ended."""
    cancelled = _changed(
        session,
        update(ProductImport)
        .where(ProductImport.id == import_id, ProductImport.status.in_(OPEN))
        .values(status=CANCELLED, finished_at=clock.now(), claim=None),
    )
    found = find(session, ProductImport, import_id)
    if not cancelled:
        raise Ended(f"The import has ended already: it is {found.status}.")
    return found


def begin_again(session: Session, held: ProductImport, *, checking: bool) -> None:
    """Go back to the beginning of the file."""
    held.checking = checking
    held.position = held.line = held.rows_done = held.faults = 0
    held.created = held.updated = held.failed = 0
    session.execute(delete(ImportFault).where(ImportFault.import_id == held.id))


def add_faults(
    session: Session, held: ProductImport, faults: Sequence[tuple[int, str, str]]
) -> None:
    """Keep what is wrong in the file: line, pointer and message."""
    kept = faults[: max(MOST_FAULTS - held.faults, 0)]
    held.faults += len(kept)
    rows = [
        {"import_id": held.id, "line": line, "pointer": pointer[:200], "message": message[:500]}
        for line, pointer, message in kept
    ]
    if rows:
        session.connection().execute(insert(ImportFault), rows)


def _changed(session: Session, statement: object) -> bool:
    options = {"synchronize_session": False}
    result = session.execute(statement, execution_options=options)  # type: ignore[call-overload]
    return cast("CursorResult[object]", result).rowcount == 1
