"""MQTT 5: an event is acknowledged when the broker's PUBACK for it says success."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shop.audit.events import Event, Outgoing
from shop.audit.sinks.base import Sink, SinkDown, SinkRefused
from shop.audit.sinks.wire import BufferedClient, BufferedSocket

#: Unacknowledged messages on the wire. More is slower: paho scans all of them at each PUBACK.
_ON_THE_WIRE = 20
#: Enough for answers that come five seconds late.
_CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS = 10
#: Tables whose rows' last states the broker keeps, if it is asked to.
RETAINED = frozenset({"products", "variants", "stock_levels", "categories"})
#: Reason codes that are about one message: topic name invalid, packet too large, payload format
#: invalid. Any other may be about all of them.
_LASTING = frozenset({0x90, 0x95, 0x99})
#: Malformed packet, protocol error. paho says so, too, of an answer that it does not know, such as
#: the 0x95 to a PUBLISH by which Mosquitto tells that it is over `message_size_limit`.
_UNREADABLE = frozenset({0x81, 0x82})
#: So often a connection has to end so with the same one message in flight.
_UNREADABLE_TIMES = 5
#: The broker's quota is used up: that passes, and is never about one message.
_QUOTA_EXCEEDED = 0x97
_LARGEST_PACKET = 268_435_455
#: A PUBLISH without topic, properties and payload: header, length of the topic, packet id.
_PACKET_BYTES = 5 + 2 + 2


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
    broker may come later or elsewhere; None when there is no broker. With `retain` the broker
    keeps the last state of each row of the catalogue, for who subscribes later.
    """

    name = "mqtt"

    def __init__(
        self, find_url: Callable[[], str | None], prefix: str, *, retain: bool = False
    ) -> None:
        self._find_url = find_url
        self._url = urlsplit("")
        self._prefix = prefix
        self._properties = _content_type()
        self._client: BufferedClient | None = None
        self._connected = False
        self._trouble: str | None = None
        self._retain = retain
        self._most_bytes: int | None = None
        self._refusals: deque[SinkRefused] = deque()
        self._positions: dict[int, int] = {}
        #: The only event in flight when the connection last ended so, and how often in a row.
        self._unreadable = 0, 0
        #: Events that ended the last connection, and why: refused once, without being sent.
        self._fatal: dict[int, str] = {}
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

    def _new_client(self) -> BufferedClient:
        # A new client for each connection, and none reconnects by itself: it would send again
        # what it still holds, and the log is the only queue.
        client = BufferedClient(
            CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        client.connect_timeout = _CONNECT_SECONDS
        client.max_inflight_messages_set(self._on_the_wire)
        if self._url.username:
            password = unquote(self._url.password or "")
            client.username_pw_set(unquote(self._url.username), password)
        if self._url.scheme == "mqtts":
            client.tls_set_context(ssl.create_default_context())
        self._connected, self._trouble, self._most_bytes = False, None, None
        self._positions, self._acknowledged, self._refusals = {}, [], deque()
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def publish(self, event: Outgoing, *, again: bool = False) -> None:
        self._raise_trouble()
        if event.position in self._fatal:
            raise SinkRefused(self._fatal.pop(event.position), event.position, lasting=True)
        topic = f"{self._prefix}/{event.table}/{event.row_id}"
        kept = self._retain and not again and isinstance(event, Event) and event.table in RETAINED
        gone = kept and event.action == "delete"
        self._positions[self._send(topic, event, kept and not gone)] = event.position
        if gone:
            # An empty message clears the topic. The event counts when the broker has taken both:
            # it takes them in their order.
            self._positions[self._publish(topic, b"", retain=True)] = event.position

    def _send(self, topic: str, event: Outgoing, retain: bool) -> int:
        """Answers the packet id. Raises SinkDown, SinkRefused."""
        try:
            payload = event.message()
        except (TypeError, ValueError) as error:
            raise SinkRefused(f"cannot be encoded: {error}", event.position, lasting=True) from None
        size = _PACKET_BYTES + len(topic.encode()) + len(self._properties.pack()) + len(payload)
        if size > (self._most_bytes or _LARGEST_PACKET):
            raise SinkRefused(
                f"too large: {size} bytes, and the broker takes {self._most_bytes}"
                if self._most_bytes else f"too large for MQTT: {size} bytes",
                event.position, lasting=True,
            )  # fmt: skip
        return self._publish(topic, payload, retain=retain)

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> int:
        assert self._client is not None
        info = self._client.publish(
            topic, payload, qos=1, retain=retain,
            properties=self._properties,  # type: ignore[arg-type]
        )  # fmt: skip
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise SinkDown(f"{self.address}: {mqtt.error_string(info.rc)}")
        return info.mid

    def flush(self) -> None:
        if self._client is not None and (sock := self._client.wire) is not None:
            self._flush(sock)

    def acknowledged(self, timeout: float) -> Sequence[int]:
        if not self._refusals:
            try:
                self._serve(0.0 if self._acknowledged else timeout)
            except SinkDown:
                # What it said when it hung up counts.
                if not self._refusals:
                    raise
        if self._refusals and not self._acknowledged:
            raise self._refusals.popleft()
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
        sock = self._client.wire
        if sock is None:
            raise SinkDown(f"the connection to {self.address} is closed")
        left = not self._flush(sock) or self._client.want_write()
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if left else 0))
        ready = poll.poll(0 if sock.holds_read else timeout * 1000)
        if sock.holds_read or any(what & ~select.POLLOUT for _, what in ready):
            self._client.loop_read()
        if any(what & select.POLLOUT for _, what in ready):
            self._client.loop_write()
        self._client.loop_misc()
        self._raise_trouble()

    def _flush(self, sock: BufferedSocket) -> bool:
        try:
            return sock.flush()
        except OSError as error:
            raise SinkDown(f"the connection to {self.address} is lost: {error}") from error

    def _raise_trouble(self) -> None:
        if self._trouble is not None or self._client is None:
            raise SinkDown(f"{self.address}: {self._trouble or 'not connected'}")

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._trouble = f"refused: {reason}"
        limit = getattr(properties, "ReceiveMaximum", _ON_THE_WIRE)
        self._on_the_wire = min(_ON_THE_WIRE, limit)
        self._most_bytes = getattr(properties, "MaximumPacketSize", None)
        if self._retain and getattr(properties, "RetainAvailable", 1) == 0:
            self._trouble = "it keeps no messages: set SHOP_MQTT_RETAIN=off"
        self._connected = True

    def _on_disconnect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        unanswered = set(self._positions.values())
        if len(unanswered) == 1 and self._is_about(unanswered.copy().pop(), reason.value):
            # There is one message only that it can mean.
            position = unanswered.pop()
            self._fatal[position] = str(reason)
            self._refusals.append(SinkRefused(str(reason), position, lasting=True))
        self._trouble = self._trouble or f"the connection is lost: {reason}"

    def _is_about(self, position: int, code: int) -> bool:
        """Whether the connection was ended because of the only event in flight."""
        if code in _UNREADABLE:
            known, times = self._unreadable
            self._unreadable = position, times + 1 if known == position else 1
        return code in _LASTING or (
            code in _UNREADABLE and self._unreadable[1] >= _UNREADABLE_TIMES
        )

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: Any, _p: Any) -> None:
        # An acknowledgement may say no: what it names is not processed then.
        position = self._positions.pop(mid, None)
        if position is None:
            return
        if reason.value == _QUOTA_EXCEEDED:
            self._trouble = f"refused: {reason}"
        elif reason.is_failure:
            lasting = reason.value in _LASTING
            self._positions = {m: p for m, p in self._positions.items() if p != position}
            self._refusals.append(SinkRefused(str(reason), position, lasting=lasting))
        elif not self._retain or position not in self._positions.values():
            self._acknowledged.append(position)


def _send_at_once(_client: Any, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
