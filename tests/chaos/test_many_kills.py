"""The full sizes: a thousand kills, and servers that go and come back again and again."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import pytest
from sqlalchemy import exc, text

from tests.chaos.history import (
    Figures,
    Ledger,
    check,
    connected,
    standing,
    tell,
    wait_until,
    wait_until_drained,
)
from tests.chaos.writers import writing
from tests.running import RunningShop, Subscriber
from tests.servers import MariaDB, Mosquitto

WINDOW, BATCH, LEASE_SECONDS = 50, 50, 2

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.full, pytest.mark.timeout(7200)]


@dataclass
class Scene:
    """A shop whose workers fork from a loaded master, so that a new one is there at once."""

    folder: Path
    url: str
    broker: Mosquitto
    workers: int = 2
    seed: int = field(default_factory=lambda: secrets.randbits(32))
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        """Everything by chance comes from the seed."""
        self.chance = random.Random(self.seed)
        self.topic = f"many{self.seed}"
        self.shop = RunningShop(
            self.folder / "shop", self.url, self.broker.url, workers=self.workers, preload=True,
            mqtt_topic=self.topic, lease_seconds=LEASE_SECONDS, drain_window=WINDOW,
            drain_batch=BATCH, rate_limits="off",
        )  # fmt: skip

    @contextmanager
    def played(self, *, writers: int, rest: float) -> Iterator[None]:
        """Writers write meanwhile; afterwards everything has arrived and was compared."""
        subscriber = Subscriber(self.broker.port, f"{self.topic}/#", self.topic)
        with subscriber, self.shop:
            self.shop.admin_token()
            with writing(self.shop, self.ledger, self.seed, writers, rest):
                yield
            self.drained = wait_until_drained(self.url, 60)
            self.figures: Figures = check(
                self.url, self.ledger, subscriber.arrivals, prefix=self.topic, patience=300
            )

    def leader(self) -> int | None:
        """The process id of whoever leads the drain, by the lease."""
        with suppress(exc.OperationalError), connected(self.url) as connection:
            question = text("SELECT owner FROM leases WHERE name = 'drain'")
            owner = connection.execute(question).scalar_one_or_none()
            return int(owner.split(":")[1]) if owner else None
        return None

    def is_led_past(self, pid: int) -> bool:
        """Whether somebody else leads."""
        return self.leader() not in (None, pid)


def test_a_thousand_kills_lose_invent_and_reorder_nothing(
    mariadb: MariaDB, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """DO-02, DO-04, DO-05: 1,000 kills of the drain at random while 100,000 events flow."""
    url = mariadb.create_database(f"many{secrets.randbits(32)}")
    scene = Scene(tmp_path, url, mosquitto, workers=3)
    kills = leaders = 0
    with scene.played(writers=12, rest=0.02):
        while kills < 1000 or standing(url)["highest"] < 100_000:
            time.sleep(scene.chance.uniform(0.05, 1.5))
            leader = scene.leader()
            killed = scene.shop.kill_worker(scene.chance, leader)
            kills += killed is not None
            leaders += killed is not None and killed == leader
            if kills % 100 == 0:
                tell(f"{kills} kills, {leaders} of leaders, {standing(url)}")
    duplicates = scene.figures.duplicates
    assert duplicates <= leaders * (WINDOW + BATCH)
    tell(f"{kills} kills, {leaders} of leaders, seed {scene.seed}: {scene.figures}, drained"
         f" {scene.drained:.1f} s after the last write")  # fmt: skip


def test_twenty_restarts_of_the_broker_lose_nothing(mariadb: MariaDB, tmp_path: Path) -> None:
    """DO-06: each a second or less away."""
    url = mariadb.create_database(f"restarts{secrets.randbits(32)}")
    with Mosquitto(tmp_path / "mosquitto") as broker:
        scene = Scene(tmp_path, url, broker)
        with scene.played(writers=8, rest=0.05):
            for _ in range(20):
                time.sleep(scene.chance.uniform(0.5, 2))
                broker.stop()
                time.sleep(scene.chance.uniform(0, 1))
                broker.start()
    unhappy = [o for o in scene.ledger.outcomes if o.status is None or o.status >= 300]
    assert not unhappy, f"clients noticed: {unhappy[:5]}"
    tell(f"20 restarts of the broker, seed {scene.seed}: {scene.figures}")


def test_a_broker_that_flaps_for_two_minutes_loses_nothing(
    mariadb: MariaDB, tmp_path: Path
) -> None:
    """DO-06: a second there, a second away, sixty times."""
    url = mariadb.create_database(f"flaps{secrets.randbits(32)}")
    with Mosquitto(tmp_path / "mosquitto") as broker:
        scene = Scene(tmp_path, url, broker)
        with scene.played(writers=4, rest=0.1):
            for _ in range(60):
                time.sleep(1)
                broker.stop()
                time.sleep(1)
                broker.start()
    tell(f"60 times away for a second, seed {scene.seed}: {scene.figures}")


def test_twenty_kills_of_the_database_lose_nothing_of_the_drain(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """DO-13, for the events; tests/orders/test_crashes.py has it for the orders."""
    with MariaDB(tmp_path / "mariadb") as database:
        scene = Scene(tmp_path, database.create_database("shop"), mosquitto)
        with scene.played(writers=8, rest=0.05):
            for _ in range(20):
                time.sleep(scene.chance.uniform(0.5, 3))
                database.kill()
                database.start()
            time.sleep(2)
    assert scene.figures.duplicates <= 20 * (WINDOW + BATCH)
    tell(f"20 kills of the database, seed {scene.seed}: {scene.figures}")


def test_leaders_that_are_killed_frozen_and_thawed_keep_the_order(
    mariadb: MariaDB, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """DO-09: four who may lead; a pause lasts one to four leases, the last one a minute."""
    url = mariadb.create_database(f"leaders{secrets.randbits(32)}")
    scene = Scene(tmp_path, url, mosquitto, workers=4)
    ways = [scene.chance.choice(("kill", "pause")) for _ in range(29)] + ["minute"]
    with scene.played(writers=8, rest=0.1):
        for way in ways:
            time.sleep(scene.chance.uniform(1, 3))
            wait_until("somebody leads", lambda: psutil.pid_exists(scene.leader() or -1), 30)
            leader = psutil.Process(scene.leader())
            if way == "kill":
                leader.kill()
                continue
            leader.suspend()
            # gunicorn ends a worker that is silent for a minute.
            time.sleep(50 if way == "minute" else LEASE_SECONDS * scene.chance.uniform(1, 4))
            wait_until("another leads", partial(scene.is_led_past, leader.pid), 30)
            leader.resume()
        time.sleep(2)
    assert scene.figures.duplicates <= len(ways) * (WINDOW + BATCH)
    tell(f"{ways.count('kill')} kills and {len(ways) - ways.count('kill')} pauses of leaders,"
         f" seed {scene.seed}: {scene.figures}")  # fmt: skip
