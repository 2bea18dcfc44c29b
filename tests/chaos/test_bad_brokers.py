"""A broker that is there and misbehaves costs time, and nothing else."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
from flask import Flask
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditSink
from shop.audit.sinks.mqtt import MqttSink
from tests import factories
from tests.audit.running import RunningDrain, eventually
from tests.chaos.history import Ledger, check, tell
from tests.chaos.proxy import Proxy
from tests.running import Subscriber
from tests.servers import Mosquitto

WINDOW = BATCH = 50

pytestmark = pytest.mark.xdist_group("chaos")


@dataclass
class Bad:
    """A drain whose broker is behind a proxy, and a subscriber that is not."""

    app: Flask
    proxy: Proxy
    subscriber: Subscriber
    topic: str
    drain: RunningDrain

    def __post_init__(self) -> None:
        """Count the events that there will be."""
        self.engine: Engine = self.app.extensions["shop"].engine
        self.url = self.engine.url.render_as_string(hide_password=False)

    def write(self, count: int) -> None:
        """So many committed events."""
        for _ in range(count):
            factories.create_user(self.app)

    @property
    def cursor(self) -> int:
        """What counts as processed."""
        with Session(self.engine) as session:
            return session.scalars(select(AuditSink.position)).one_or_none() or 0

    def arrive(self, count: int, seconds: float = 30) -> int:
        """Wait until all is acknowledged, and compare; answers the number of duplicates."""
        eventually(lambda: self.cursor == count, seconds)
        return check(self.url, Ledger(), self.subscriber.arrivals, prefix=self.topic).duplicates


@pytest.fixture
def bad(app: Flask, mosquitto: Mosquitto) -> Iterator[Bad]:
    """Nothing misbehaves yet, and nothing is written."""
    topic = f"bad{secrets.randbits(32)}"
    subscriber = Subscriber(mosquitto.port, f"{topic}/#", topic)
    with Proxy(mosquitto.port) as proxy, subscriber:
        engine = app.extensions["shop"].engine
        sink = MqttSink(lambda: proxy.url, topic)
        yield Bad(
            app, proxy, subscriber, topic,
            RunningDrain(engine, sink, lease_seconds=30, window=WINDOW, batch=BATCH),
        )  # fmt: skip


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize(
    "silence", [1.0, pytest.param(10.0, marks=[pytest.mark.full, pytest.mark.timeout(600)])]
)
def test_what_is_never_acknowledged_is_never_processed(
    bad: Bad, silence: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DO-07: the broker takes everything and answers nothing; memory stays flat, order too."""
    monkeypatch.setattr("shop.audit.publisher._SILENCE_SECONDS", silence)
    bad.proxy.mute = True
    bad.write(200)
    with bad.drain:
        eventually(lambda: bad.proxy.connections == 2, 60)
        before = psutil.Process().memory_info().rss
        time.sleep(4 * silence)
        grown = psutil.Process().memory_info().rss - before
        assert bad.cursor == 0
        # It tried again with the same events, of which never more than the window are under way.
        assert 0 < len({arrival.payload for arrival in bad.subscriber.arrivals}) <= WINDOW
        bad.proxy.mute = False
        duplicates = bad.arrive(200)
    assert bad.proxy.connections > 2
    assert grown < 2**24
    assert duplicates <= bad.proxy.connections * WINDOW
    tell(f"silent for {silence:g} s at a time: {bad.proxy.connections} connections, grown by"
         f" {grown / 2**20:.1f} MiB, {duplicates} duplicates")  # fmt: skip


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize(
    "delay", [0.4, pytest.param(5.0, marks=[pytest.mark.full, pytest.mark.timeout(600)])]
)
def test_answers_that_come_late_are_waited_for(bad: Bad, delay: float) -> None:
    """DO-07: latency; nothing is sent twice only because the answer takes its time."""
    bad.proxy.delay = delay
    bad.write(120)
    with bad.drain:
        duplicates = bad.arrive(120, 60)
    tell(f"answers {delay:g} s late: {bad.proxy.connections} connections, {duplicates} duplicates")
    assert duplicates == 0
    assert bad.proxy.connections == 1


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize(
    ("count", "rate"),
    [(20, 8000), pytest.param(100, 1000, marks=[pytest.mark.full, pytest.mark.timeout(600)])],
)
def test_a_thin_line_carries_everything_in_its_time(bad: Bad, count: int, rate: int) -> None:
    """DO-07: a line of 1 kB/s."""
    bad.proxy.rate = rate
    bad.write(count)
    with bad.drain:
        duplicates = bad.arrive(count, 300)
    assert duplicates == 0
    tell(f"{count} events at {rate} bytes a second: {duplicates} duplicates")


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize(
    "count", [60, pytest.param(1000, marks=[pytest.mark.full, pytest.mark.timeout(600)])]
)
def test_a_line_that_breaks_in_every_packet_or_so_carries_everything(
    bad: Bad, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DO-07: resets in the middle of a packet; each connection gets a few events through."""
    monkeypatch.setattr("shop.audit.publisher.Backoff", _no_backoff())
    bad.proxy.cut_after = 6007
    bad.write(count)
    with bad.drain:
        duplicates = bad.arrive(count, 300)
    assert bad.proxy.connections > count * 400 / 6007
    tell(f"{count} events, a reset each 6007 bytes: {bad.proxy.connections} connections,"
         f" {duplicates} duplicates")  # fmt: skip


def _no_backoff() -> type:
    class Hurry:
        def __init__(self, **_options: float) -> None:
            pass

        def reset(self) -> None:
            pass

        def delay(self) -> float:
            return 0.02

    return Hurry
