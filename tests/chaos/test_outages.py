"""A database or a broker that goes away is a bad time, not a loss, and nobody need help."""

from __future__ import annotations

import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.chaos.history import Ledger, Outcome, check, standing, tell, wait_until
from tests.chaos.history import wait_until_drained as drained
from tests.chaos.writers import writing
from tests.running import RunningShop, Subscriber
from tests.servers import MariaDB, Mosquitto, require

pytestmark = pytest.mark.xdist_group("chaos")


@dataclass(frozen=True, slots=True)
class Size:
    """How long the server is away, and how soon all must be well after it is back."""

    outage: float
    recovery: float


SIZES = [
    pytest.param(Size(3, 15), id="quick"),
    pytest.param(Size(10, 5), id="full", marks=pytest.mark.full),
]


@pytest.fixture
def topic() -> str:
    """A prefix of topics that no other test uses."""
    return f"outage{secrets.token_hex(4)}"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["stopped", "killed"])
def test_while_the_database_is_away_clients_are_told_to_try_again_and_nothing_is_lost(
    way: str, size: Size, topic: str, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    require("mariadb", "an outage of the database", private=True)
    with MariaDB(tmp_path / "mariadb") as database:
        url = database.create_database("shop")
        shop = RunningShop(tmp_path / "shop", url, mosquitto.url, mqtt_topic=topic)
        ledger, seed = Ledger(), secrets.randbits(32)
        with Subscriber(mosquitto.port, f"{topic}/#", topic) as subscriber, shop:
            with writing(shop, ledger, seed):
                time.sleep(3)
                away = time.monotonic()
                database.kill() if way == "killed" else database.stop()
                time.sleep(size.outage)
                database.start()
                back = time.monotonic()
                first_write = _first_success(ledger, back, 30) - back
                _wait_for_news(url, standing(url)["sink"], 30)
                first_event = time.monotonic() - back
                time.sleep(2)
            drained(url)
            figures = check(url, ledger, subscriber.arrivals, prefix=topic)
    told = Counter(outcome.status for outcome in ledger.between(away, back))
    tell(
        f"database {way}: writes again after {first_write:.1f} s, events after {first_event:.1f} s"
    )
    tell(f"answers meanwhile: {dict(told)}; {figures}")
    _check_refusals(ledger.outcomes)
    assert told[503] > 0, "no request met the outage"
    assert first_write < size.recovery
    assert first_event < size.recovery


@pytest.mark.parametrize("size", SIZES)
def test_while_the_broker_is_away_clients_notice_nothing_and_nothing_is_lost(
    size: Size, topic: str, tmp_path: Path
) -> None:
    require("mosquitto", "an outage of the broker", private=True)
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with Mosquitto(tmp_path / "mosquitto") as broker:
        shop = RunningShop(tmp_path / "shop", url, broker.url, mqtt_topic=topic)
        ledger, seed = Ledger(), secrets.randbits(32)
        with Subscriber(broker.port, f"{topic}/#", topic) as subscriber, shop:
            with writing(shop, ledger, seed):
                _wait_for_news(url, 0, 30)
                time.sleep(2)
                broker.stop()
                time.sleep(size.outage)
                before = standing(url)["sink"]
                broker.start()
                back = time.monotonic()
                _wait_for_news(url, before, 30)
                first_event = time.monotonic() - back
                time.sleep(2)
            drained(url)
            figures = check(url, ledger, subscriber.arrivals, prefix=topic)
    tell(f"broker stopped: events again after {first_event:.1f} s; {figures}")
    unhappy = [o for o in ledger.outcomes if o.status is None or o.status >= 300]
    assert not unhappy, f"clients noticed: {unhappy[:5]}"
    assert first_event < size.recovery


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "away", [pytest.param(2, id="quick"), pytest.param(600, id="full", marks=pytest.mark.full)]
)
def test_a_broker_that_is_not_there_from_the_start_on_is_made_up_for(
    away: float, topic: str, mariadb: MariaDB, tmp_path: Path
) -> None:
    """DO-06: fifty writes a second meanwhile; ready, and all has come two minutes later."""
    require("mosquitto", "a broker that comes late", private=True)
    url = mariadb.create_database(topic)
    broker = Mosquitto(tmp_path / "mosquitto")
    # The broker remembers who wants to hear, and is gone again.
    with broker, Subscriber(broker.port, f"{topic}/#", topic):
        pass
    subscriber = Subscriber(broker.port, f"{topic}/#", topic)
    shop = RunningShop(tmp_path / "shop", url, broker.url, mqtt_topic=topic)
    ledger, seed = Ledger(), secrets.randbits(32)
    with shop, broker_later(broker, subscriber) as come:
        with writing(shop, ledger, seed, 5, rest=0.16):
            time.sleep(away)
            waiting = standing(url)["head"]
            ready = requests.get(f"{shop.url}/health/ready", timeout=10)
            back = time.monotonic()
            come()
            wait_until("the backlog is gone", lambda: standing(url)["sink"] >= waiting, 120)
            caught_up = time.monotonic() - back
            time.sleep(min(away, 60))
        drained(url)
        figures = check(url, ledger, subscriber.arrivals, prefix=topic, patience=120)
    unhappy = [o for o in ledger.outcomes if o.status is None or o.status >= 300]
    assert not unhappy, f"clients noticed: {unhappy[:5]}"
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert waiting > 0
    meanwhile, after = (
        _p99([o.seconds for o in ledger.outcomes if (o.at < back) == before])
        for before in (True, False)
    )
    tell(f"no broker for {away:g} s: {waiting} events waited, caught up {caught_up:.1f} s after")
    tell(f"p99 of writes {meanwhile:.0f} ms without and {after:.0f} ms with it; {figures}")


@contextmanager
def broker_later(broker: Mosquitto, subscriber: Subscriber) -> Iterator[Callable[[], None]]:
    """What starts them; both have ended when the block is left."""

    def come() -> None:
        broker.start()
        subscriber.start()

    try:
        yield come
    finally:
        subscriber.stop()
        broker.stop()


def _p99(seconds: list[float]) -> float:
    """In milliseconds."""
    return 1000 * statistics.quantiles(seconds, n=100)[98]


def _first_success(ledger: Ledger, since: float, seconds: float) -> float:
    """The moment of the first acknowledged write after another moment."""
    wait_until("a write succeeds", lambda: ledger.first_success(since) is not None, seconds)
    first = ledger.first_success(since)
    assert first is not None
    return first.at


def _wait_for_news(url: str, position: int, seconds: float) -> None:
    """Wait until the sink has acknowledged something new."""
    wait_until("the drain publishes", lambda: standing(url)["sink"] > position, seconds)


def _check_refusals(outcomes: list[Outcome]) -> None:
    """Whatever was not done was refused in the promised form; nobody was cut off."""
    cut_off = [outcome for outcome in outcomes if outcome.problem == "connection"]
    assert not cut_off, f"{len(cut_off)} clients were cut off: {cut_off[:3]}"
    flawed = Counter(
        outcome.problem for outcome in outcomes if outcome.problem not in (None, "timeout")
    )
    assert not flawed, f"refusals that are not as promised: {dict(flawed)}"
