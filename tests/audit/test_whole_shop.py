"""The commands on the log while a worker of a running shop leads the drain."""

from __future__ import annotations

import json
import queue
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.audit.running import eventually
from tests.audit.sinks.test_mqtt import subscriber
from tests.running import RunningShop
from tests.servers import Mosquitto, require


@pytest.mark.full
def test_an_event_that_was_too_large_arrives_when_the_broker_takes_it(tmp_path: Path) -> None:
    """DO-08, DO-16: parked, announced, put back; and a range is sent again, all by the worker."""
    require("mosquitto", "a broker with a limit", private=True)
    with (
        Mosquitto(tmp_path / "broker", max_packet_size=6000) as broker,
        RunningShop(tmp_path / "shop", "", broker.url) as shop,
    ):
        token = {"Authorization": f"Bearer {shop.admin_token()}"}
        variant = {"price": {"amount": 1990, "currency": "EUR"}, "stock": 1}
        for sku, text in (("OAK-1", "oak " * 3000), ("OAK-2", "oak")):
            body = {"name": sku, "description": text, "variants": [variant | {"sku": sku}]}
            made = requests.post(
                f"{shop.url}/api/v1/products", json=body, headers=token, timeout=20
            )
            assert made.status_code == 201

        def sink() -> dict[str, Any]:
            (found,) = json.loads(shop.flask("audit", "status", "--json"))["sinks"]
            return dict(found)

        eventually(lambda: sink()["parked"] == 1 and sink()["backlog"] == 0, seconds=60)
        (row,) = json.loads(shop.flask("audit", "parked", "--json"))
        last = sink()["position"]

        broker.settings["max_packet_size"] = 100_000
        broker.restart()
        with subscriber(broker, "shop/#") as messages:
            assert "1 put back" in shop.flask("audit", "requeue")
            eventually(lambda: (sink()["parked"], sink()["requeued"]) == (0, 0), seconds=60)
            shop.flask("audit", "replay", "--from", "1")
            eventually(lambda: sink()["replays"] == [], seconds=60)
            heard = [json.loads(message) for message in received(messages, 1 + last)]

        events = f"{shop.url}/api/v1/audit/events?after={row['position'] - 1}&limit=1"
        (event,) = requests.get(events, headers=token, timeout=20).json()["items"]
        assert heard[0] == event
        assert [int(message["position"]) for message in heard[1:]] == list(range(1, last + 1))
        assert json.loads(shop.flask("shop", "verify"))["sound"]


def received(messages: queue.Queue[Any], count: int) -> list[bytes]:
    deadline = time.monotonic() + 20
    found: list[bytes] = []
    while len(found) < count:
        found.append(bytes(messages.get(timeout=deadline - time.monotonic()).payload))
    return found
