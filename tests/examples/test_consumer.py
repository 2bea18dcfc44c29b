"""The example consumer, run as a user would: killed, with a broker that forgets and drops."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from shop.app import start, stop
from shop.audit.events import events_after
from shop.audit.sequencer import stamp
from shop.audit.sinks.mqtt import MqttSink
from tests.audit.running import eventually
from tests.conftest import create_shop
from tests.running import ROOT
from tests.servers import HOST, Mosquitto, free_port, require

#: What a user writes: an effect. And what the test adds: a death where it hurts most,
#: after the effect is committed and before the broker is told.
PROGRAM = """
import itertools, os, signal, sqlite3, sys
from consumer import Consumer

messages, last = itertools.count(1), int(sys.argv[5])

class Dying(Consumer):
    def _acknowledge(self, client, message):
        if next(messages) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._acknowledge(client, message)

def note(database, event):
    database.execute("CREATE TABLE IF NOT EXISTS effects (position INTEGER, id TEXT, body TEXT)")
    values = (int(event["position"]), event["id"], str(event["data"]))
    database.execute("INSERT INTO effects VALUES (?, ?, ?)", values)

Dying(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], note).run()
"""
TOKEN = "a token of staff"
#: So few messages wait for a subscriber that is away; the broker drops the others.
WAITING = 60


class Log(ThreadingHTTPServer):
    """`GET /api/v1/audit/events` over a shop's log, which may be away or say that it is pruned."""

    daemon_threads = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.fetched = 0
        self.away = False
        super().__init__((HOST, free_port()), _Answer)


class _Answer(BaseHTTPRequestHandler):
    server: Log

    def do_GET(self) -> None:
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        where = urlsplit(self.path)
        assert where.path == "/api/v1/audit/events"
        if self.server.away:
            self.send_error(503)
            return
        asked = {name: int(values[0]) for name, values in parse_qs(where.query).items()}
        with self.server.engine.connect() as connection:
            events = events_after(connection, asked.get("after", 0), asked["limit"])
        self.server.fetched += len(events)
        body = json.dumps({"items": [json.loads(event.message()) for event in events]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_what: object) -> None:
        """Nothing."""


@contextmanager
def publishing(
    folder: Path, broker: Mosquitto, *, scheduler: str = "embedded"
) -> Iterator[tuple[Flask, Log]]:
    """A shop that publishes, unless its scheduler is off, and its log."""
    app = create_shop(folder, sinks=("mqtt",), mqtt_url=broker.url, scheduler=scheduler)
    log = Log(app.extensions["shop"].engine)
    thread = threading.Thread(target=log.serve_forever)
    thread.start()
    start(app)
    try:
        yield app, log
    finally:
        stop(app)
        log.shutdown()
        log.server_close()
        thread.join()


class Run:
    """A consumer's program, started again whenever it was killed."""

    def __init__(self, folder: Path, broker: Mosquitto, log: Log) -> None:
        self.database = folder / "inbox.db"
        self.deaths = 0
        program = folder / "program.py"
        program.write_text(PROGRAM)
        address = f"http://{HOST}:{log.server_port}"
        self._command = [sys.executable, str(program), broker.url, address, TOKEN,
                         str(self.database)]  # fmt: skip

    def until(self, position: int, last: int) -> None:
        """Let it work until it has all up to a position, and die at each `last`-th message."""
        deadline = time.monotonic() + 240
        while self.position() < position:
            with self.started(last) as process:
                while process.poll() is None and self.position() < position:
                    assert time.monotonic() < deadline, self.position()
                    time.sleep(0.02)
                # The broker may not have its subscription yet.
                time.sleep(0.0 if last else 0.5)
                if process.poll() is not None:
                    assert process.returncode == -signal.SIGKILL
                    self.deaths += 1

    @contextmanager
    def started(self, last: int) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            [*self._command, str(last)], env={"PYTHONPATH": str(ROOT / "examples")}
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def position(self) -> int:
        """How far it is."""
        rows = self.rows("SELECT position FROM progress") if self.database.exists() else []
        return int(rows[0][0]) if rows else 0

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of its database."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            try:
                return connection.execute(statement).fetchall()
            except sqlite3.OperationalError:
                return []


def published(log: Log) -> int:
    """The head of the log, once the broker has acknowledged everything up to it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with log.engine.connect() as connection:
            head, sink, pending = connection.execute(
                text(
                    "SELECT (SELECT position FROM audit_head), (SELECT position FROM audit_sinks),"
                    " (SELECT COUNT(*) FROM audit_log WHERE position IS NULL)"
                )
            ).one()
        if head == sink and not pending:
            return int(head)
        time.sleep(0.1)
    raise AssertionError("the drain does not come to an end")


@pytest.mark.timeout(600)
def test_each_event_has_its_effect_exactly_once(tmp_path: Path) -> None:
    require("mosquitto", "the example consumer", private=True)
    with (
        Mosquitto(tmp_path / "broker", max_queued_messages=WAITING) as broker,
        publishing(tmp_path / "var", broker) as (app, log),
    ):
        run = Run(tmp_path, broker, log)
        demo(app, 2)
        run.until(published(log), last=0)
        # All by the broker: whoever dies before the acknowledgement gets the event again.
        log.away = True
        demo(app, 8)
        run.until(published(log), last=9)
        assert run.deaths >= 4
        # Dropped: the broker acknowledges everything, and keeps a part of it.
        log.away = False
        demo(app, 60)
        fetched = log.fetched
        run.until(published(log), last=15)
        assert log.fetched > fetched, "nothing was dropped"
        # Forgotten: the broker is killed, and with it the session and what waits there.
        demo(app, 10)
        head = published(log)
        broker.kill()
        broker.start()
        run.until(head, last=15)

        with log.engine.connect() as connection:
            events = events_after(connection, 0, head + 1)
    assert len(events) == head > 200
    effects = run.rows("SELECT position, id FROM effects ORDER BY position")
    assert effects == [(event.position, event.event_id) for event in events]


def test_a_hole_is_filled_as_soon_as_it_is_seen(tmp_path: Path) -> None:
    require("mosquitto", "the example consumer", private=True)
    with (
        Mosquitto(tmp_path / "broker") as broker,
        publishing(tmp_path / "var", broker, scheduler="off") as (app, log),
    ):
        run = Run(tmp_path, broker, log)
        demo(app, 2)
        first = stamp(log.engine)[-1].position
        with run.started(last=0):
            eventually(lambda: run.position() == first, 60)
            demo(app, 8)
            head = stamp(log.engine)[-1].position
            with log.engine.connect() as connection:
                (newest,) = events_after(connection, head - 1, 1)
            # Of all the new ones only this one comes; the next look is half a minute away.
            sink = MqttSink(lambda: broker.url, "shop")
            sink.open()
            sink.publish(newest)
            eventually(lambda: list(sink.acknowledged(0.1)) == [head])
            sink.close()
            eventually(lambda: run.position() == head, 20)
    assert len(run.rows("SELECT DISTINCT id FROM effects")) == head
    assert len(run.rows("SELECT id FROM effects")) == head


def demo(app: Flask, products: int) -> None:
    words = ["--products", str(products), "--users", "0", "--seed", str(products)]
    result = app.test_cli_runner().invoke(args=["shop", "demo", *words])
    assert result.exit_code == 0, result.output
