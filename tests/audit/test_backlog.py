"""A backlog of any size goes out in order, and takes no more memory than a small one."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import pytest
from sqlalchemy import Engine, func, insert, literal, select, text, update

from shop import clock
from shop.audit import queries
from shop.audit.events import COLUMNS, Outgoing
from shop.audit.models import AuditEntry
from shop.audit.sequencer import BATCH
from shop.audit.sinks.memory import MemorySink
from shop.db import writing
from tests.audit.running import RunningDrain, cursor, eventually
from tests.plans import rows_read

_PIECE = 10_000
_MIB = 2**20
#: What the drain may hold at once: some thousand events, not all of them.
_MOST_GROWTH = 60 * _MIB


class CountingSink(MemorySink):
    """Keeps nothing but the last position and how many came out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.last = 0
        self.out_of_turn = 0

    def publish(self, event: Outgoing, *, again: bool = False) -> None:
        self.out_of_turn += event.position != self.last + 1
        self.last = event.position
        self._acknowledged.append(event.position)


@pytest.fixture(params=[20_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def events(request: pytest.FixtureRequest) -> int:
    """How many wait."""
    count: int = request.param
    return count


def fill(engine: Engine, rows: Sequence[int]) -> None:
    """Committed entries of rows of their own that nobody has stamped; each of a thousand bytes."""
    moment, data = clock.now(), '{"table": "products", "text": "%s"}' % ("x" * 1000)
    values = [
        {
            "event_id": f"{number:026}", "table_name": "products", "row_id": number, "sequence": 1,
            "action": "insert", "type": "shop.product.created", "data": data, "created_at": moment,
        }
        for number in rows
    ]  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(AuditEntry), values)


@pytest.mark.timeout(1200)
def test_a_large_backlog_goes_out_in_order_and_in_little_memory(
    engine: Engine, events: int
) -> None:
    """DO-17."""
    for first in range(0, events, _PIECE):
        fill(engine, range(first + 1, first + _PIECE + 1))
    sink = CountingSink()
    process = psutil.Process()
    before = process.memory_info().rss
    most = before

    def through() -> bool:
        nonlocal most
        most = max(most, process.memory_info().rss)
        return cursor(engine) == events

    with RunningDrain(engine, sink, window=50, batch=500):
        eventually(through, 900)

    assert (sink.last, sink.out_of_turn) == (events, 0)
    assert most - before < _MOST_GROWTH
    with engine.connect() as connection:
        waiting = select(func.count(literal(1))).where(AuditEntry.position.is_(None))
        assert connection.execute(waiting).scalar_one() == 0


def test_what_waits_is_found_in_its_order_and_without_walking_the_log(engine: Engine) -> None:
    """Each batch of a backlog would take longer than the one before; and ids must not be passed."""
    for first in range(0, 20_000, _PIECE):
        fill(engine, range(first + 1, first + _PIECE + 1))
    with writing(engine) as connection:
        # As it is when stamping and writing went on together: some early ones wait still.
        stamped = AuditEntry.row_id <= 12_000, AuditEntry.row_id % 7 != 0
        connection.execute(update(AuditEntry).where(*stamped).values(position=AuditEntry.row_id))
        back = AuditEntry.row_id.between(9_000, 9_100)
        connection.execute(update(AuditEntry).where(back).values(position=None))
        analyse = "ANALYZE" if engine.dialect.name == "sqlite" else "ANALYZE TABLE audit_log"
        connection.execute(text(analyse))
    left = select(AuditEntry.id).where(AuditEntry.position.is_(None)).order_by(AuditEntry.id)
    with engine.connect() as connection:
        ids = connection.execute(left).scalars().all()
        batch = queries.waiting(AuditEntry.id, *COLUMNS).limit(BATCH)
        found = connection.execute(batch).scalars().all()

    assert found == ids[:BATCH]
    assert found[1] - found[0] == 7
    if engine.dialect.name != "sqlite":
        assert rows_read(engine, batch) <= BATCH
        assert rows_read(engine, queries.time_of_first_pending()) <= 2
