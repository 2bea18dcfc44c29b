"""The thread that gives messages to all who have a role, in the process of a scheduler.

A piece of the recipients is a short transaction that also says how far the message got, so a kill
costs nothing but time. Between two pieces it rests as long as one took: those who buy come first.
"""

from __future__ import annotations

import time

from flask import Flask

from shop.db import db, read, transactional
from shop.loops import Loop
from shop.notifications import operations, queries

_REST = 1.0
_LONGEST_REST = 1.0


class FanOut(Loop):
    """Sends what is unsent. Several per database are fine: a message's row is locked by one.

    When a recipient is erased at the same moment a piece fails, and is sent again.
    """

    name, rest = "fan-out", 1.0

    def __init__(self, app: Flask) -> None:
        super().__init__()
        self._app = app

    def work(self) -> int:
        """Send a piece of each message that is unsent; how many it were."""
        pieces = 0
        with self._app.app_context():
            for (message_id,) in read(queries.UNSENT, limit=20):
                if self.stopping.is_set():
                    break
                started = time.monotonic()
                pieces += transactional(operations.send_piece)(db.session(), message_id)
                took = time.monotonic() - started
                self.stopping.wait(min(_REST * took, _LONGEST_REST))
        return pieces
