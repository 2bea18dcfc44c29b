"""DO-18: every event is of the published schema, and the schema takes nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema_rs import Draft202012Validator
from sqlalchemy import Engine

from shop.audit.events import Event, Gap, events_after
from shop.audit.sequencer import stamp
from tests import factories
from tests.orders.checks import act, pay, placed, variant

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "event.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
#: How many users, products and orders the demo makes.
SIZES = [(20, 60, 20), pytest.param((2_000, 12_000, 8_000), marks=pytest.mark.full)]


def logged(engine: Engine) -> Iterator[Event]:
    while stamp(engine):
        pass
    position = 0
    while True:
        with engine.connect() as connection:
            found = events_after(connection, position, 1000)
        if not found:
            return
        yield from found
        position = found[-1].position


def problems(message: bytes) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(json.loads(message))]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", SIZES)
def test_events_of_a_busy_shop_are_of_the_schema(
    app: Flask, client: FlaskClient, staff: dict[str, str], engine: Engine,
    size: tuple[int, int, int],
) -> None:  # fmt: skip
    users, products, orders = (str(number) for number in size)
    made = app.test_cli_runner().invoke(
        args=["shop", "demo", "--users", users, "--products", products, "--orders", orders]
    )
    assert made.exit_code == 0, made.output
    buyer = factories.sign_in(app, "customer")
    order = placed(client, buyer, (variant(client, staff, stock=9)["sku"], 2))
    pay(client, buyer, order)
    for name in ("ship", "deliver", "refunds"):
        act(client, staff, order, name)
    gone = factories.create_product(client, staff)
    client.delete(f"/api/v1/products/{gone['id']}", headers=staff | {"If-Match": "*"})

    seen, actions = 0, set()
    for event in logged(engine):
        assert problems(event.message()) == [], event
        seen += 1
        actions.add((event.table, event.action))

    assert seen > 5 * size[1]
    assert {table for table, _ in actions} >= {"users", "products", "orders", "payments", "refunds"}
    assert {action for _, action in actions} == {"insert", "update", "delete"}


def test_a_gap_event_is_of_the_schema(app: Flask, engine: Engine) -> None:
    factories.create_user(app)
    (event,) = logged(engine)

    assert problems(Gap(event, "too large").message()) == []


def _without(name: str) -> Any:
    return lambda message: message.pop(name)


@pytest.mark.parametrize(
    "spoil",
    [
        *(_without(name) for name in ("id", "sequence", "position", "data", "specversion")),
        lambda message: message.update(colour="red"),
        lambda message: message.update(position=7),
        lambda message: message.update(sequence="0"),
        lambda message: message.update(time="2026-11-22 14:00"),
        lambda message: message.update(type="shop.audit.gap"),
        lambda message: message.update(id="7"),
        lambda message: message["data"].update(action="update"),
        lambda message: message["data"].update(after=None),
        lambda message: message["data"].pop("before"),
    ],
)
def test_what_is_no_event_is_not_of_the_schema(app: Flask, engine: Engine, spoil: Any) -> None:
    factories.create_user(app)
    (event,) = logged(engine)
    message = json.loads(event.message())
    spoil(message)

    assert problems(json.dumps(message).encode()) != []
