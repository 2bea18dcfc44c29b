"""Topics are made of what the shop made, and of nothing that a client sends."""

from __future__ import annotations

import re
import secrets
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from shop.audit.capture import Audited
from shop.audit.sinks.mqtt import MqttSink
from shop.db import Base
from tests import factories
from tests.audit.running import RunningDrain, cursor, eventually
from tests.audit.sinks.test_sinks import event
from tests.chaos.history import wait_until
from tests.running import Subscriber
from tests.servers import Mosquitto

NAMES = ("a/b", "+", "#", "a/+/#", "../users/1", "$SYS/broker", "products/1", " ", "\u0000x")
WHERE = ("name", "slug", "sku", "external_reference")


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_no_name_of_a_client_gets_into_a_topic(
    app: Flask, client: FlaskClient, staff: dict[str, str], engine: Engine, mosquitto: Mosquitto
) -> None:
    """DO-12."""
    topic = f"topics{secrets.randbits(32)}"
    made = [make(client, staff, name, where) for name in NAMES for where in WHERE]
    sink = MqttSink(lambda: mosquitto.url, topic)
    with Subscriber(mosquitto.port, "#", topic) as subscriber:
        with RunningDrain(engine, sink, window=50, batch=50) as running:
            eventually(lambda: running.drain.backlog() == 0 and cursor(engine) > 0)
            count = cursor(engine)
        heard = subscriber.arrivals

        def own() -> list[Any]:
            return [it for it in heard if orjson.loads(it.payload)["id"] in ids(engine)]

        wait_until("everything has come", lambda: len(own()) == count, 10)
    assert made.count(201) > 5
    assert set(made) <= {201, 422}
    for arrival in own():
        data = orjson.loads(arrival.payload)["data"]
        assert arrival.topic == f"{topic}/{data['table']}/{data['id']}"


def make(client: FlaskClient, staff: dict[str, str], name: str, where: str) -> int:
    """Make a product that is named so in one place; what the shop said."""
    variant = factories.variant_body(**({"sku": name} if where == "sku" else {}))
    named = {} if where == "sku" else {where: name}
    body = factories.product_body(variants=[variant], **named)
    return client.post("/api/v1/products", json=body, headers=staff).status_code


def ids(engine: Engine) -> set[str]:
    """The events that there are."""
    with engine.connect() as connection:
        return set(connection.exec_driver_sql("SELECT event_id FROM audit_log").scalars())


def test_tables_have_names_that_are_one_level_of_a_topic() -> None:
    models = [it.class_ for it in Base.registry.mappers if issubclass(it.class_, Audited)]

    assert models
    assert all(re.fullmatch("[a-z_]+", it.__tablename__) for it in models)


@pytest.mark.parametrize("table", ["products/+", "#", "a/#"])
def test_no_wildcard_is_ever_published_to(mosquitto: Mosquitto, table: str) -> None:
    sink = MqttSink(lambda: mosquitto.url, "shop")
    sink.open()
    with pytest.raises(ValueError, match="topic"):
        sink.publish(event(1)._replace(table=table))
    sink.close()
