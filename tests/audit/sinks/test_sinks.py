"""What every sink must do, proved on each: one suite for all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

from shop.audit.events import Event
from shop.audit.sinks.base import Sink, Window
from shop.audit.sinks.memory import MemorySink
from shop.audit.sinks.mqtt import MqttSink

SINKS = ("memory", "mqtt")


def event(position: int, table: str = "products") -> Event:
    return Event(
        position=position, event_id=f"01JD{position:022}", type="shop.product.created",
        table=table, row_id=position, sequence=1, action="insert",
        time=datetime(2026, 11, 22, 14, tzinfo=UTC), actor="users/3", request_id="till-7",
        data='{"table":"products","id":1,"action":"insert","before":null,"after":{"id":1}}',
    )  # fmt: skip


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest) -> Iterator[Sink]:
    if request.param == "memory":
        made: Sink = MemorySink()
    else:
        url = request.getfixturevalue("mosquitto").url
        made = MqttSink(lambda: url, "shop")
    yield made
    made.close()


def collect(sink: Sink, count: int, seconds: float = 10.0) -> Sequence[int]:
    """Acknowledged positions until there are `count` of them."""
    got: list[int] = []
    deadline = time.monotonic() + seconds
    while len(got) < count and time.monotonic() < deadline:
        got += sink.acknowledged(0.05)
    return got


def test_each_published_event_is_acknowledged_once(sink: Sink) -> None:
    sink.open()
    for position in range(1, 201):
        sink.publish(event(position))

    assert sorted(collect(sink, 200)) == list(range(1, 201))
    assert sink.acknowledged(0.05) == []


def test_a_sink_can_be_opened_again_and_forgets_what_was_in_flight(sink: Sink) -> None:
    sink.open()
    sink.publish(event(1))
    sink.close()

    sink.open()
    sink.publish(event(2))

    assert collect(sink, 1) == [2]


def test_closing_twice_is_harmless(sink: Sink) -> None:
    sink.open()
    sink.close()
    sink.close()

    sink.open()
    sink.publish(event(1))
    assert collect(sink, 1) == [1]


def test_a_window_moves_only_over_what_is_continuously_acknowledged() -> None:
    window = Window(position=10)
    for position in (11, 12, 13):
        window.sent(position)

    window.acknowledge([12, 13])
    assert (window.position, len(window)) == (10, 3)

    window.acknowledge([11])
    assert (window.position, len(window)) == (13, 0)
