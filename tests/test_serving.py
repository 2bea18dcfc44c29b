"""Serving: workers share connections, and end when they are told to."""

from __future__ import annotations

import gc
import http.client
import signal
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from shop.serving import BalancedWorker, Seats, keep_shared
from tests.running import RunningShop


def test_a_worker_takes_a_free_seat_and_leaves_it() -> None:
    seats = Seats()
    first, second = seats.take(), seats.take()

    seats.set(first, 7)
    assert first != second
    assert seats.fewest() == 0
    seats.leave(second)
    assert seats.fewest() == 7
    assert seats.take() == second


def test_what_is_there_before_the_fork_is_left_alone_by_the_collector() -> None:
    marker = [object()]
    try:
        keep_shared()
        assert gc.get_freeze_count() > 10_000
        assert not any(it is marker for it in gc.get_objects())
    finally:
        gc.unfreeze()
    assert any(it is marker for it in gc.get_objects())


def test_a_worker_that_is_interrupted_asks_no_lock() -> None:
    """It may be interrupted while it holds the executor's lock; so it only takes a note."""
    told: list[int] = []
    worker = SimpleNamespace(handle_exit=lambda sig, frame: told.append(sig))

    BalancedWorker.handle_quit(worker, signal.SIGINT, None)  # type: ignore[arg-type]
    BalancedWorker.handle_quit(worker, signal.SIGQUIT, None)  # type: ignore[arg-type]

    assert told == [signal.SIGINT, signal.SIGQUIT]


@pytest.mark.xdist_group("chaos")
def test_sixteen_kept_connections_are_shared_evenly_by_two_workers(tmp_path: Path) -> None:
    with RunningShop(tmp_path / "var", "", None, sinks="none", scheduler="off") as shop:
        clients = [http.client.HTTPConnection("127.0.0.1", shop.port) for _ in range(16)]
        for client in clients:
            client.request("GET", "/health/live")
            assert client.getresponse().read()
        held = [
            len(
                [c for c in psutil.Process(pid).net_connections("tcp") if c.status == "ESTABLISHED"]
            )
            for pid in shop.worker_pids()
        ]
        for client in clients:
            client.close()

    assert sum(held) == 16
    assert min(held) >= 6, held
