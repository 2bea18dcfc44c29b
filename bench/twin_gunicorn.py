"""gunicorn -c bench/twin_gunicorn.py bench.twin:app

The settings of `gunicorn.conf.py`, so that the two servers differ in nothing but the application.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from shop.serving import BalancedWorker, Seats

bind = f"127.0.0.1:{os.environ['PORT']}"
worker_class = BalancedWorker
workers = 2
threads = 4
worker_connections = 1000
keepalive = 5
timeout = 60
graceful_timeout = 30
max_requests = 20_000
max_requests_jitter = 2_000
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
control_socket_disable = True

_seats = Seats()


def pre_fork(_server: Any, worker: Any) -> None:
    """Give the new worker its seat."""
    worker.seats, worker.seat = _seats, _seats.take()


def child_exit(_server: Any, worker: Any) -> None:
    """Free the seat of a worker that is gone."""
    _seats.leave(worker.seat)
