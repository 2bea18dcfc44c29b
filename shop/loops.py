"""Loops: what a scheduler's process does again and again, beside jobs, in threads of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import ClassVar

from sqlalchemy import exc

from shop import logs
from shop.db import reason
from shop.errors import Refusal

log = logs.get(__name__)


class Loop(ABC):
    """Works until it is stopped, and rests for `rest` seconds when there was nothing to do.

    Nothing that goes wrong ends it: the next round tries again.
    """

    name: ClassVar[str]
    rest: ClassVar[float]

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, in this process."""
        self._thread = threading.Thread(target=self._go_on, name=self.name)
        self._thread.start()

    def stop(self) -> None:
        """Let the piece in hand be done, and leave the rest to others."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @abstractmethod
    def work(self) -> int:
        """Do what there is to be done, or a piece of it; how much it was."""

    def _go_on(self) -> None:
        while not self.stopping.is_set():
            done = 0
            try:
                done = self.work()
            except (exc.SQLAlchemyError, Refusal) as error:
                log.warning("loop.cannot-work", loop=self.name, reason=reason(error))
            except Exception:
                log.exception("loop.failed", loop=self.name)
            if not done:
                self.stopping.wait(self.rest)
