"""The thread that gives messages to all who have a role, in the process of a scheduler.

A piece of the recipients is a short transaction that also says how far the message got, so a kill
costs nothing but time. Between two pieces it rests as long as one took: those who buy come first.
"""

from __future__ import annotations

import threading
import time

from flask import Flask
from sqlalchemy import exc

from shop import logs
from shop.db import db, read, reason, transactional
from shop.errors import Refusal
from shop.notifications import operations, queries

log = logs.get(__name__)

_POLL_SECONDS = 1.0
_REST = 1.0
_LONGEST_REST = 1.0


class FanOut:
    """Sends what is unsent. Several per database are fine: a message's row is locked by one."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, in this process."""
        self._thread = threading.Thread(target=self._keep_sending, name="fan-out")
        self._thread.start()

    def stop(self) -> None:
        """Let the piece in hand be done, and leave the rest to others."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def work(self) -> int:
        """Send a piece of each message that is unsent; how many it were."""
        pieces = 0
        with self._app.app_context():
            for (message_id,) in read(queries.UNSENT, limit=20):
                if self._stopping.is_set():
                    break
                started = time.monotonic()
                pieces += transactional(operations.send_piece)(db.session(), message_id)
                took = time.monotonic() - started
                self._stopping.wait(min(_REST * took, _LONGEST_REST))
        return pieces

    def _keep_sending(self) -> None:
        while not self._stopping.is_set():
            pieces = 0
            try:
                pieces = self.work()
            except (exc.SQLAlchemyError, Refusal) as error:
                # Also when a recipient was erased at this moment: the piece is sent again.
                log.warning("fan-out.cannot-work", reason=reason(error))
            except Exception:
                log.exception("fan-out.failed")
            if not pieces:
                self._stopping.wait(_POLL_SECONDS)
