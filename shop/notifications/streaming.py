"""Live notifications: server-sent events to those who listen.

A stream is a thread of the worker that waits; it holds no turn and no connection. One thread of
the worker asks the database twice a second for all its streams: who of them may still listen, and
what was added. Ids become visible in their order, so what was added is what is behind an id.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import orjson
from flask import Flask
from sqlalchemy import exc

from shop import clock, logs
from shop.db import read, reason
from shop.errors import RateLimited, Unavailable
from shop.notifications import queries
from shop.notifications.schemas import notification_out
from shop.users import queries as user_queries

log = logs.get(__name__)

#: Notifications that a stream begins with, at most; whoever lacks more comes back for them.
MOST_AT_FIRST = 100
#: Streams of one account in a worker.
MOST_OF_ONE = 4
_POLL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 15.0
#: A stream ends so long before the access token that it was opened with.
_MARGIN_SECONDS = 2.0
#: Whoever does not take what he is sent is cut off; he comes back for it.
_MOST_WAITING = 1000
_MOST_ADDED = 1000
_BEGINNING = b"retry: 2000\n\n"
_HEARTBEAT = b": still here\n\n"


class TooManyStreams(Unavailable):
    """The worker has as many streams as it may."""

    retry_after = 10


class Stream:
    """The body of an answer that goes on: an iterator that waits for what is to be sent.

    `behind` is the last id that it has, `ends_at` the latest end in Unix seconds.
    """

    def __init__(
        self, user_id: int, session_id: int, ends_at: float, leave: Callable[[Stream], None]
    ) -> None:
        self.user_id, self.session_id = user_id, session_id
        self.behind = 0
        self.begun = False
        self._ends_at = ends_at - _MARGIN_SECONDS
        self._leave = leave
        self._waiting: deque[bytes] = deque([_BEGINNING])
        self._news = threading.Event()
        self._over = False

    def begin(self, rows: Sequence[Any], behind: int, *, whole: bool) -> None:
        """Send these first; unless they are the `whole` of what was missed, nothing else."""
        self._waiting.extend(map(_message, rows))
        self.behind, self.begun = behind, True
        self._over = not whole

    def offer(self, row: Any) -> None:
        """Send a notification, if it was not sent."""
        if row.id <= self.behind:
            return
        if len(self._waiting) >= _MOST_WAITING:
            self.end()
            return
        self._waiting.append(_message(row))
        self._news.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes; it may be that nobody reads it to its end."""
        return self._over or time.time() >= self._ends_at

    def end(self) -> None:
        """End soon, after what waits."""
        self._over = True
        self._news.set()

    def close(self) -> None:
        """Nobody listens any more."""
        self._over = True
        self._leave(self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._waiting:
            left = self._ends_at - time.time()
            if self._over or left <= 0:
                self.close()
                raise StopIteration
            heard = self._news.wait(min(left, _HEARTBEAT_SECONDS))
            self._news.clear()
            if not heard and left > _HEARTBEAT_SECONDS:
                # Also how it turns out that the client is gone.
                return _HEARTBEAT
        return self._waiting.popleft()


class Streams:
    """All streams of this process, `most` at a time, and the thread that feeds them."""

    def __init__(self, app: Flask, most: int) -> None:
        self._app = app
        self._most = most
        self._streams: set[Stream] = set()
        self._lock = threading.Lock()
        self._feeder: threading.Thread | None = None
        self._serving: Callable[[], bool] = lambda: True
        self._stopping = threading.Event()

    def serve_while(self, serving: Callable[[], bool]) -> None:
        """End all streams soon after this becomes false."""
        self._serving = serving

    def open(self, user_id: int, session_id: int, ends_at: float, last_id: int | None) -> Stream:
        """Begin a stream: with what came after `last_id`, or with what is new from now on.

        Raises:
            TooManyStreams: this process has as many as it may.
            RateLimited: this account has as many as it may.
        """
        stream = self._enter(Stream(user_id, session_id, ends_at, self._leave))
        try:
            ((head,),) = read(queries.HEAD)
            behind = head if last_id is None else min(last_id, head)
            values = {"user_id": user_id, "behind": behind, "through": head}
            rows = read(queries.ADDED_FOR, limit=MOST_AT_FIRST, **values) if behind < head else []
        except BaseException:
            self._leave(stream)
            raise
        stream.begin(rows, head, whole=len(rows) < MOST_AT_FIRST)
        self._feed()
        return stream

    def stop(self) -> None:
        """End all streams."""
        self._stopping.set()
        for stream in self._present():
            stream.end()
        feeder = self._feeder
        if feeder is not None:
            feeder.join()
        with self._lock:
            self._streams.clear()
        self._stopping.clear()

    def __len__(self) -> int:
        return len(self._streams)

    def _present(self) -> list[Stream]:
        with self._lock:
            return list(self._streams)

    def _enter(self, stream: Stream) -> Stream:
        with self._lock:
            if len(self._streams) >= self._most:
                raise TooManyStreams("Too many are listening just now. Come back a little later.")
            if sum(it.user_id == stream.user_id for it in self._streams) >= MOST_OF_ONE:
                detail = f"{MOST_OF_ONE} streams at a time are enough for one account."
                raise RateLimited(detail, retry_after=10)
            self._streams.add(stream)
        return stream

    def _leave(self, stream: Stream) -> None:
        with self._lock:
            self._streams.discard(stream)

    def _feed(self) -> None:
        with self._lock:
            if self._feeder is None:
                # Not before somebody listens: nothing may start before the fork.
                self._feeder = threading.Thread(target=self._go_on, name="streams", daemon=True)
                self._feeder.start()

    def _go_on(self) -> None:
        while streams := self._those_to_feed():
            if not self._serving():
                for stream in streams:
                    stream.end()
            try:
                with self._app.app_context():
                    _end_those_without_session(streams)
                    _offer_what_was_added(streams)
            except exc.SQLAlchemyError as error:
                log.warning("streams.cannot-look", reason=reason(error))
            except Exception:
                log.exception("streams.failed")
            self._stopping.wait(_POLL_SECONDS)

    def _those_to_feed(self) -> list[Stream]:
        """All streams; without any the thread ends, and the next one starts another."""
        with self._lock:
            self._streams = {stream for stream in self._streams if not stream.is_over}
            if not self._streams or self._stopping.is_set():
                self._feeder = None
                return []
            return list(self._streams)


def _end_those_without_session(streams: Iterable[Stream]) -> None:
    ids = sorted({stream.session_id for stream in streams})
    rows = read(user_queries.OPEN_SESSIONS, session_ids=ids, now=clock.now())
    holding = {row.id for row in rows}
    for stream in streams:
        if stream.session_id not in holding:
            stream.end()


def _offer_what_was_added(streams: Sequence[Stream]) -> None:
    ((head,),) = read(queries.HEAD)
    listening = [stream for stream in streams if stream.begun]
    behind = min((stream.behind for stream in listening), default=head)
    if behind >= head:
        return
    users = sorted({stream.user_id for stream in listening})
    values = {"user_ids": users, "behind": behind, "through": head, "limit": _MOST_ADDED}
    rows = read(queries.ADDED_FOR_SEVERAL, **values)
    reached = rows[-1].id if len(rows) == _MOST_ADDED else head
    for stream in listening:
        for row in rows:
            if row.user_id == stream.user_id:
                stream.offer(row)
        stream.behind = max(stream.behind, reached)


def _message(row: Any) -> bytes:
    data = orjson.dumps(notification_out(row), option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)
    return b"id: %d\nevent: notification\ndata: %b\n\n" % (row.id, data)
