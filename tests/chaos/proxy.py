"""A TCP proxy that stands before a broker and misbehaves when it is told to."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

from tests.servers import HOST

_PIECE = 4096
_ANSWER_SECONDS = 10.0
#: How long what was passed on is still answered, before a connection is cut.
_LAST_ANSWERS_SECONDS = 0.05


class Proxy:
    """Passes on what comes, both ways; connections that are made later go by the later rules.

    ``mute``: from now on no answer of the server arrives but the CONNACK of a connection.
    ``delay``: answers arrive so many seconds later. ``rate``: so many bytes a second pass towards
    the server. ``cut_after``: a connection is reset after so many bytes towards it.
    """

    def __init__(self, port: int) -> None:
        """Stand before a port of this machine; nothing is listened to before ``with``."""
        self.mute = False
        self.delay = 0.0
        self.rate: float | None = None
        self.cut_after: int | None = None
        self.connections = 0
        self._server = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))

    @property
    def port(self) -> int:
        """Where it listens."""
        number: int = self._listener.getsockname()[1]
        return number

    @property
    def url(self) -> str:
        """The broker as it is seen through the proxy."""
        return f"mqtt://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        """Listen."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """End every connection with a reset."""
        for sock in self._open:
            _reset(sock)
        self._open.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((HOST, self._server), _ANSWER_SECONDS)
                except OSError:
                    _reset(client)
                    continue
                server.settimeout(None)
                self.connections += 1
                self._open += [client, server]
                for work in (self._forwards, self._backwards):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _forwards(self, client: socket.socket, server: socket.socket) -> None:
        left, rate = self.cut_after, self.rate
        # What waits here must not be more than what is under way.
        piece = _PIECE if rate is None else max(1, int(rate / 10))
        with contextlib.suppress(OSError):
            while data := client.recv(piece if left is None else min(piece, left)):
                server.sendall(data)
                if rate is not None:
                    time.sleep(len(data) / rate)
                left = None if left is None else left - len(data)
                if left == 0:
                    time.sleep(_LAST_ANSWERS_SECONDS)
                    break
        _reset(client)
        _reset(server)

    def _backwards(self, client: socket.socket, server: socket.socket) -> None:
        answers: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=_answer, args=(client, answers), daemon=True).start()
        welcomed = False
        with contextlib.suppress(OSError):
            while data := server.recv(_PIECE):
                if self.mute:
                    # The second byte of a short packet is the number of those that follow.
                    data = b"" if welcomed else data[: 2 + data[1]]
                welcomed = True
                if data:
                    answers.put((time.monotonic() + self.delay, data))
        answers.put((0.0, b""))


def _answer(client: socket.socket, answers: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    """Send each answer when it is due, until an empty one."""
    with contextlib.suppress(OSError):
        while (answer := answers.get())[1]:
            time.sleep(max(answer[0] - time.monotonic(), 0))
            client.sendall(answer[1])
    _reset(client)


def _reset(sock: socket.socket) -> None:
    """Close without the usual farewell, as a network does that breaks."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Whoever reads it at the moment would keep it open.
        sock.shutdown(socket.SHUT_RD)
    sock.close()
