"""What the scheduler does with imports and exports that are over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from shop import logs
from shop.transfers import queries
from shop.transfers.files import Folder
from shop.transfers.models import ImportFault, ProductExport, ProductImport

log = logs.get(__name__)

#: How many rows a run deletes at most: it holds SQLite's only write lock meanwhile.
_BATCH = 1000


def forget_transfers(
    session: Session, moment: datetime, folder: Folder, days: int
) -> dict[str, Any]:
    """Delete imports and exports that began that many days ago, and files that are nobody's.

    At most 1,000 rows, the oldest first; the next run goes on. It also takes the files away: now
    nobody knows yet whether this transaction commits. Answers how many of each it were.
    """
    known = {*session.scalars(queries.files(ProductImport))}
    known |= {*session.scalars(queries.files(ProductExport))}
    removed = folder.sweep(known)
    before = moment - timedelta(days=days)
    imports = session.scalars(queries.old(ProductImport, before, _BATCH)).all()
    faults = session.scalars(queries.faults_among(imports, _BATCH)).all() if imports else []
    _delete(session, ImportFault, faults)
    if len(faults) < _BATCH:
        _delete(session, ProductImport, imports)
    exports = session.scalars(queries.old(ProductExport, before, _BATCH)).all()
    _delete(session, ProductExport, exports)
    forgotten = {"imports": len(imports), "exports": len(exports), "files": removed}
    if any(forgotten.values()):
        log.info("transfers.forgotten", **forgotten)
    return forgotten


def _delete(session: Session, model: Any, ids: Any) -> None:
    if ids:
        session.execute(
            delete(model).where(model.id.in_(ids)).execution_options(synchronize_session=False)
        )
