"""Event lag: from the audit entry's time to the arrival at a subscriber, at a steady rate.

`python -m bench.lag PORT SECONDS` is the subscriber, a process of its own. Both clocks are the
same machine's. An entry's time is taken at the flush, just before the commit, so the lag
from the commit itself is slightly shorter than what is measured here.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench import commits
from bench.duel import paced
from bench.load import Result, generate
from bench.stage import Shop

#: Milliseconds, median and 99th percentile.
HTTP_TARGETS = (15.0, 100.0)
COMMITS_TARGETS = (10.0, 50.0)
#: The first second finds cold connections and code, on both sides.
_WARM_SECONDS = 1.0
_LATEST_SECONDS = 3.0
_START_SECONDS = 5.0


@dataclass(frozen=True)
class Lag:
    """Lags in milliseconds, and how the writing went."""

    values: list[float]
    writing: Result
    wanted: float
    targets: tuple[float, float]


def of_requests(port: int, broker_port: int, rate: float, seconds: float) -> Lag:
    """Create products at a rate, and listen to what arrives."""
    generate(paced(port, rate, _WARM_SECONDS))
    return _heard(
        broker_port, seconds, rate, HTTP_TARGETS, lambda: generate(paced(port, rate, seconds))
    )


def of_commits(shop: Shop, broker_port: int, rate: float, seconds: float) -> Lag:
    """The same with changes that come past HTTP, so that the machine does little else."""
    commits.make(shop, rate, _WARM_SECONDS)
    # What the writer needs to start is heard too, and is silence.
    more = seconds + _START_SECONDS
    return _heard(
        broker_port, more, rate, COMMITS_TARGETS, lambda: commits.make(shop, rate, seconds)
    )


def _heard(
    port: int,
    seconds: float,
    rate: float,
    targets: tuple[float, float],
    write: Callable[[], Result],
) -> Lag:
    with _subscriber(port, seconds + _LATEST_SECONDS) as listener:
        writing = write()
        assert listener.stdout is not None
        values = orjson.loads(listener.stdout.read())
    return Lag(values, writing, rate, targets)


@contextmanager
def _subscriber(port: int, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "bench.lag", str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            if child.stdout.readline() != b"subscribed\n":
                raise RuntimeError("the subscriber did not get to the broker")
            yield child
        finally:
            child.terminate()


def _listen(port: int, seconds: float) -> list[tuple[int, bytes]]:
    """Arrival in nanoseconds and payload of each event."""
    heard: list[tuple[int, bytes]] = []
    subscribed = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)

    def on_message(_client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        # Only a note: a slow callback would be measured as lag of the next message.
        heard.append((time.time_ns(), bytes(message.payload)))

    def on_connect(*_: Any) -> None:
        client.subscribe("shop/#", qos=1)

    client.on_message = on_message
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not subscribed.wait(10):
        raise TimeoutError("the broker did not confirm the subscription")
    # Whatever the broker still has of earlier writes arrives first and does not count.
    time.sleep(0.5)
    heard.clear()
    print("subscribed", flush=True)
    time.sleep(seconds)
    client.disconnect()
    client.loop_stop()
    return heard


def main() -> None:
    """Subscribe, listen, write the lags in milliseconds."""
    heard = _listen(int(sys.argv[1]), float(sys.argv[2]))
    lags = []
    for arrived, payload in heard:
        written = datetime.fromisoformat(orjson.loads(payload)["time"])
        lags.append(arrived / 1e6 - written.timestamp() * 1000)
    sys.stdout.buffer.write(orjson.dumps(lags))


if __name__ == "__main__":
    main()
