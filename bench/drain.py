"""Drain rate: events a second out of a backlog, against plain paho with the same payloads.

`python -m bench.drain PORT SECONDS FILE` is the plain publisher, a process of its own: the payloads
of FILE (a JSON list) over and over, QoS 1, with the drain's window. The two take turns.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.stage import DATABASE, Shop, fill_log, query
from shop.audit.events import events_after
from tests.servers import MariaDB, Mosquitto

#: Of the plain publisher's rate; times the rate of one event after the other.
TARGET, TARGET_NAIVE = 0.75, 10
_WINDOW = 50
_WARM_SECONDS = 1.5
#: No drain is so fast that the backlog ends.
_MOST_RATE = 15_000
_SAMPLE = 5000
_PATIENCE_SECONDS = 20.0


@dataclass
class Drain:
    """Events a second of each turn."""

    shop: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)
    events: int = 0

    @property
    def ratio(self) -> float:
        """The drain's rate to that of the plain publisher."""
        return mean(self.shop) / mean(self.plain)

    @property
    def times_naive(self) -> float:
        """The drain's rate to that of the loop that does one event after the other."""
        return mean(self.shop) / mean(self.naive)


def measure(shop: Shop, database: MariaDB, broker: Mosquitto, rounds: int, seconds: float) -> Drain:
    """Take turns over a backlog that does not end; afterwards no drain runs."""
    result = Drain()
    for _ in range(rounds):
        fill_log(database, int(_MOST_RATE * (seconds + _WARM_SECONDS)))
        with shop.server():
            events, rate = _watch(database, seconds)
        result.events += events
        result.shop.append(rate)
        sample = _sample(shop)
        result.plain.append(_publish_plainly(sample, shop, broker.port, seconds))
        result.naive.append(_publish_naively(sample, database, broker.port, seconds))
    return result


def _watch(database: MariaDB, seconds: float) -> tuple[int, float]:
    """How far the cursor moves, from its first move on."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    before = cursor(database)
    while cursor(database) == before:
        if time.monotonic() > deadline:
            raise TimeoutError("the drain does not begin")
        time.sleep(0.02)
    # The other worker starts meanwhile.
    time.sleep(_WARM_SECONDS)
    first, begun = cursor(database), time.perf_counter()
    time.sleep(seconds)
    events = cursor(database) - first
    return events, events / (time.perf_counter() - begun)


def cursor(database: MariaDB) -> int:
    """Up to which position everything is acknowledged."""
    ((position,),) = query(database, "SELECT COALESCE(MAX(position), 0) FROM audit_sinks")
    return int(position)


def _sample(shop: Shop) -> list[tuple[str, str]]:
    """Topics and payloads of some thousand events."""
    engine = shop.engine()
    with engine.connect() as connection:
        events = events_after(connection, 0, _SAMPLE)
    engine.dispose()
    return [(f"bench/{event.table}/{event.row_id}", event.message().decode()) for event in events]


def _publish_plainly(
    sample: Sequence[tuple[str, str]], shop: Shop, port: int, seconds: float
) -> float:
    file = shop.var / "messages.json"
    file.write_bytes(orjson.dumps(sample))
    command = [sys.executable, "-m", "bench.drain", str(port), str(seconds), str(file)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _publish_naively(
    sample: Sequence[tuple[str, str]], database: MariaDB, port: int, seconds: float
) -> float:
    """Select a row, publish it, wait for its PUBACK, mark it, commit; and the next."""
    client = _publisher(port, threading.Semaphore(0))
    connection = database.connect(DATABASE)
    with connection, connection.cursor() as cursor_:
        cursor_.execute(
            "CREATE OR REPLACE TABLE bench_outbox (id BIGINT AUTO_INCREMENT PRIMARY KEY, topic"
            " VARCHAR(100), payload LONGTEXT, processed BOOL DEFAULT FALSE, KEY (processed, id))"
        )
        cursor_.executemany("INSERT INTO bench_outbox (topic, payload) VALUES (%s, %s)", sample)
        connection.commit()
        sent, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds and _publish_next(cursor_, client):
            connection.commit()
            sent += 1
        took = time.perf_counter() - begun
        cursor_.execute("DROP TABLE bench_outbox")
    client.disconnect()
    client.loop_stop()
    return sent / took


def _publish_next(cursor_: Any, client: mqtt.Client) -> bool:
    cursor_.execute(
        "SELECT id, topic, payload FROM bench_outbox WHERE NOT processed ORDER BY id LIMIT 1"
    )
    row = cursor_.fetchone()
    if row is None:
        return False
    client.publish(row[1], row[2].encode(), qos=1).wait_for_publish(10)
    cursor_.execute("UPDATE bench_outbox SET processed = TRUE WHERE id = %s", (row[0],))
    return True


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
