"""Publishing the log to one sink, in order, behind a cursor."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection, Engine, bindparam, exc, insert, update

from shop import clock, logs
from shop.audit import parking, queries, redelivery
from shop.audit.delivery import Delivery, Memory
from shop.audit.events import Event, events_after
from shop.audit.models import AuditSink
from shop.audit.sinks.base import Sink, SinkDown, SinkRefused
from shop.audit.troubles import Troubles
from shop.crashes import crash_point
from shop.db import reason, writing
from shop.leases import Lease
from shop.retry import Backoff

log = logs.get(__name__)

_READ_AHEAD = 500
#: Batches of stamped events that are kept at hand.
_LATELY = 8
_SAVE_SECONDS = 0.2
_SILENCE_SECONDS = 10.0
#: How often a publisher looks whether something is to be sent again; after a vain attempt.
_LOOK_SECONDS = 1.0
_VAIN_SECONDS = 10.0

_MOVE_CURSOR = (
    update(AuditSink)
    .where(AuditSink.name == bindparam("sink"), AuditSink.position < bindparam("reached"))
    .values(position=bindparam("reached"), updated_at=bindparam("moment"))
)


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
        #: Events that were stamped lately. Whoever is far behind reads what falls out of it.
        self._stamped: deque[Sequence[Event]] = deque(maxlen=_LATELY)
        self._news = threading.Event()
        self._troubles = Troubles(engine, sink.name)
        self._memory = Memory()
        self._look_at = 0.0
        self._saved, self._saved_at = 0, 0.0
        self.on_published: Callable[[Event], None] = lambda _event: None

    def offer(self, events: Sequence[Event]) -> None:
        """These were just stamped, and need not be read from the log again."""
        self._stamped.append(events)
        self._news.set()

    @property
    def has_enough(self) -> bool:
        """Whether much of what was offered is not taken yet."""
        return len(self._stamped) >= _LATELY // 2

    def stop(self) -> None:
        """End soon; what is unacknowledged then is published again by the next leader."""
        self._stopping.set()
        self._news.set()

    def run(self) -> None:
        backoff = Backoff(first=0.2, most=2.0)
        while self._leading:
            try:
                self._sink.open()
                self._stream(backoff)
            except Deposed:
                return
            except (SinkDown, SinkRefused, exc.SQLAlchemyError) as error:
                log.warning("sink.interrupted", sink=self._sink.name, reason=reason(error))
                self._troubles.note(error)
                self._stopping.wait(backoff.delay())
            except Exception as error:
                # A mistake of ours must not end the thread: nobody would publish any more.
                log.exception("sink.failed", sink=self._sink.name)
                self._troubles.note(error)
                self._stopping.wait(backoff.delay())
            finally:
                self._sink.close()

    @property
    def _leading(self) -> bool:
        return self._lease.held and not self._stopping.is_set()

    def _stream(self, backoff: Backoff) -> None:
        delivery = Delivery(self._sink, self._cursor(), self._memory)
        unsent = EventReader(self._engine, delivery.position, self._stamped, self._news)
        self._saved, self._saved_at = delivery.position, time.monotonic()
        try:
            self._pump(delivery, unsent, backoff)
        except SinkDown:
            delivery.break_off()
            raise
        finally:
            # Also when the connection broke: one that never lasts long must get on all the same.
            if delivery.position > self._saved and self._lease.held:
                self._save(delivery)

    def _pump(self, delivery: Delivery, unsent: EventReader, backoff: Backoff) -> None:
        heard_at = time.monotonic()
        while self._leading:
            self._fill(delivery, unsent)
            self._send_again(delivery)
            if self._listen(delivery):
                heard_at = time.monotonic()
            now = time.monotonic()
            if now - heard_at > _SILENCE_SECONDS:
                raise SinkDown(f"{self._sink.name} acknowledged nothing for {_SILENCE_SECONDS} s")
            behind = delivery.position - self._saved
            if behind >= self._batch or (behind and now - self._saved_at > _SAVE_SECONDS):
                self._save(delivery)
                backoff.reset()

    def _fill(self, delivery: Delivery, unsent: EventReader) -> None:
        sent = []
        while delivery.has_room(self._window) and (event := next(unsent, None)) is not None:
            if delivery.hand_over(event):
                sent.append(event)
        if sent:
            self._sink.flush()
        for event in sent:
            crash_point("after-publish")
            self.on_published(event)

    def _listen(self, delivery: Delivery) -> bool:
        """Whether the sink said something, or had nothing to say."""
        if delivery.in_flight:
            heard = delivery.listen(self._patience(delivery))
            if heard:
                crash_point("after-acknowledgement")
            return heard
        fresh = self._news.wait(1.0 if delivery.position == self._saved else _SAVE_SECONDS)
        # Nothing can come, but an idle connection wants to be kept, or found dead.
        delivery.listen(0.0)
        self._troubles.over()
        if delivery.doubts is not None and not fresh:
            raise SinkDown(f"refused, with nothing else to compare with: {delivery.doubts}")
        return True

    def _patience(self, delivery: Delivery) -> float:
        # A full window can only wait for an acknowledgement; otherwise new events may come.
        return 0.004 if delivery.has_room(self._window) else 0.05

    def _send_again(self, delivery: Delivery) -> None:
        """Begin with what is to be sent again, or record that it was."""
        bite = delivery.bite
        if bite is None:
            most = delivery.bite_size
            if not most or time.monotonic() < self._look_at:
                return
            self._look_at = time.monotonic() + _LOOK_SECONDS
            with self._engine.connect() as connection:
                bite = redelivery.next_bite(connection, self._sink.name, most)
            if bite is not None:
                delivery.begin(bite)
        elif not bite.left:
            with self._fenced() as connection:
                redelivery.record(connection, self._sink.name, bite)
            delivery.bite = None
            self._look_at = time.monotonic() + (_VAIN_SECONDS if bite.is_in_vain else 0.0)

    @contextlib.contextmanager
    def _fenced(self) -> Iterator[Connection]:
        """A transaction in the name of the lease. Raises Deposed."""
        with writing(self._engine) as connection:
            if not self._lease.still_mine(connection):
                raise Deposed
            yield connection

    def _cursor(self) -> int:
        with self._engine.connect() as connection:
            position = connection.execute(queries.cursor_of(self._sink.name)).scalar_one_or_none()
        if position is None:
            # A new sink gets the whole log, as far as there is one.
            with writing(self._engine) as connection:
                position = connection.execute(queries.PRUNED).scalar_one()
                first = {"name": self._sink.name, "position": position, "updated_at": clock.now()}
                connection.execute(insert(AuditSink).values(first))
        return position

    def _save(self, delivery: Delivery) -> None:
        """Move the cursor, and park what it passes over, in one transaction."""
        position = delivery.position
        missing = delivery.settled()
        with self._fenced() as connection:
            parking.park(connection, self._sink.name, missing)
            values = {"sink": self._sink.name, "reached": position, "moment": clock.now()}
            connection.execute(_MOVE_CURSOR, values)
        self._saved, self._saved_at = position, time.monotonic()
        self._troubles.over()
        crash_point("after-cursor")


class EventReader:
    """An endless iterator over the log from a position; `None` from `next(..., None)` = no news.

    It takes what was `stamped` lately where that follows on its position, and reads the rest from
    the log. It looks again only after `news` was set, or once a second.
    """

    def __init__(
        self,
        engine: Engine,
        position: int,
        stamped: deque[Sequence[Event]],
        news: threading.Event,
    ) -> None:
        self._engine = engine
        self._position = position
        self._stamped = stamped
        self._news = news
        self._buffer: deque[Event] = deque()
        self._looked_at = 0.0

    def __iter__(self) -> EventReader:
        return self

    def __next__(self) -> Event:
        if not self._buffer and (self._news.is_set() or time.monotonic() > self._looked_at + 1.0):
            self._look()
        if not self._buffer:
            raise StopIteration
        return self._buffer.popleft()

    def _look(self) -> None:
        self._news.clear()
        self._looked_at = time.monotonic()
        self._take_stamped()
        if not self._buffer:
            self._read()

    def _take_stamped(self) -> None:
        while self._stamped:
            events = self._stamped[0]
            known = self._position + 1 - events[0].position
            if known < 0:
                # Between them and this reader there are others, in the log only.
                self._news.set()
                return
            self._stamped.popleft()
            self._extend(events[known:])

    def _read(self) -> None:
        with self._engine.connect() as connection:
            events = events_after(connection, self._position, _READ_AHEAD)
        self._extend(events)
        if len(events) == _READ_AHEAD:
            self._news.set()

    def _extend(self, events: Sequence[Event]) -> None:
        if events:
            self._position = events[-1].position
            self._buffer.extend(events)
