"""MQTT: what a subscriber sees, and what the sink does when the broker misbehaves."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from shop.audit.sinks.base import SinkDown, SinkRefused
from shop.audit.sinks.mqtt import MqttSink
from tests.audit.sinks.test_sinks import collect, event
from tests.servers import Mosquitto, free_port, require


@contextmanager
def subscriber(broker: Mosquitto, topic: str) -> Iterator[queue.Queue[mqtt.MQTTMessage]]:
    """Messages of a topic, from when it is entered."""
    messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
    subscribed = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda c, *_: c.subscribe(topic, 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _u, message: messages.put(message)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert subscribed.wait(10)
    try:
        yield messages
    finally:
        client.disconnect()
        client.loop_stop()


def test_an_event_arrives_as_the_contract_says(mosquitto: Mosquitto) -> None:
    sink = MqttSink(lambda: mosquitto.url, "my/shop")
    with subscriber(mosquitto, "my/shop/#") as messages:
        sink.open()
        sink.publish(event(42))
        sink.flush()
        message = messages.get(timeout=10)
    sink.close()

    assert message.topic == "my/shop/products/42"
    assert message.qos == 1
    assert not message.retain
    assert message.properties is not None
    assert vars(message.properties)["ContentType"] == "application/cloudevents+json"
    assert message.payload == event(42).message()
    envelope = json.loads(message.payload)
    assert envelope["data"]["after"] == {"id": 1}
    assert envelope["datacontenttype"] == "application/json"
    assert (envelope["actor"], envelope["requestid"]) == ("users/3", "till-7")


def test_no_broker_is_said_to_be_down() -> None:
    port = free_port()

    with pytest.raises(SinkDown, match=str(port)):
        MqttSink(lambda: f"mqtt://127.0.0.1:{port}", "shop").open()


def test_no_address_is_said_to_be_down() -> None:
    with pytest.raises(SinkDown, match="embedded"):
        MqttSink(lambda: None, "shop").open()


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop.audit.sinks.mqtt._CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = MqttSink(lambda: f"mqtt://127.0.0.1:{silent.getsockname()[1]}", "shop")
        with pytest.raises(SinkDown, match="no answer"):
            sink.open()
        sink.close()


def test_wrong_credentials_are_said_without_being_shown(tmp_path: Path) -> None:
    require("mosquitto", "a broker that refuses", private=True)
    with Mosquitto(tmp_path, allow_anonymous=False) as broker:
        sink = MqttSink(lambda: f"mqtt://ann:canary@127.0.0.1:{broker.port}", "shop")
        with pytest.raises(SinkDown) as refusal:
            sink.open()
        sink.close()

    assert "canary" not in str(refusal.value)
    assert "ot authorized" in str(refusal.value)


def test_a_broker_that_dies_loses_the_connection_and_a_new_one_works(tmp_path: Path) -> None:
    require("mosquitto", "a broker that dies", private=True)
    with Mosquitto(tmp_path) as broker:
        sink = MqttSink(lambda: broker.url, "shop")
        sink.open()
        sink.publish(event(1))
        assert collect(sink, 1) == [1]
        broker.kill()
        with pytest.raises(SinkDown):
            use_for(sink, seconds=10)
        broker.restart()
        sink.open()
        sink.publish(event(2))
        assert collect(sink, 1) == [2]
        sink.close()


def use_for(sink: MqttSink, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    position = 100
    while time.monotonic() < deadline:
        sink.publish(event(position := position + 1))
        sink.acknowledged(0.05)


def test_a_frozen_broker_acknowledges_nothing(tmp_path: Path) -> None:
    require("mosquitto", "a broker that freezes", private=True)
    with Mosquitto(tmp_path) as broker:
        sink = MqttSink(lambda: broker.url, "shop")
        sink.open()
        broker.freeze()
        sink.publish(event(1))
        assert sink.acknowledged(0.5) == []
        broker.thaw()
        assert collect(sink, 1) == [1]
        sink.close()


def test_an_event_that_the_broker_forbids_is_refused_and_not_acknowledged(tmp_path: Path) -> None:
    require("mosquitto", "a broker with access rules", private=True)
    rules = tmp_path / "rules"
    rules.write_text("topic read shop/#\n")
    rules.chmod(0o600)
    with Mosquitto(tmp_path / "broker", acl_file=str(rules)) as broker:
        sink = MqttSink(lambda: broker.url, "shop")
        sink.open()
        sink.publish(event(1))
        with pytest.raises(SinkRefused):
            collect(sink, 1)
        sink.close()
