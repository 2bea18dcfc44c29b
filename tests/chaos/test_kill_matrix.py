"""Every point of the drain, and every way to come to grief there, under concurrent writers."""

from __future__ import annotations

import random
import secrets
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from shop.crashes import WAYS
from tests.chaos.history import Ledger, check, connected, tell, wait_until, wait_until_drained
from tests.chaos.writers import writing
from tests.running import RunningShop, Subscriber
from tests.servers import MariaDB, Mosquitto

#: The points that an event passes on its way from a request to the cursor behind it.
ON_THE_WAY = (
    "before-commit", "after-commit", "after-stamp", "after-publish", "after-acknowledgement",
    "after-cursor",
)  # fmt: skip
WINDOW, BATCH, LEASE_SECONDS, WRITERS = 50, 50, 2, 8

pytestmark = pytest.mark.xdist_group("chaos")


def cells() -> list[object]:
    """Each way on each engine; on SQLite, whose only writer a frozen worker is, when full."""
    return [
        pytest.param(engine, way, marks=[pytest.mark.full] if engine == "sqlite" else [])
        for engine in ("mariadb", "sqlite")
        for way in WAYS
    ]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("engine", "way"), cells())
def test_whatever_happens_at_any_point_loses_invents_and_reorders_no_event(
    engine: str, way: str, mosquitto: Mosquitto, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """DO-03, DO-04, DO-05, DO-09, G5: one crash after another, at each point, by one server."""
    seed = secrets.randbits(32)
    chance, topic = random.Random(seed), f"matrix{seed}"
    points = chance.sample(ON_THE_WAY, len(ON_THE_WAY))
    url = database_of(engine, tmp_path, request)
    shop = RunningShop(
        tmp_path / "shop", url, mosquitto.url, env="testing", mqtt_topic=topic,
        lease_seconds=LEASE_SECONDS, drain_window=WINDOW, drain_batch=BATCH, rate_limits="off",
    )  # fmt: skip
    ledger = Ledger()
    with Subscriber(mosquitto.port, f"{topic}/#", topic) as subscriber:
        with shop:
            shop.admin_token()
            wait_until_drained(url)
        # Late enough that there is always something before it, and something under way.
        shop.change(crash_at=",".join(f"{it}:{passes(it, chance)}:{way}" for it in points))
        with shop:
            with writing(shop, ledger, seed, WRITERS, rest=0.5 if way == "stop" else 0.25):
                for number, point in enumerate(points, 1):
                    wait_until(f"a {way} at {point}", partial(has_crashed, shop, number), 30)
                    if way == "stop":
                        freeze_and_thaw(shop, url)
                time.sleep(1)
            wait_until_drained(url)
            most = len(points) * (WINDOW + BATCH)
            figures = check(url, ledger, subscriber.arrivals, prefix=topic, most_duplicates=most)
    tell(f"{engine}, {way} at {', '.join(points)}: {figures}")
    assert figures.acknowledged > 50


def database_of(engine: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    if engine == "sqlite":
        return f"sqlite:///{folder / 'shop.db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.create_database(f"matrix{secrets.randbits(32)}")


def passes(point: str, chance: random.Random) -> int:
    """The number of the pass to crash at; cursors move five times a second."""
    return chance.randint(2, 8) if point == "after-cursor" else chance.randint(5, 30)


def has_crashed(shop: RunningShop, times: int) -> bool:
    """Whether so many crash points have done their work."""
    return shop.log.read_text(errors="replace").count("crash point ") == times


def freeze_and_thaw(shop: RunningShop, url: str) -> None:
    """Leave the frozen worker so for three leases, in which another must have taken the lead."""
    wait_until("a worker is frozen", lambda: frozen(shop) != [], 5)
    (worker,) = frozen(shop)
    before = lease(url)
    time.sleep(3 * LEASE_SECONDS)
    # On SQLite it may hold the lock of all who write.
    if f":{worker.pid}:" in before[0] and not url.startswith("sqlite"):
        # It may hold the lease's row, which the database gives free when it was idle for long.
        wait_until("another leads", lambda: lease(url)[1] > before[1], 30)
    worker.resume()


def frozen(shop: RunningShop) -> list[psutil.Process]:
    """The workers that are stopped."""
    return [process for process in shop.processes() if process.status() == psutil.STATUS_STOPPED]


def lease(url: str) -> tuple[str, int]:
    """Who leads the drain, and in which term."""
    with connected(url) as connection:
        question = text("SELECT owner, token FROM leases WHERE name = 'drain'")
        owner, token = connection.execute(question).one()
    return owner, token
