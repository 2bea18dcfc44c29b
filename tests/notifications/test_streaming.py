"""Live notifications: as they come, from where one was, and to nobody who may not enter."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shop.notifications import streaming
from shop.notifications.streaming import Streams
from tests import factories
from tests.notifications.checks import NOTIFICATIONS, Headers, inbox
from tests.users.checks import ME, SESSIONS

STREAM = f"{NOTIFICATIONS}/stream"


class Listener:
    """Somebody who reads a stream in a thread, and remembers what came."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.heard: list[str] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        text = ""
        for chunk in self.answer.iter_encoded():
            *whole, text = (text + chunk.decode()).split("\n\n")
            self.heard += whole
        self.ended.set()

    @property
    def told(self) -> list[dict[str, Any]]:
        """The notifications that came."""
        lines = [dict(line.split(": ", 1) for line in message.splitlines())
                 for message in self.heard if message.startswith("id: ")]  # fmt: skip
        assert all(it["event"] == "notification" for it in lines)
        found = [json.loads(it["data"]) for it in lines]
        assert [it["id"] for it in lines] == [str(item["id"]) for item in found]
        return found

    def waits_for(self, count: int) -> list[dict[str, Any]]:
        """So many notifications, which come within seconds."""
        deadline = time.monotonic() + 10
        while len(self.told) < count:
            assert time.monotonic() < deadline, f"{len(self.told)} of {count} came"
            time.sleep(0.02)
        return self.told


@contextmanager
def listening(app: Flask, headers: Headers, last: int | None = None) -> Iterator[Listener]:
    """A stream that is read until the end of the block."""
    more = {} if last is None else {"Last-Event-ID": str(last)}
    streams: Streams = app.extensions["streams"]
    others = set(streams._present())
    answer = app.test_client().get(STREAM, headers=headers | more)
    assert answer.status_code == 200, answer.text
    listener = Listener(answer)
    try:
        yield listener
    finally:
        # A generator cannot be closed while it waits.
        for stream in set(streams._present()) - others:
            stream.end()
        assert listener.ended.wait(5)
        answer.close()


@pytest.fixture(autouse=True)
def streams(app: Flask) -> Iterator[Streams]:
    """The streams of the shop under test, which end with the test."""
    found: Streams = app.extensions["streams"]
    # Other tests may have asked for some, and never read them.
    found.stop()
    yield found
    found.stop()
    assert len(found) == 0


@pytest.fixture
def me(client: FlaskClient, anna: Headers) -> int:
    """The account of anna."""
    number: int = client.get(ME, headers=anna).get_json()["id"]
    return number


def write(client: FlaskClient, staff: Headers, user_id: int, title: str) -> None:
    """Write to somebody."""
    message = {"title": title, "text": "", "user_id": user_id}
    assert client.post(NOTIFICATIONS, json=message, headers=staff).status_code == 202


def test_what_comes_is_heard_by_its_owner_alone(
    client: FlaskClient, staff: Headers, anna: Headers, me: int
) -> None:
    app = client.application
    bob = factories.sign_in(app, "customer")
    write(client, staff, me, "before")
    with listening(app, anna) as hers, listening(app, anna) as too, listening(app, bob) as his:
        for title in ("one", "two"):
            write(client, staff, me, title)
        told = hers.waits_for(2)
        too.waits_for(2)
        assert [item["title"] for item in told] == ["one", "two"]
        assert told == inbox(client, anna)[1::-1]
        assert his.told == []
        answer = hers.answer
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"


def test_a_stream_goes_on_where_another_ended(
    client: FlaskClient, staff: Headers, anna: Headers, me: int
) -> None:
    for title in ("one", "two", "three"):
        write(client, staff, me, title)
    first = inbox(client, anna)[-1]["id"]
    with listening(client.application, anna, last=first) as listener:
        write(client, staff, me, "four")
        told = listener.waits_for(3)

    assert [item["title"] for item in told] == ["two", "three", "four"]


def test_whoever_lacks_much_gets_it_in_parts(
    client: FlaskClient, staff: Headers, anna: Headers, me: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "MOST_AT_FIRST", 3)
    write(client, staff, me, "zero")
    last = inbox(client, anna)[0]["id"]
    titles = [f"number {number}" for number in range(8)]
    for title in titles:
        write(client, staff, me, title)
    heard: list[str] = []
    while len(heard) < len(titles):
        with listening(client.application, anna, last=last) as listener:
            if len(titles) - len(heard) >= 3:
                assert listener.ended.wait(5)
            else:
                listener.waits_for(len(titles) - len(heard))
            heard += [item["title"] for item in listener.told]
            last = listener.told[-1]["id"]

    assert heard == titles


@pytest.mark.parametrize("last", ["0", "-1", "1.5", "x", "١"])
def test_what_is_no_id_is_refused(client: FlaskClient, anna: Headers, last: str) -> None:
    answer = client.get(STREAM, headers=anna | {"Last-Event-ID": last})

    assert (answer.status_code, answer.get_json()["type"]) == (400, "/problems/malformed")


def test_an_idle_stream_says_that_it_is_there(
    app: Flask, anna: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_HEARTBEAT_SECONDS", 0.1)
    with listening(app, anna) as listener:
        time.sleep(0.5)
        assert listener.heard[0] == "retry: 2000"
        assert listener.heard[1:4] == [": still here"] * 3


def test_a_stream_ends_with_its_session(app: Flask, client: FlaskClient, anna: Headers) -> None:
    (opened,) = client.get(SESSIONS, headers=anna).get_json()["items"]
    with listening(app, anna) as listener:
        time.sleep(0.3)
        assert not listener.ended.is_set()
        assert client.delete(f"{SESSIONS}/{opened['id']}", headers=anna).status_code == 204
        assert listener.ended.wait(5)


def test_a_stream_ends_when_its_account_is_closed(
    app: Flask, client: FlaskClient, admin: Headers, anna: Headers, me: int
) -> None:
    with listening(app, anna) as listener:
        closing = client.patch(f"/api/v1/users/{me}", json={"disabled": True}, headers=admin)
        assert closing.status_code == 200
        assert listener.ended.wait(5)


def test_a_stream_ends_before_its_token(
    app: Flask, anna: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_MARGIN_SECONDS", 899.0)
    with listening(app, anna) as listener:
        assert listener.ended.wait(5)


def test_streams_end_when_the_worker_does(app: Flask, anna: Headers, streams: Streams) -> None:
    serving = True
    streams.serve_while(lambda: serving)
    try:
        with listening(app, anna) as listener:
            time.sleep(0.2)
            serving = False
            assert listener.ended.wait(5)
    finally:
        streams.serve_while(lambda: True)


def test_there_are_only_so_many(app: Flask, anna: Headers, monkeypatch: pytest.MonkeyPatch) -> None:
    streams: Streams = app.extensions["streams"]
    monkeypatch.setattr(streams, "_most", 5)
    bob = factories.sign_in(app, "customer")
    answers = [app.test_client().get(STREAM, headers=anna) for _ in range(5)]
    assert [it.status_code for it in answers] == [200] * 4 + [429]
    answers += [app.test_client().get(STREAM, headers=bob) for _ in range(2)]

    assert [it.status_code for it in answers[5:]] == [200, 503]
    assert all(int(answers[at].headers["Retry-After"]) > 0 for at in (4, 6))
    answers[0].close()
    answers.append(app.test_client().get(STREAM, headers=bob))
    assert answers[-1].status_code == 200
    for answer in answers:
        answer.close()
    for _ in range(10):
        with app.test_client().head(STREAM, headers=anna) as head:
            assert head.status_code == 200


def test_a_stream_holds_no_connection_while_it_waits(app: Flask, anna: Headers) -> None:
    shop = app.extensions["shop"]
    with listening(app, anna), listening(app, anna), listening(app, anna):
        seen = []
        for _ in range(50):
            seen.append(shop.engine.pool.checkedout() + shop.reader.pool.checkedout())
            time.sleep(0.01)
    # The thread that looks for all of them has one now and then.
    assert min(seen) == 0
    assert max(seen) <= 1


def test_who_asks_for_the_head_only_opens_no_stream(
    client: FlaskClient, anna: Headers, streams: Streams
) -> None:
    for _ in range(streaming.MOST_OF_ONE + 1):
        answer = client.head(STREAM, headers=anna)
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert len(streams) == 0


def test_a_stream_that_nobody_reads_does_not_count_when_it_is_over(
    app: Flask, anna: Headers, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_MARGIN_SECONDS", 1e6)
    unread = app.test_client().get(STREAM, headers=anna)
    assert unread.status_code == 200

    deadline = time.monotonic() + 10
    while len(streams):
        assert time.monotonic() < deadline
        time.sleep(0.05)
