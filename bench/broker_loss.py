"""What Mosquitto loses of what it acknowledged, by its settings; losses are counted, not judged.

A subscriber with a kept session goes away; events are published at QoS 1 until every one is
acknowledged; the broker is killed and started again, or not; the subscriber comes back and gets
what is left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from operator import truediv
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.report import table
from tests.running import Subscriber
from tests.servers import HOST, Mosquitto

#: As large as an event of a product, about.
_PAYLOAD = b"x" * 400
#: What comes back comes at once; so long without another message is the end.
_QUIET_SECONDS = 1.5
_PATIENCE_SECONDS = 120.0
_WINDOW = 20


@dataclass(frozen=True)
class Profile:
    """Settings of Mosquitto, and whether it is killed."""

    name: str
    settings: dict[str, str | int | bool]
    killed: bool


@dataclass
class Loss:
    """What became of events that were all acknowledged."""

    profile: Profile
    published: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    sessions: int = 0


_KEPT: dict[str, str | int | bool] = {"persistence": True, "autosave_on_changes": True}
_UNLIMITED: dict[str, str | int | bool] = {"max_queued_messages": 0}
#: Mosquitto's own values for what the helpers of the tests set otherwise.
_USUAL: dict[str, str | int | bool] = {
    "persistence": False, "autosave_interval": 1800, "max_queued_messages": 1000,
    "set_tcp_nodelay": False,
}  # fmt: skip
PROFILES = (
    Profile("default", {}, killed=False),
    Profile("default, `set_tcp_nodelay true`", {"set_tcp_nodelay": True}, killed=False),
    Profile("`max_queued_messages 0`", _UNLIMITED, killed=False),
    Profile("`max_queued_messages 0`", _UNLIMITED, killed=True),
    Profile("and `persistence true`: saved every 1800 s",
            _UNLIMITED | {"persistence": True}, True),
    Profile("default.conf: saved after 100 changes",
            _UNLIMITED | _KEPT | {"autosave_interval": 100, "set_tcp_nodelay": True}, True),
    Profile("strict.conf: saved after each change",
            _UNLIMITED | _KEPT | {"autosave_interval": 1, "set_tcp_nodelay": True}, True),
)  # fmt: skip


def measure(folder: Path, events: int, rounds: int) -> list[Loss]:
    """Each profile, some rounds of about so many events."""
    found = [Loss(profile) for profile in PROFILES]
    for number in range(rounds):
        for place, loss in enumerate(found):
            # Not the same number each time: what is saved every 100 changes would look the same.
            _measure(folder / f"{number}-{place}", loss, events + 37 * number)
    return found


def _measure(folder: Path, loss: Loss, events: int) -> None:
    with Mosquitto(folder, **(_USUAL | loss.profile.settings)) as broker:
        with Subscriber(broker.port, topic="bench/#"):
            pass
        loss.seconds.append(publish(broker.port, events))
        loss.published.append(events)
        if loss.profile.killed:
            broker.kill()
            broker.start()
        there = _session_is_there(broker.port)
        loss.sessions += there
        kept = arrived(broker.port) if there else 0
        loss.lost.append(events - kept)


def publish(port: int, events: int) -> float:
    """Publish all, `_WINDOW` in flight, until the last is acknowledged; the seconds it took."""
    acknowledged = 0

    def count(_client: mqtt.Client, _u: Any, _mid: int, reason: Any, _p: Any) -> None:
        nonlocal acknowledged
        if not reason.is_failure:
            acknowledged += 1

    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_publish = count
    client.connect(HOST, port)
    while not client.is_connected():
        client.loop(0.1)
    sent, begun = 0, time.perf_counter()
    while acknowledged < events:
        while sent < events and sent - acknowledged < _WINDOW:
            client.publish(f"bench/products/{sent}", _PAYLOAD, qos=1)
            sent += 1
        client.loop(0.1)
        if time.perf_counter() - begun > _PATIENCE_SECONDS:
            raise TimeoutError(f"{acknowledged} of {events} were acknowledged")
    seconds = time.perf_counter() - begun
    client.disconnect()
    client.loop(0.1)
    return seconds


def _session_is_there(port: int) -> bool:
    """Whether the broker knows the subscriber; what waits stays, since nothing is acknowledged."""
    answers: list[bool] = []
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, "history", protocol=mqtt.MQTTv5, manual_ack=True
    )
    client.on_connect = lambda _c, _u, flags, _r, _p: answers.append(flags.session_present)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3600
    client.connect(HOST, port, clean_start=False, properties=properties)
    while not answers:
        client.loop(0.1)
    return answers[0]


def arrived(port: int) -> int:
    """How many different messages a subscriber gets that comes back."""
    with Subscriber(port, topic="bench/#") as subscriber:
        seen, since = 0, time.monotonic()
        while time.monotonic() - since < _QUIET_SECONDS:
            time.sleep(0.05)
            if len(subscriber.arrivals) > seen:
                seen, since = len(subscriber.arrivals), time.monotonic()
        return len({arrival.topic for arrival in subscriber.arrivals})


def of_losses(losses: list[Loss]) -> str:
    """The report's table."""
    headers = ("Mosquitto", "killed (-9)", "acknowledged", "lost", "session kept", "events/s")
    rows = []
    for loss in losses:
        rounds = len(loss.lost)
        low, high = min(loss.lost), max(loss.lost)
        rates = sorted(map(truediv, loss.published, loss.seconds))
        rows.append(
            (
                loss.profile.name,
                "yes" if loss.profile.killed else "no",
                f"{rounds} x {min(loss.published)} to {max(loss.published)}",
                str(low) if low == high else f"{low} to {high}",
                f"{loss.sessions} of {rounds}",
                f"{rates[len(rates) // 2]:.0f}",
            )
        )
    return table(headers, rows)
