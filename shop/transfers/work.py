"""The thread that works on imports and exports, in the process of a scheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask import Flask

from shop import logs, provenance
from shop.db import db, is_away, read, transactional
from shop.errors import Refusal, Unavailable
from shop.loops import Loop
from shop.transfers import operations, queries
from shop.transfers.exporting import Exporter
from shop.transfers.files import Folder
from shop.transfers.importing import Importer
from shop.transfers.models import FAILED, ProductExport, ProductImport
from shop.transfers.operations import MOST_ATTEMPTS, Lost
from shop.transfers.queries import T

log = logs.get(__name__)

_WORKERS: dict[type[Any], type[Any]] = {ProductImport: Importer, ProductExport: Exporter}


def go_on(
    transfer: T,
    folder: Folder,
    seconds: float,
    stopping: threading.Event,
    heard: Callable[[T], None] = lambda _: None,
) -> bool:
    """Work on what was claimed, as whoever asked for it, until its end (True) or until stopped.

    What cannot go on is recorded as failed.

    Raises:
        Lost: it is another's, or was cancelled.
        sqlalchemy.exc.SQLAlchemyError, Unavailable: the database cannot be used just now.
    """
    kind = type(transfer).__tablename__
    actor = provenance.actor.set(transfer.actor)
    request = provenance.request_id.set(transfer.request_id)
    log.info("transfer.started", kind=kind, id=transfer.id, position=transfer.position)
    try:
        ended: bool = _WORKERS[type(transfer)](folder, seconds, stopping, heard).run(transfer)
        event = "transfer.finished" if ended else "transfer.interrupted"
        log.info(event, kind=kind, id=transfer.id)
        return ended
    except (Lost, Unavailable):
        raise
    except Exception as error:
        if is_away(error):
            raise
        why = "The shop made a mistake: it is logged."
        if isinstance(error, Refusal):
            why = _told(error)
        else:
            log.exception("transfer.failed", kind=kind, id=transfer.id)
        transactional(operations.finish)(db.session(), transfer, FAILED, why)
        return True
    finally:
        provenance.actor.reset(actor)
        provenance.request_id.reset(request)


def _told(refusal: Refusal) -> str:
    return " ".join([refusal.detail, *(fault.message for fault in refusal.faults[:10])])


class Transfers(Loop):
    """Works on what is due, one at a time. Several per database are fine: each claims its own.

    `seconds` is how long a claim lasts: as long is a killed process waited for.
    """

    name, rest = "transfers", 1.0

    def __init__(self, app: Flask, folder: Folder, seconds: float) -> None:
        super().__init__()
        self._app = app
        self._folder = folder
        self._seconds = seconds

    def work(self) -> int:
        """Work on everything that is due; how many it were."""
        with self._app.app_context():
            return sum(
                self._work_on(model, row.id)
                for model in _WORKERS
                for row in read(queries.due(model))
                if self._is_here(model, row.file) and not self.stopping.is_set()
            )

    def _is_here(self, model: type[Any], file: str) -> bool:
        # What came in on another machine is imported there; an export begins anywhere.
        return model is ProductExport or self._folder.path(file).exists()

    def _work_on(self, model: type[T], id_: int) -> bool:
        claimed = transactional(operations.claim)(db.session(), model, id_, self._seconds)
        if claimed is None:
            return False
        if claimed.attempts > MOST_ATTEMPTS:
            why = "Given up: its process ended each time."
            transactional(operations.finish)(db.session(), claimed, FAILED, why)
            return False
        with suppress(Lost):
            if not go_on(claimed, self._folder, self._seconds, self.stopping):
                transactional(operations.release)(db.session(), claimed, wait=False)
        return True
