"""The drain: one leader stamps committed entries and publishes them to every sink.

Leadership is a lease. The leader runs one thread that stamps and renews, and one publisher a
sink. When it doubts its lease everything stops; `keep_alive`, called again and again in every
process that may lead, starts it anew here or elsewhere.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Engine, exc, insert, select, update

from shop import clock, logs
from shop.audit import queries
from shop.audit.events import Event, events_after
from shop.audit.models import AuditSink
from shop.audit.sequencer import BATCH, is_pending, stamp
from shop.audit.sinks.base import Sink, SinkDown, SinkRefused, Window
from shop.audit.wake import bell, wait_for_ring
from shop.crashes import crash_point
from shop.db import reason, writing
from shop.leases import Lease
from shop.retry import Backoff

log = logs.get(__name__)

_READ_AHEAD = 500
_SAVE_SECONDS = 0.2
_SILENCE_SECONDS = 10.0
#: After stamping the sequencer rests: at most this many times as long as stamping took, at most
#: this long for each entry (so only above 1,000 a second does it rest long), at most so long.
_REST = 4.0
_REST_PER_ENTRY = 0.001
_LONGEST_REST = 0.025


class Deposed(Exception):
    """The lease is another's now: nothing more may be written in its name."""


class Publisher(threading.Thread):
    """Publishes the log to one sink, in order, and moves its cursor behind the acknowledgements.

    At most `window` events are unacknowledged, and the cursor is saved at the latest every
    `batch` of them: a crash repeats `window + batch` events at most.
    """

    def __init__(self, engine: Engine, sink: Sink, lease: Lease, window: int, batch: int) -> None:
        super().__init__(name=f"publisher-{sink.name}", daemon=True)
        self._engine = engine
        self._sink = sink
        self._lease = lease
        self._window = window
        self._batch = batch
        self._stopping = threading.Event()
        self._stamped = threading.Event()
        self.on_published: Callable[[Event], None] = lambda _event: None

    def wake(self) -> None:
        """New positions were given."""
        self._stamped.set()

    def stop(self) -> None:
        """End soon; what is unacknowledged then is published again by the next leader."""
        self._stopping.set()
        self._stamped.set()

    def run(self) -> None:
        backoff = Backoff(first=0.2, most=2.0)
        while self._leading:
            try:
                self._sink.open()
                backoff.reset()
                self._stream()
            except Deposed:
                return
            except (SinkDown, SinkRefused, exc.SQLAlchemyError) as error:
                log.warning("sink.interrupted", sink=self._sink.name, reason=reason(error))
                self._stopping.wait(backoff.delay())
            except Exception:
                # A mistake of ours must not end the thread: nobody would publish any more.
                log.exception("sink.failed", sink=self._sink.name)
                self._stopping.wait(backoff.delay())
            finally:
                self._sink.close()

    @property
    def _leading(self) -> bool:
        return self._lease.held and not self._stopping.is_set()

    def _stream(self) -> None:
        window = Window(self._cursor())
        begun = window.position
        try:
            self._pass_on(window)
        finally:
            # Also when the connection broke: one that never lasts long must get on all the same.
            if window.position > begun and self._lease.held:
                self._save(window.position)

    def _pass_on(self, window: Window) -> None:
        unsent = EventReader(self._engine, window.position, self._stamped)
        saved, saved_at = window.position, time.monotonic()
        heard_at = time.monotonic()
        while self._leading:
            while len(window) < self._window and (event := next(unsent, None)) is not None:
                self._sink.publish(event)
                crash_point("after-publish")
                window.sent(event.position)
                self.on_published(event)
            if not len(window):
                self._stamped.wait(1.0 if window.position == saved else _SAVE_SECONDS)
                # Nothing can come, but an idle connection wants to be kept, or found dead.
                self._sink.acknowledged(0.0)
                heard_at = time.monotonic()
            elif done := self._sink.acknowledged(self._patience(window)):
                crash_point("after-acknowledgement")
                window.acknowledge(done)
                heard_at = time.monotonic()
            now = time.monotonic()
            if now - heard_at > _SILENCE_SECONDS:
                raise SinkDown(f"{self._sink.name} acknowledged nothing for {_SILENCE_SECONDS} s")
            behind = window.position - saved
            if behind >= self._batch or (behind and now - saved_at > _SAVE_SECONDS):
                self._save(window.position)
                saved, saved_at = window.position, now

    def _patience(self, window: Window) -> float:
        # A full window can only wait for an acknowledgement; otherwise new events may come.
        return 0.05 if len(window) >= self._window else 0.004

    def _cursor(self) -> int:
        where = select(AuditSink.position).where(AuditSink.name == self._sink.name)
        with self._engine.connect() as connection:
            position = connection.execute(where).scalar_one_or_none()
        if position is None:
            # A new sink gets the whole log.
            with writing(self._engine) as connection:
                first = {"name": self._sink.name, "position": 0, "updated_at": clock.now()}
                connection.execute(insert(AuditSink).values(first))
        return position or 0

    def _save(self, position: int) -> None:
        with writing(self._engine) as connection:
            if not self._lease.still_mine(connection):
                raise Deposed
            connection.execute(
                update(AuditSink)
                .where(AuditSink.name == self._sink.name, AuditSink.position < position)
                .values(position=position, updated_at=clock.now())
            )
        crash_point("after-cursor")


class EventReader:
    """An endless iterator over the log from a position; `None` from `next(..., None)` = no news.

    It reads again only after it was told of new positions, or once a second.
    """

    def __init__(self, engine: Engine, position: int, stamped: threading.Event) -> None:
        self._engine = engine
        self._position = position
        self._stamped = stamped
        self._buffer: deque[Event] = deque()
        self._read_at = 0.0

    def __iter__(self) -> EventReader:
        return self

    def __next__(self) -> Event:
        if not self._buffer and (self._stamped.is_set() or time.monotonic() > self._read_at + 1.0):
            self._read()
        if not self._buffer:
            raise StopIteration
        return self._buffer.popleft()

    def _read(self) -> None:
        self._stamped.clear()
        with self._engine.connect() as connection:
            events: Sequence[Event] = events_after(connection, self._position, _READ_AHEAD)
        self._read_at = time.monotonic()
        if events:
            self._position = events[-1].position
            self._buffer.extend(events)
        if len(events) == _READ_AHEAD:
            self._stamped.set()


class Drain:
    """Everything that takes the log out of the process. `sinks` makes them fresh for each term."""

    def __init__(
        self,
        engine: Engine,
        sinks: Callable[[], Iterable[Sink]],
        *,
        lease_seconds: float,
        window: int,
        batch: int,
        poll_seconds: float,
        on_published: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self._engine = engine
        self._sinks = sinks
        self._lease = Lease(engine, "drain", lease_seconds)
        self._window = window
        self._batch = batch
        self._poll_seconds = poll_seconds
        self._on_published = on_published
        self._stopping = threading.Event()
        self._leader: threading.Thread | None = None

    def keep_alive(self) -> None:
        """Take the lead if nobody has it. Cheap; call it about once a second."""
        if self._stopping.is_set() or (self._leader is not None and self._leader.is_alive()):
            return
        if self._lease.acquire():
            log.info("drain.leading", token=self._lease.token)
            self._leader = threading.Thread(target=self._lead, name="drain", daemon=True)
            self._leader.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End leading and hand the lease back."""
        self._stopping.set()
        bell.ring()
        if self._leader is not None:
            self._leader.join(timeout)

    def backlog(self) -> int:
        """Entries that some sink of this drain has not acknowledged, pending ones included."""
        with self._engine.connect() as connection:
            return connection.execute(
                queries.backlog([sink.name for sink in self._sinks()])
            ).scalar_one()

    def _lead(self) -> None:
        publishers: list[Publisher] = []
        try:
            for sink in self._sinks():
                publisher = Publisher(self._engine, sink, self._lease, self._window, self._batch)
                publisher.on_published = self._on_published
                publishers.append(publisher)
                publisher.start()
            self._stamp_while_leading(publishers)
        except exc.SQLAlchemyError as error:
            log.warning("drain.interrupted", reason=reason(error))
        except Exception:
            log.exception("drain.failed")
        finally:
            self._step_down(publishers)

    def _stamp_while_leading(self, publishers: Sequence[Publisher]) -> None:
        with bell.listen() as ears:
            ears.settimeout(self._poll_seconds)
            rung = True
            while self._lease.held and not self._stopping.is_set():
                if self._lease.renewal_due and not self._lease.renew():
                    return
                started = time.monotonic()
                count = stamp(self._engine) if rung or is_pending(self._engine) else 0
                if count:
                    crash_point("after-stamp")
                    for publisher in publishers:
                        publisher.wake()
                    # Under load, entries are stamped in handfuls: a transaction each would take
                    # the machine from those who write them.
                    took = time.monotonic() - started
                    rest = min(_REST * took, _REST_PER_ENTRY * count, _LONGEST_REST)
                    self._stopping.wait(rest if count < BATCH else 0)
                rung = count == BATCH or wait_for_ring(ears)

    def _step_down(self, publishers: Sequence[Publisher]) -> None:
        for publisher in publishers:
            publisher.stop()
        for publisher in publishers:
            publisher.join()
        with contextlib.suppress(exc.SQLAlchemyError):
            self._lease.release()
        log.info("drain.stepped-down")
