"""Making the app starts nothing; starting it starts what the settings say; stopping ends it."""

from __future__ import annotations

import threading
from pathlib import Path

from flask import Flask

from config import Config
from shop import create_app
from shop.app import start, stop
from tests.audit.running import eventually
from tests.conftest import create_shop


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_making_an_app_starts_no_thread_and_opens_no_connection(tmp_path: Path) -> None:
    before = threading.enumerate()

    app = create_app(Config(var=tmp_path))

    assert threading.enumerate() == before
    assert app.extensions["shop"].engine.pool.checkedin() == 0
    assert not (tmp_path / "shop.db").exists()


def test_a_worker_runs_scheduler_and_drain_and_ends_them(tmp_path: Path) -> None:
    app = create_shop(tmp_path, sinks=("mqtt",))

    start(app)
    eventually(lambda: {"drain", "publisher-mqtt", "APScheduler"} <= names())
    stop(app)

    assert not {"drain", "publisher-mqtt", "APScheduler"} & names()


def test_what_is_switched_off_does_not_start(tmp_path: Path) -> None:
    app = create_shop(tmp_path, scheduler="off", sinks=("mqtt",))

    start(app)
    threading.Event().wait(1.5)
    running = names()
    stop(app)

    assert not {"drain", "APScheduler"} & running


def test_without_sinks_the_log_gets_its_positions_and_goes_nowhere(tmp_path: Path) -> None:
    app = create_shop(tmp_path, scheduler="embedded", sinks=())

    start(app)
    eventually(lambda: {"drain", "sealer", "APScheduler"} <= names())
    running = names()
    stop(app)

    assert not any(name.startswith("publisher") for name in running)


def test_every_answer_knows_nothing_of_the_request_before(app: Flask) -> None:
    client = app.test_client()
    first = client.get("/health/live", headers={"X-Request-ID": "first"})
    second = client.get("/health/live")

    assert first.headers["X-Request-ID"] == "first"
    assert second.headers["X-Request-ID"] != "first"
