"""SHOP_MQTT_RETAIN=on: the broker keeps the last state of the catalogue for who comes later."""

from __future__ import annotations

import json
import queue
from typing import Any

import pytest

from shop.audit.events import Event, Gap
from shop.audit.sinks.base import SinkRefused
from shop.audit.sinks.mqtt import RETAINED, MqttSink
from tests.audit.sinks.test_mqtt import subscriber
from tests.audit.sinks.test_sinks import collect, event
from tests.servers import Mosquitto


def retaining(mosquitto: Mosquitto, prefix: str, **options: Any) -> MqttSink:
    sink = MqttSink(lambda: mosquitto.url, prefix, **({"retain": True} | options))
    sink.open()
    return sink


def kept(mosquitto: Mosquitto, prefix: str, among: int) -> dict[str, bytes]:
    """What somebody gets who subscribes now: retained messages, up to a marker sent after them."""
    found: dict[str, bytes] = {}
    with subscriber(mosquitto, f"{prefix}/#") as messages:
        marker = retaining(mosquitto, prefix, retain=False)
        marker.publish(event(among, table="markers"))
        marker.flush()
        while True:
            try:
                message = messages.get(timeout=10)
            except queue.Empty:
                raise AssertionError("the marker never came") from None
            if message.topic.startswith(f"{prefix}/markers/"):
                marker.close()
                return found
            assert message.retain
            found[message.topic.removeprefix(f"{prefix}/")] = bytes(message.payload)


def test_the_last_state_of_the_catalogue_and_nothing_else_is_kept(mosquitto: Mosquitto) -> None:
    sink = retaining(mosquitto, "kept")
    tables = [*sorted(RETAINED), "users", "orders", "payments"]
    for number, table in enumerate(tables, start=1):
        sink.publish(event(number, table=table))
    sink.publish(event(20, table="products")._replace(row_id=4, sequence=2, action="update"))
    assert len(collect(sink, len(tables) + 1)) == len(tables) + 1
    sink.close()

    found = kept(mosquitto, "kept", 99)

    assert {topic.partition("/")[0] for topic in found} == {
        "products", "variants", "stock_levels", "categories",
    }  # fmt: skip
    last = json.loads(found["products/4"])
    assert last["sequence"] == "2"


def test_what_is_deleted_is_kept_no_more_and_its_event_arrives(mosquitto: Mosquitto) -> None:
    sink = retaining(mosquitto, "cleared")
    sink.publish(event(1))
    sink.flush()
    gone = event(2)._replace(row_id=1, sequence=2, action="delete")
    with subscriber(mosquitto, "cleared/#") as messages:
        assert messages.get(timeout=10).retain
        sink.publish(gone)
        sink.flush()
        heard = [messages.get(timeout=10) for _ in range(2)]
    assert sorted(collect(sink, 2)) == [1, 2]
    assert sink.acknowledged(0.05) == []
    sink.close()

    assert [message.payload for message in heard] == [gone.message(), b""]
    assert kept(mosquitto, "cleared", 3) == {}


def test_what_is_sent_again_and_gap_events_are_no_last_state(mosquitto: Mosquitto) -> None:
    sink = retaining(mosquitto, "again")
    newest = event(5)._replace(row_id=1, sequence=2)
    sink.publish(newest)
    sink.publish(event(1), again=True)
    sink.publish(event(1)._replace(action="delete"), again=True)
    sink.publish(Gap(newest, "too large"))
    collect(sink, 4)
    sink.close()

    assert kept(mosquitto, "again", 9) == {"products/1": newest.message()}


def test_without_the_setting_nothing_is_kept(mosquitto: Mosquitto) -> None:
    sink = retaining(mosquitto, "plain", retain=False)
    sink.publish(event(1))
    sink.publish(event(2)._replace(action="delete"))
    assert sorted(collect(sink, 2)) == [1, 2]
    sink.close()

    assert kept(mosquitto, "plain", 9) == {}


def test_what_mqtt_itself_cannot_carry_is_refused(mosquitto: Mosquitto) -> None:
    class Huge(Event):
        def message(self) -> bytes:
            return bytes(268_435_455)

    sink = retaining(mosquitto, "huge")
    large = Huge(*event(1))

    with pytest.raises(SinkRefused, match="too large for MQTT") as refusal:
        sink.publish(large)
    assert (refusal.value.position, refusal.value.lasting) == (1, True)
    sink.publish(event(2))
    assert collect(sink, 1) == [2]
    sink.close()
