"""MQTT 5: an event is acknowledged when the broker's PUBACK for it says success."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shop.audit.events import Event
from shop.audit.sinks.base import Sink, SinkDown, SinkRefused

#: Unacknowledged messages on the wire. More is slower: paho scans all of them at each PUBACK.
_ON_THE_WIRE = 20
#: Enough for answers that come five seconds late.
_CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS = 10


class _Packed:
    """MQTT 5 properties, packed once: packing them for each message halves the rate."""

    def __init__(self, properties: Properties) -> None:
        self._bytes: bytes = properties.pack()  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        """What paho asks for."""
        return self._bytes


def _content_type() -> _Packed:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/cloudevents+json"
    return _Packed(properties)


class MqttSink(Sink):
    """Publishes to `<prefix>/<table>/<id>` at QoS 1, all of it in the thread that calls.

    `find_url` answers `mqtt://` or `mqtts://` and is asked at each connection, since the embedded
    broker may come later or elsewhere; None when there is no broker.
    """

    name = "mqtt"

    def __init__(self, find_url: Callable[[], str | None], prefix: str) -> None:
        self._find_url = find_url
        self._url = urlsplit("")
        self._prefix = prefix
        self._properties = _content_type()
        self._client: mqtt.Client | None = None
        self._connected = False
        self._trouble: str | None = None
        self._refusal: str | None = None
        self._positions: dict[int, int] = {}
        self._acknowledged: list[int] = []
        self._on_the_wire = _ON_THE_WIRE

    @property
    def address(self) -> str:
        """Host and port of the last connection, without credentials."""
        return f"{self._url.hostname}:{self._port}" if self._url.hostname else "none"

    @property
    def _port(self) -> int:
        return self._url.port or (8883 if self._url.scheme == "mqtts" else 1883)

    def open(self) -> None:
        self._url = urlsplit(self._find_url() or "")
        if not self._url.hostname:
            raise SinkDown("there is no broker: the embedded one does not run")
        self._connect()
        if self._client is not None and self._client.max_inflight_messages != self._on_the_wire:
            # The broker's Receive Maximum is lower; paho cannot change its own while connected.
            self._connect()

    def _connect(self) -> None:
        self.close()
        self._client = client = self._new_client()
        try:
            client.connect(str(self._url.hostname), self._port, keepalive=_KEEPALIVE_SECONDS)
        except (OSError, ValueError) as error:
            raise SinkDown(f"no broker at {self.address}: {error}") from error
        deadline = time.monotonic() + _CONNECT_SECONDS
        while not self._connected:
            if time.monotonic() > deadline:
                raise SinkDown(f"the broker at {self.address} gives no answer")
            self._serve(0.1)

    def _new_client(self) -> mqtt.Client:
        # A new client for each connection, and none reconnects by itself: it would send again
        # what it still holds, and the log is the only queue.
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        client.connect_timeout = _CONNECT_SECONDS
        client.max_inflight_messages_set(self._on_the_wire)
        if self._url.username:
            password = unquote(self._url.password or "")
            client.username_pw_set(unquote(self._url.username), password)
        if self._url.scheme == "mqtts":
            client.tls_set_context(ssl.create_default_context())
        self._connected, self._trouble, self._refusal = False, None, None
        self._positions, self._acknowledged = {}, []
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def publish(self, event: Event) -> None:
        self._raise_trouble()
        assert self._client is not None
        info = self._client.publish(
            f"{self._prefix}/{event.table}/{event.row_id}",
            event.message(),
            qos=1,
            properties=self._properties,  # type: ignore[arg-type]
        )
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise SinkDown(f"{self.address}: {mqtt.error_string(info.rc)}")
        self._positions[info.mid] = event.position

    def acknowledged(self, timeout: float) -> Sequence[int]:
        self._serve(0.0 if self._acknowledged else timeout)
        if self._refusal is not None:
            raise SinkRefused(f"{self.address} refused an event: {self._refusal}")
        done, self._acknowledged = self._acknowledged, []
        return done

    def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            client.on_disconnect = None
            client.disconnect()

    def _serve(self, timeout: float) -> None:
        """Read and write what is there, waiting at most `timeout` for something to be."""
        self._raise_trouble()
        assert self._client is not None
        sock = self._client.socket()
        if sock is None:
            raise SinkDown(f"the connection to {self.address} is closed")
        # TLS may hold bytes that the socket no longer shows as readable.
        decrypted = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        ready = poll.poll(0 if decrypted else timeout * 1000)
        if decrypted or any(what & ~select.POLLOUT for _, what in ready):
            self._client.loop_read()
        if any(what & select.POLLOUT for _, what in ready):
            self._client.loop_write()
        self._client.loop_misc()
        self._raise_trouble()

    def _raise_trouble(self) -> None:
        if self._trouble is not None or self._client is None:
            raise SinkDown(f"{self.address}: {self._trouble or 'not connected'}")

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._trouble = f"refused: {reason}"
        limit = getattr(properties, "ReceiveMaximum", _ON_THE_WIRE)
        self._on_the_wire = min(_ON_THE_WIRE, limit)
        self._connected = True

    def _on_disconnect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        self._trouble = self._trouble or f"the connection is lost: {reason}"

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: Any, _p: Any) -> None:
        # An acknowledgement may say no: what it names is not processed then.
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            self._acknowledged.append(self._positions.pop(mid))


def _send_at_once(_client: Any, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
