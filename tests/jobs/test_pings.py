"""A dead man's switch is told of runs, and whatever it does disturbs none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update
from sqlalchemy.orm import Session

from config import Config, ConfigError
from shop import clock
from shop.jobs.models import JobRun
from shop.jobs.pings import Pings
from shop.jobs.plan import Job
from shop.jobs.runner import Runner
from shop.jobs.slots import Every
from tests.audit.running import eventually
from tests.jobs.running import add_user, has, know, settle
from tests.servers import free_port


class Switch:
    """A server that notes what it is asked, and may be slow to answer, or refuse."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.status, self.seconds = 200, 0.0
        self.over = threading.Event()
        switch = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                switch.heard.append(self.path)
                switch.over.wait(switch.seconds)
                self.send_response(switch.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ping/{{job}}"


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch()
    thread = threading.Thread(target=switch.server.serve_forever)
    thread.start()
    yield switch
    switch.over.set()
    switch.server.shutdown()
    switch.server.server_close()
    thread.join()


def run(app: Flask, session: Session, url: str, work: Any = add_user, attempts: int = 1) -> Pings:
    """Let one slot of a job run, and the pings be sent."""
    know(session, "tick", Every(10**8).latest(clock.now()) - timedelta(seconds=1))
    pings = Pings(url)
    pings.start()
    job = Job("tick", Every(10**8), work, timedelta(days=2000), attempts=attempts)
    settle(Runner(app, [job], silence_seconds=10, pings=pings))
    return pings


def fail(_session: Session, _slot: datetime) -> None:
    raise LookupError("no stock")


def test_a_run_that_is_done_is_told_at_its_start_and_its_end(
    app: Flask, session: Session, switch: Switch
) -> None:
    run(app, session, switch.url).stop()

    assert switch.heard == ["/ping/tick/start", "/ping/tick"]


def test_a_run_that_fails_for_good_is_told(app: Flask, session: Session, switch: Switch) -> None:
    run(app, session, switch.url, fail).stop()

    assert switch.heard == ["/ping/tick/start", "/ping/tick/fail"]


def test_a_failure_that_will_be_tried_again_is_no_alarm(
    app: Flask, session: Session, switch: Switch
) -> None:
    run(app, session, switch.url, fail, attempts=2).stop()

    assert switch.heard == ["/ping/tick/start"]


@pytest.mark.parametrize("mood", ["refuses", "hangs", "away"])
def test_a_switch_that_does_not_answer_disturbs_no_run(
    app: Flask, session: Session, switch: Switch, mood: str
) -> None:
    switch.status = 500 if mood == "refuses" else 200
    switch.seconds = 30 if mood == "hangs" else 0
    url = f"http://127.0.0.1:{free_port()}/{{job}}" if mood == "away" else switch.url

    pings = run(app, session, url)

    # Done by now, whatever the pings wait for.
    assert has(session, "done")()
    switch.over.set()
    pings.stop()


def test_no_transaction_is_open_while_a_ping_is_sent(
    app: Flask, session: Session, switch: Switch
) -> None:
    switch.seconds = 30
    pings = run(app, session, switch.url)
    eventually(lambda: switch.heard != [])

    # On SQLite this would wait for whoever has a transaction open.
    session.execute(update(JobRun).values(error=None))
    session.commit()
    switch.over.set()
    pings.stop()


@pytest.mark.parametrize(
    "url",
    ["ftp://hc.example/{job}", "hc.example/{job}", "https://hc.example/", "https:///{job}",
     "https://hc.example/{job}?x=1", "https://hc.example/{job}/{job}", "https://hc.example/{name}",
     "https://hc.example/{job}#x", "https://hc.example/a b/{job}", "https://{job}/x",
     "https://hc.example:99999/{job}"],
)  # fmt: skip
def test_nonsense_is_refused_at_the_start(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_JOBS_PING_URL", url)

    with pytest.raises(ConfigError, match="SHOP_JOBS_PING_URL") as refusal:
        Config.from_env()
    assert url not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["https://hc.example/ping/{job}", "http://10.0.0.7:8000/a/b/shop-{job}/x", ""]
)
def test_addresses_that_can_be_pinged_are_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_JOBS_PING_URL", url)

    assert Config.from_env().jobs_ping_url == url
