"""The drain: one leader stamps committed entries and publishes them to every sink.

Leadership is a lease. The leader runs one thread that stamps and renews, one that seals, and one
publisher a sink. When it doubts its lease everything stops; `keep_alive`, called again and again
in every process that may lead, starts it anew here or elsewhere.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Engine, exc

from shop import logs
from shop.audit import queries
from shop.audit.events import Event
from shop.audit.publisher import Publisher
from shop.audit.sealing import Sealer
from shop.audit.sequencer import BATCH, is_pending, stamp
from shop.audit.sinks.base import Sink
from shop.audit.wake import bell, wait_for_ring
from shop.crashes import crash_point
from shop.db import reason
from shop.leases import Lease

log = logs.get(__name__)

#: After stamping the sequencer rests: at most this many times as long as stamping took, and at
#: most so long, since an event waits half of it.
_REST = 4.0
_LONGEST_REST = 0.007
#: How long a backlog waits at each batch for sinks that have enough, since one may be away.
_LONGEST_LEAD = 0.2


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
        """Entries that some sink of this drain has not acknowledged, pending ones included.

        What is to be sent again counts as well.
        """
        names = [sink.name for sink in self._sinks()]
        with self._engine.connect() as connection:
            behind = connection.execute(queries.backlog(names)).scalar_one()
            return behind + connection.execute(queries.owed_again(names)).scalar_one()

    def _lead(self) -> None:
        publishers: list[Publisher] = []
        sealer = Sealer(self._engine, self._lease)
        try:
            sealer.start()
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
            self._step_down([*publishers, sealer])

    def _stamp_while_leading(self, publishers: Sequence[Publisher]) -> None:
        with bell.listen() as ears:
            ears.settimeout(self._poll_seconds)
            rung = True
            while self._lease.held and not self._stopping.is_set():
                if self._lease.renewal_due and not self._lease.renew():
                    return
                started = time.monotonic()
                events = stamp(self._engine) if rung or is_pending(self._engine) else []
                if events:
                    crash_point("after-stamp")
                    for publisher in publishers:
                        publisher.offer(events)
                    # Under load, entries are stamped in handfuls: a transaction each would take
                    # the machine from those who write them.
                    took = time.monotonic() - started
                    self._stopping.wait(min(_REST * took, _LONGEST_REST))
                    if len(events) == BATCH:
                        self._let_catch_up(publishers)
                rung = len(events) == BATCH or wait_for_ring(ears)

    def _let_catch_up(self, publishers: Sequence[Publisher]) -> None:
        """Do not run far ahead of the sinks in a backlog: they would have to read it again."""
        until = time.monotonic() + _LONGEST_LEAD
        while time.monotonic() < until and any(it.has_enough for it in publishers):
            self._stopping.wait(_LONGEST_REST)

    def _step_down(self, threads: Sequence[Publisher | Sealer]) -> None:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join()
        with contextlib.suppress(exc.SQLAlchemyError):
            self._lease.release()
        log.info("drain.stepped-down")
