"""The doorbell: a commit in any process wakes the drain, wherever the drain runs.

A datagram to a socket file in the data folder. It carries nothing and may be lost: the drain
also polls. It is sent after the commit and never waits.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
from pathlib import Path

#: Longest socket path that Linux takes.
_LONGEST_PATH = 107


class Doorbell:
    """The bell at `folder/drain.sock`: many ring it, the leading drain listens."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._sender: socket.socket | None = None
        self._process = 0

    def hang(self, folder: Path) -> None:
        """Say where the bell is. Too deep a folder means no bell, just polling."""
        path = str(folder.absolute() / "drain.sock")
        self._path = path if len(path) <= _LONGEST_PATH else None

    def ring(self) -> None:
        """Wake whoever listens; nobody listening is fine."""
        if self._path is None:
            return
        if self._sender is None or self._process != os.getpid():
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
            atexit.register(self._sender.close)
            self._process = os.getpid()
        with contextlib.suppress(OSError):
            self._sender.sendto(b"!", self._path)

    def listen(self) -> socket.socket:
        """Take the bell over from whoever had it; the caller closes the socket."""
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if self._path is not None:
            path = Path(self._path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            receiver.bind(self._path)
        return receiver


def wait_for_ring(receiver: socket.socket) -> bool:
    """Whether somebody rings within the receiver's time-out; all who rang count as one."""
    timeout = receiver.gettimeout()
    try:
        receiver.recv(1)
    except TimeoutError:
        return False
    with contextlib.suppress(BlockingIOError):
        receiver.setblocking(False)
        while receiver.recv(1):
            pass
    receiver.settimeout(timeout)
    return True


bell = Doorbell()


def wake_drain() -> None:
    """Tell the drain that something was committed."""
    bell.ring()
