"""Whoever dies while people are told: a notification if and only if its cause was committed."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from shop.checks import verify
from shop.engines import database_url
from shop.notifications.checks import CHECKS
from tests.chaos.history import tell
from tests.notifications.test_messages import SALE, create_customers
from tests.orders.crowds import Crowd, database_of
from tests.running import CUT_OFF, RunningShop

#: The points that are passed when events are told, and when a message is handed out.
READING = ("before-reader-commit:2", "after-reader-commit:2", "before-reader-commit:3",
           "in-fan-out:2", "after-reader-commit:1", "in-fan-out:1")  # fmt: skip
#: Three pieces of a message.
CUSTOMERS = 1_300
BEHIND = "SELECT COUNT(*) FROM audit_readers r, audit_head h WHERE r.position < h.position"

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(900)]


class Writers:
    """Threads that place orders, and cancel some, whatever becomes of their requests."""

    def __init__(self, crowd: Crowd, sku: str, count: int) -> None:
        self._crowd, self._sku = crowd, sku
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        while not self._ended.is_set():
            with suppress(*CUT_OFF):
                order = self._crowd.order((self._sku, 1))
                if order.status_code == 201 and order.json()["id"] % 3 == 0:
                    self._crowd.call("POST", f"/orders/{order.json()['id']}/cancel")
            time.sleep(0.02)


def until(crowd: Crowd, question: str, answer: Any, seconds: float = 60) -> None:
    """Wait for what the database says."""
    deadline = time.monotonic() + seconds
    while (found := crowd.sql(question)) != answer:
        assert time.monotonic() < deadline, f"{question}: {found}"
        time.sleep(0.1)


def deaths(shop: RunningShop) -> int:
    """How many processes died at a crash point."""
    return shop.log.read_text(errors="replace").count("crash point ")


@pytest.mark.parametrize("kind", ["sqlite", "mariadb"])
@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=pytest.mark.full)])
def test_who_dies_while_people_are_told_loses_and_doubles_nothing(
    kind: str, rounds: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """SC-05: workers are killed while the log is read and messages are handed out."""
    with database_of(kind, tmp_path, request) as url:
        # Nobody answers there: mail stays in the outbox, where it can be counted.
        shop = RunningShop(
            tmp_path / "shop", url, None, env="testing", sinks="none", rate_limits="off",
            mail_url="smtp://127.0.0.1:9", lease_seconds=2, crash_at=",".join(READING * rounds),
        )  # fmt: skip
        with shop:
            crowd = Crowd(shop, url)
            engine = create_engine(database_url(url))
            create_customers(engine, CUSTOMERS)
            oak = crowd.product(stock=1_000_000)
            sent = 0
            with Writers(crowd, oak["sku"], 2 if rounds == 1 else 4):
                deadline = time.monotonic() + 60 * rounds + 60
                while deaths(shop) < len(READING) * rounds:
                    assert time.monotonic() < deadline, f"{deaths(shop)} died"
                    with suppress(*CUT_OFF):
                        if not crowd.sql(
                            "SELECT id FROM notification_messages WHERE status = 'sending'"
                        ):
                            body = SALE | {"role": "customer"}
                            sent += crowd.call("POST", "/notifications", body).status_code == 202
                    time.sleep(0.3)
            until(crowd, "SELECT status FROM notification_messages WHERE status = 'sending'", [])
            until(crowd, "SELECT COUNT(*) FROM audit_log WHERE position IS NULL", [(0,)])
            until(crowd, BEHIND, [(0,)])
            orders, told = check_all_were_told(crowd)
            with Session(engine) as session:
                assert verify(session, CHECKS)["sound"]
        engine.dispose()
        assert deaths(shop) == len(READING) * rounds
    tell(f"{kind}: {len(READING) * rounds} deaths, {orders} orders, {told} told, {sent} messages")


def check_all_were_told(crowd: Crowd) -> tuple[int, int]:
    """Each committed order, and each that was cancelled, is told once, and mailed once."""
    placed = {row.id for row in crowd.sql("SELECT id FROM orders")}
    ended = {row.id for row in crowd.sql("SELECT id FROM orders WHERE status = 'cancelled'")}
    due = Counter({("order-placed", it): 1 for it in placed})
    due += Counter({("order-cancelled", it): 1 for it in ended})
    rows = crowd.sql("SELECT kind, `key` FROM notifications WHERE kind LIKE 'order-%'")
    assert Counter((row.kind, int(row.key.split(":")[1])) for row in rows) == due
    mails = crowd.sql("SELECT COUNT(*) FROM outgoing_mails WHERE kind = 'notification'")
    assert mails == [(due.total(),)]
    messages = crowd.sql("SELECT id, recipients FROM notification_messages")
    for message in messages:
        having = "SELECT COUNT(*), COUNT(DISTINCT user_id) FROM notifications WHERE message_id = :m"
        assert crowd.sql(having, m=message.id) == [(CUSTOMERS, CUSTOMERS)]
        assert message.recipients == CUSTOMERS
    assert messages
    return len(placed), due.total()


def test_streams_end_at_once_when_the_server_stops_or_reloads(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A worker that ends waits for its requests, but not for streams."""
    with database_of("mariadb", tmp_path, request) as url:
        shop = RunningShop(tmp_path / "shop", url, None, env="testing", sinks="none", streams=3)
        with shop:
            crowd = Crowd(shop, url)
            first, second = listen(crowd), listen(crowd)
            assert next(first.iter_lines()) == b"retry: 2000"
            workers = set(shop.worker_pids())
            shop.send(signal.SIGHUP)
            took = seconds_until_end(first), seconds_until_end(second)
            assert max(took) < 5
            deadline = time.monotonic() + 10
            while workers & set(shop.worker_pids()):
                assert time.monotonic() < deadline, "the old workers are still there"
                time.sleep(0.1)
            third = listen(crowd)
            me = crowd.call("GET", "/users/me").json()["id"]
            assert crowd.call("POST", "/notifications", SALE | {"user_id": me}).status_code == 202
            lines = third.iter_lines()
            assert any(b'"title":"Sale"' in line for line in lines)
            started = time.monotonic()
            shop.send(signal.SIGTERM)
            assert shop.wait(10) == 0
            tell(
                f"streams ended {max(took):.1f} s after HUP, {time.monotonic() - started:.1f} s"
                " after TERM the server had"
            )


def listen(crowd: Crowd) -> requests.Response:
    """A stream that is open."""
    url = f"{crowd.shop.url}/api/v1/notifications/stream"
    answer = requests.get(url, headers=crowd.headers, stream=True, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer


def seconds_until_end(answer: requests.Response) -> float:
    """How long a stream goes on."""
    started = time.monotonic()
    with suppress(requests.RequestException):
        for _ in answer.iter_content(100):
            pass
    return time.monotonic() - started
