"""paho's client with fewer system calls: one read for many answers, one write for many messages.

paho reads an acknowledgement in three system calls and writes each message in one. Each lets go of
the interpreter, and in a process whose other threads work it is a while until it has it again.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from functools import cache
from typing import Any, cast

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_MOST_READ = 65_536
#: More than this is not kept back.
_MOST_KEPT = 65_536
_NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]
#: A PUBACK without properties: packet id, and a reason unless it is success.
_PLAIN = (2, 3)


class BufferedSocket:
    """A socket as paho uses it. What is sent is kept back until `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._read = b""
        self._at = 0
        self._kept = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, most: int) -> bytes:
        """Bytes that were read before, or are there now. Raises BlockingIOError."""
        if self._at >= len(self._read):
            self._read, self._at = self._sock.recv(_MOST_READ), 0
        found = self._read[self._at : self._at + most]
        self._at += len(found)
        return found

    @property
    def holds_read(self) -> bool:
        """Whether bytes were read, here or by TLS, that the socket no longer shows as readable."""
        sock = self._sock
        decrypted = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        return decrypted or self._at < len(self._read)

    def send(self, data: bytes | bytearray) -> int:
        """Keep something back. Raises BlockingIOError: so much is kept that it must leave first."""
        if len(self._kept) > _MOST_KEPT and not self.flush():
            raise BlockingIOError
        self._kept += data
        return len(data)

    def flush(self) -> bool:
        """Send what is kept back, as far as the socket takes it; whether nothing is left.

        Raises:
            OSError: the connection is lost.
        """
        while self._kept:
            try:
                del self._kept[: self._sock.send(self._kept)]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
        return True

    def close(self) -> None:
        """Send what is kept back if that needs no waiting, and close."""
        with contextlib.suppress(OSError):
            self.flush()
        self._sock.close()


class BufferedClient(mqtt.Client):
    """A client whose socket is buffered, and whose plain acknowledgements are read quickly."""

    @property
    def wire(self) -> BufferedSocket | None:
        """The socket, while there is a connection."""
        return self.socket()  # type: ignore[return-value]

    def _create_socket(self) -> Any:
        return BufferedSocket(cast(socket.socket, super()._create_socket()))

    def _handle_pubackcomp(self, cmd: Any) -> Any:
        packet = self._in_packet["packet"]
        is_plain = cmd == "PUBACK" and len(packet) in _PLAIN
        reason = _reason(bytes(packet[2:])) if is_plain else None
        if reason is None:
            return super()._handle_pubackcomp(cmd)
        mid = packet[0] << 8 | packet[1]
        with self._out_message_mutex:
            if mid in self._out_messages:
                return self._do_on_publish(mid, reason, _NO_PROPERTIES)
        return mqtt.MQTT_ERR_SUCCESS


@cache
def _reason(code: bytes) -> ReasonCode | None:
    """What one byte, or none, says; None when paho knows no such reason.

    paho looks through all names of all reasons for each message.
    """
    reason = ReasonCode(PacketTypes.PUBACK)
    try:
        if code:
            reason.unpack(code)
    except (KeyError, ValueError):
        return None
    return reason
