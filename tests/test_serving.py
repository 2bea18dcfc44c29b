"""Serving: workers share connections, and end when they are told to."""

from __future__ import annotations

import http.client
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from shop.serving import BalancedWorker, Seats
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


def test_a_second_request_to_quit_does_not_interrupt_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The terminal and the master both say it; the second comes while the first is handled."""
    calls: list[int] = []
    worker = SimpleNamespace(_quitting=False)

    def quit_once(self: Any, sig: int, frame: Any) -> None:
        calls.append(sig)
        BalancedWorker.handle_quit(self, signal.SIGQUIT, None)

    monkeypatch.setattr("gunicorn.workers.gthread.ThreadWorker.handle_quit", quit_once)
    monkeypatch.setattr(
        "shop.serving.super", lambda: SimpleNamespace(
            handle_quit=lambda sig, frame: quit_once(worker, sig, frame)
        ), raising=False,
    )  # fmt: skip
    BalancedWorker.handle_quit(worker, signal.SIGINT, None)  # type: ignore[arg-type]

    assert calls == [signal.SIGINT]


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
