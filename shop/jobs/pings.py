"""Tells a dead man's switch (healthchecks.io, say) of each run: it raises the alarm on silence."""

from __future__ import annotations

import queue
import threading
import urllib.request
from typing import Literal

from shop import logs

log = logs.get(__name__)

_TIMEOUT_SECONDS = 3.0
#: More than these wait for a server that is away: the rest is dropped.
_MOST_WAITING = 100


class Pings:
    """Sends pings one after another from a thread of its own; none when `url` is empty.

    `url` has `{job}` where the name of the job belongs. Pings are hints: what cannot be sent is
    logged and forgotten, and no run waits for it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, after the fork."""
        if self._url:
            self._thread = threading.Thread(target=self._send_all, name="pings", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Send what waits, as far as two time-outs allow."""
        if self._thread is not None:
            self._put(None)
            self._thread.join(2 * _TIMEOUT_SECONDS)
            self._thread = None

    def send(self, job: str, what: Literal["", "/start", "/fail"] = "") -> None:
        """Say that a run of a job has begun, has failed for good, or is done."""
        if self._thread is not None:
            self._put(self._url.replace("{job}", job) + what)

    def _put(self, address: str | None) -> None:
        try:
            self._waiting.put_nowait(address)
        except queue.Full:
            log.warning("pings.dropped")

    def _send_all(self) -> None:
        while (address := self._waiting.get()) is not None:
            try:
                with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS):  # noqa: S310 (the settings allow http and https only)
                    pass
            # Not its text: the address may hold a key.
            except Exception as error:
                log.warning("pings.failed", error=type(error).__name__)
