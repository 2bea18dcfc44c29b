"""Drain rate: events a second out of a backlog, against plain paho with the same payloads.

`python -m bench.drain PORT SECONDS FILE` is the plain publisher, a process of its own: the payloads
of FILE (a JSON list) over and over, QoS 1, with the drain's window. The two take turns.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.stage import Shop, query
from shop.audit.events import events_after
from tests.servers import MariaDB, Mosquitto

_WINDOW = 50
_SAMPLE = 5000
_PATIENCE_SECONDS = 20.0


@dataclass
class Drain:
    """Events a second of each turn."""

    shop: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    events: int = 0

    @property
    def ratio(self) -> float:
        """The drain's rate to that of the plain publisher."""
        return mean(self.shop) / mean(self.plain)


def measure(shop: Shop, database: MariaDB, broker: Mosquitto, rounds: int, seconds: float) -> Drain:
    """Take turns over the demo's backlog; afterwards no drain runs."""
    result = Drain()
    for _ in range(rounds):
        with shop.server():
            events, rate = _watch(database, seconds)
        result.events += events
        result.shop.append(rate)
        result.plain.append(_publish_plainly(shop, broker.port, seconds))
    return result


def _watch(database: MariaDB, seconds: float) -> tuple[int, float]:
    """How far the cursor moves, from its first move on."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    before = _cursor(database)
    while (first := _cursor(database)) == before:
        if time.monotonic() > deadline:
            raise TimeoutError("the drain does not begin")
        time.sleep(0.02)
    begun = time.perf_counter()
    time.sleep(seconds)
    events = _cursor(database) - first
    return events, events / (time.perf_counter() - begun)


def _cursor(database: MariaDB) -> int:
    ((position,),) = query(database, "SELECT COALESCE(MAX(position), 0) FROM audit_sinks")
    return int(position)


def _publish_plainly(shop: Shop, port: int, seconds: float) -> float:
    engine = shop.engine()
    with engine.connect() as connection:
        events = events_after(connection, 0, _SAMPLE)
    engine.dispose()
    messages = [[f"bench/{e.table}/{e.row_id}", e.message().decode()] for e in events]
    file = shop.var / "messages.json"
    file.write_bytes(orjson.dumps(messages))
    command = [sys.executable, "-m", "bench.drain", str(port), str(seconds), str(file)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _publisher(port: int, acknowledged: threading.Semaphore) -> mqtt.Client:
    ready = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)

    def on_publish(*_: Any) -> None:
        acknowledged.release()

    client.on_publish = on_publish
    client.on_connect = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not ready.wait(10):
        raise TimeoutError("no broker")
    return client


def main() -> None:
    """Publish for a while, then say how many events a second were acknowledged."""
    port, seconds, file = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    messages = [(topic, text.encode()) for topic, text in orjson.loads(file.read_bytes())]
    free = threading.Semaphore(_WINDOW)
    client = _publisher(port, free)
    sent, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        free.acquire()
        client.publish(*messages[sent % len(messages)], qos=1)
        sent += 1
    for _ in range(_WINDOW):
        free.acquire()
    print(sent / (time.perf_counter() - begun))
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
