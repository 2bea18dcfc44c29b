"""What paho does through a buffered socket is what it does through a plain one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from shop.audit.sinks.mqtt import MqttSink
from shop.audit.sinks.wire import BufferedClient, BufferedSocket, _reason
from tests.audit.sinks.test_sinks import collect, event
from tests.servers import Mosquitto


@pytest.fixture
def pair() -> Iterator[tuple[BufferedSocket, socket.socket]]:
    here, there = socket.socketpair()
    here.setblocking(False)
    yield BufferedSocket(here), there
    here.close()
    there.close()


def test_what_is_sent_leaves_together(pair: tuple[BufferedSocket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.setblocking(False)
    assert [ours.send(b"one "), ours.send(b"two")] == [4, 3]
    with pytest.raises(BlockingIOError):
        theirs.recv(10)

    assert ours.flush()

    assert theirs.recv(10) == b"one two"
    assert ours.flush()


def test_what_is_read_at_once_is_given_in_parts(
    pair: tuple[BufferedSocket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.sendall(b"abcdef")

    assert [ours.recv(1), ours.recv(2)] == [b"a", b"bc"]
    assert ours.holds_read
    assert ours.recv(100) == b"def"
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    theirs.close()
    assert ours.recv(1) == b""


def test_nothing_is_lost_when_the_other_side_does_not_read(
    pair: tuple[BufferedSocket, socket.socket],
) -> None:
    ours, theirs = pair
    part, sent = bytes(range(256)) * 40, 0
    with suppress(BlockingIOError):
        while sent < 10**8:
            sent += ours.send(part)
    assert 0 < sent < 10**8
    assert not ours.flush()

    got = b""
    while len(got) < sent:
        got += theirs.recv(10**6)
        ours.flush()
    assert got == part * (sent // len(part))


def test_what_is_kept_back_leaves_before_the_end(
    pair: tuple[BufferedSocket, socket.socket],
) -> None:
    ours, theirs = pair
    ours.send(b"bye")
    ours.close()
    assert theirs.recv(10) == b"bye"
    assert theirs.recv(10) == b""


def test_a_reason_is_read_as_paho_reads_it() -> None:
    for code in range(256):
        theirs = ReasonCode(PacketTypes.PUBACK)
        try:
            theirs.unpack(bytes([code]))
        except (KeyError, ValueError):
            assert _reason(bytes([code])) is None
        else:
            assert _reason(bytes([code])) == theirs
    success = _reason(b"")
    assert success is not None
    assert (success.value, success.is_failure) == (0, False)


def test_acknowledgements_take_the_short_way(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leans on the inside of paho: a version that goes another way shows here."""
    short: list[str] = []
    handle = BufferedClient._do_on_publish

    def note(client: BufferedClient, mid: int, reason: ReasonCode, properties: object) -> object:
        short.append(str(reason))
        return handle(client, mid, reason, properties)  # type: ignore[arg-type]

    monkeypatch.setattr(BufferedClient, "_do_on_publish", note)
    monkeypatch.setattr("paho.mqtt._packet.decode_puback", None)
    sink = MqttSink(lambda: mosquitto.url, "wire")
    sink.open()
    for position in range(1, 101):
        sink.publish(event(position))
    assert sorted(collect(sink, 100)) == list(range(1, 101))
    sink.close()
    assert set(short) <= {"Success", "No matching subscribers"}
    assert len(short) == 100
