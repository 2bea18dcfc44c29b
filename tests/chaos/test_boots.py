"""The server starts at once and ends without a trace, however often it is asked to."""

from __future__ import annotations

import secrets
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.chaos.history import tell, wait_until
from tests.running import RunningShop, is_listened_to
from tests.servers import Mosquitto, free_port

WORKERS = 4
# gunicorn gives its workers half a minute; without a request in hand they need no second of it.
END_SECONDS = 15.0

pytestmark = pytest.mark.xdist_group("chaos")

# Full runs have the machine for themselves; others share it with whatever runs beside them.
BOOTS = [
    pytest.param(2, 15.0, id="quick"),
    pytest.param(20, 5.0, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
]


@pytest.mark.parametrize(("boots", "seconds"), BOOTS)
@pytest.mark.parametrize("preload", [False, True], ids=["plain", "preload"])
def test_every_start_answers_soon_and_every_sigterm_leaves_nothing_behind(
    preload: bool, boots: int, seconds: float, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """SC-09, SC-10, OP-01."""
    shop = RunningShop(
        tmp_path / "shop",
        f"sqlite:///{tmp_path / 'shop.db'}",
        mosquitto.url,
        workers=WORKERS,
        preload=preload,
        mqtt_topic=f"boots{secrets.token_hex(4)}",
    )
    shop.folder.mkdir()
    shop.prepare()
    starts, ends = _boot_again_and_again(shop, boots, signal.SIGTERM)
    tell(f"{boots} boots: first answers {_shown(starts)} s, ends {_shown(ends)} s")
    assert max(starts) < seconds, f"the slowest start took {max(starts):.1f} s"


@pytest.mark.parametrize(("boots", "seconds"), BOOTS)
@pytest.mark.parametrize("to_all", [False, True], ids=["master", "terminal"])
def test_an_interrupt_ends_the_server_and_its_embedded_broker(
    to_all: bool, boots: int, seconds: float, tmp_path: Path
) -> None:
    shop = _shop_with_embedded_broker(tmp_path)
    starts, ends = _boot_again_and_again(shop, max(1, boots // 2), signal.SIGINT, to_all=to_all)
    tell(f"{len(starts)} boots: first answers {_shown(starts)} s, ends {_shown(ends)} s")
    assert max(starts) < seconds, f"the slowest start took {max(starts):.1f} s"


@pytest.mark.parametrize("preload", [False, True], ids=["plain", "preload"])
def test_sigterm_ends_the_embedded_broker_too(preload: bool, tmp_path: Path) -> None:
    shop = _shop_with_embedded_broker(tmp_path, preload=preload)
    _boot_again_and_again(shop, 1, signal.SIGTERM)


def test_the_embedded_broker_outlives_a_worker_but_not_a_killed_master(tmp_path: Path) -> None:
    with _shop_with_embedded_broker(tmp_path) as shop:
        port = _broker_port(shop)
        for number in (signal.SIGTERM, signal.SIGKILL):
            psutil.Process(shop.worker_pids()[0]).send_signal(number)
            time.sleep(1.5)
            assert is_listened_to(port), f"{number.name} of a worker ended the broker"
        shop.send(signal.SIGKILL)
        _, left = psutil.wait_procs(shop.processes(), timeout=END_SECONDS)
        assert not left, f"without a master these go on: {left}"
        assert not is_listened_to(port), "the broker's port is still open"


def _shop_with_embedded_broker(folder: Path, *, preload: bool = False) -> RunningShop:
    return RunningShop(
        folder / "shop",
        f"sqlite:///{folder / 'shop.db'}",
        None,
        workers=WORKERS,
        preload=preload,
        mqtt_port=free_port(),
    )


def _boot_again_and_again(
    shop: RunningShop, boots: int, number: signal.Signals, *, to_all: bool = False
) -> tuple[list[float], list[float]]:
    """Start and end; answers how long each start and each end took."""
    starts, ends = [], []
    shop.folder.mkdir(exist_ok=True)
    shop.prepare()
    try:
        for _ in range(boots):
            begun = time.monotonic()
            shop.start()
            # The first worker may answer before the last is forked.
            wait_until("every worker is there", lambda: len(shop.worker_pids()) == WORKERS, 15)
            _ask_all_at_once(shop)
            starts.append(time.monotonic() - begun)
            ends.append(_end(shop, number, to_all))
    finally:
        shop.kill()
    return starts, ends


def _end(shop: RunningShop, number: signal.Signals, to_all: bool) -> float:
    """Send a signal and see that nothing is left of the shop; answers how long it took."""
    ports = [shop.port]
    if "SHOP_MQTT_URL" not in shop.environment:
        ports.append(_broker_port(shop))
    everybody = shop.processes()
    asked = time.monotonic()
    shop.send(number, to_all=to_all)
    code = shop.wait(END_SECONDS)
    seconds = time.monotonic() - asked
    assert code == 0, f"exit code {code} after {number.name}; the log ends:\n{shop.log_tail()}"
    left = [process for process in everybody if process.is_running()] + shop.processes()
    assert not left, f"left behind: {left}"
    opened = [port for port in ports if is_listened_to(port)]
    assert not opened, f"still open: {opened}"
    return seconds


def _ask_all_at_once(shop: RunningShop) -> None:
    """More requests at once than one worker has threads: several workers must answer."""
    with ThreadPoolExecutor(4 * WORKERS) as clients:
        answers = [clients.submit(shop.answers) for _ in range(4 * WORKERS)]
    assert all(answer.result() for answer in answers)


def _broker_port(shop: RunningShop) -> int:
    """The port of the embedded broker, which must be open."""
    port = int((shop.folder / "mqtt.url").read_text().strip().rpartition(":")[2])
    assert is_listened_to(port), "the embedded broker does not listen"
    return port


def _shown(seconds: list[float]) -> str:
    return " ".join(f"{value:.1f}" for value in seconds)
