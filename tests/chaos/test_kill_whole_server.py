"""Whoever kills the whole server, at whatever moment, loses no event and invents none."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.history import Ledger, check, tell, wait_until_drained
from tests.chaos.writers import writing
from tests.running import RunningShop, Subscriber
from tests.servers import MariaDB, Mosquitto

WINDOW, BATCH = 50, 50

pytestmark = pytest.mark.xdist_group("chaos")


@dataclass(frozen=True, slots=True)
class Size:
    """How often the server is killed, after how long a life, and how patient its leases are."""

    kills: int
    longest_life: float
    lease_seconds: int


QUICK = pytest.param(Size(4, 4.0, 2), id="quick")
FULL = pytest.param(
    Size(20, 9.0, 5), id="full", marks=[pytest.mark.full, pytest.mark.timeout(1200)]
)


@pytest.mark.parametrize("size", [QUICK, FULL])
@pytest.mark.parametrize("engine", ["sqlite", "mariadb"])
def test_a_server_that_is_killed_while_it_writes_loses_and_invents_no_event(
    engine: str, size: Size, mosquitto: Mosquitto, tmp_path: Path, request: Any
) -> None:
    seed = secrets.randbits(32)
    url = _database(engine, tmp_path, request, seed)
    topic = f"kills{seed}"
    shop = RunningShop(
        tmp_path / "shop",
        url,
        mosquitto.url,
        mqtt_topic=topic,
        lease_seconds=size.lease_seconds,
        drain_window=WINDOW,
        drain_batch=BATCH,
    )
    ledger = Ledger()
    with Subscriber(mosquitto.port, f"{topic}/#", topic) as subscriber, shop:
        shop.admin_token()
        with writing(shop, ledger, seed):
            started = _kill_again_and_again(shop, size, random.Random(seed))
        wait_until_drained(url)
        seconds = time.monotonic() - started
        most = size.kills * (WINDOW + BATCH)
        figures = check(url, ledger, subscriber.arrivals, prefix=topic, most_duplicates=most)
    tell(f"{engine}: {size.kills} kills, {figures}, drained {seconds:.1f} s after the last start")


def _database(engine: str, folder: Path, request: Any, seed: int) -> str:
    if engine == "sqlite":
        return f"sqlite:///{folder / 'shop.db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.create_database(f"kills{seed}")


def _kill_again_and_again(shop: RunningShop, size: Size, chance: random.Random) -> float:
    """Kill and start; answers the moment of the last start."""
    for _ in range(size.kills):
        # Some lives end before the drain has taken the lead again, others while it publishes.
        time.sleep(chance.uniform(0.5, size.longest_life))
        shop.kill()
        started = time.monotonic()
        shop.start()
    # The last life writes too, so that the drain has more to do than what was left over.
    time.sleep(1)
    return started
