"""MQTT 5: an event is acknowledged when the broker's PUBACK for it says success."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
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
_CONNECT_SECONDS = 5.0
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
    """Publishes to `<prefix>/<table>/<id>` at QoS 1.

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
        self._positions: dict[int, int] = {}
        self._answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._connected = threading.Event()
        self._lost: str | None = None
        self._on_the_wire = _ON_THE_WIRE

    @property
    def address(self) -> str:
        """Host and port of the last connection, without credentials."""
        return f"{self._url.hostname}:{self._port}" if self._url.hostname else "none"

    @property
    def _port(self) -> int:
        return self._url.port or (8883 if self._url.scheme == "mqtts" else 1883)

    def open(self) -> None:
        self.close()
        self._url = urlsplit(self._find_url() or "")
        if not self._url.hostname:
            raise SinkDown("there is no broker: the embedded one does not run")
        self._connect()
        if self._client is not None and self._client.max_inflight_messages != self._on_the_wire:
            # The broker's Receive Maximum is lower; paho cannot change its own while connected.
            self.close()
            self._connect()

    def _connect(self) -> None:
        self._client = client = self._new_client()
        try:
            client.connect(
                self._url.hostname or "127.0.0.1", self._port, keepalive=_KEEPALIVE_SECONDS
            )
        except (OSError, ValueError) as error:
            raise SinkDown(f"no broker at {self.address}: {error}") from error
        client.loop_start()
        if not self._connected.wait(_CONNECT_SECONDS) or self._lost is not None:
            raise SinkDown(f"the broker at {self.address} refused: {self._lost or 'no answer'}")

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
        self._positions, self._answers = {}, queue.SimpleQueue()
        self._connected, self._lost = threading.Event(), None
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def publish(self, event: Event) -> None:
        if self._client is None or self._lost is not None:
            raise SinkDown(f"the connection to {self.address} is lost: {self._lost}")
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
        done: list[int] = []
        try:
            while True:
                wait = timeout > 0 and not done
                mid, reason = self._answers.get(wait, timeout if wait else None)
                if mid < 0:
                    raise SinkDown(f"the connection to {self.address} is lost: {reason}")
                if reason.is_failure:
                    raise SinkRefused(f"{self.address} refused an event: {reason}")
                done.append(self._positions.pop(mid))
        except queue.Empty:
            return done

    def close(self) -> None:
        if self._client is None:
            return
        client, self._client = self._client, None
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()

    # The callbacks run in paho's thread, some under its locks: they only leave a note.

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._lost = str(reason)
        limit = getattr(properties, "ReceiveMaximum", _ON_THE_WIRE)
        self._on_the_wire = min(_ON_THE_WIRE, limit)
        self._connected.set()

    def _on_disconnect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        self._lost = str(reason)
        self._answers.put((-1, reason))

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: Any, _p: Any) -> None:
        self._answers.put((mid, reason))


def _send_at_once(_client: Any, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
