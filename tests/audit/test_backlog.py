"""A backlog of any size goes out in order, and takes no more memory than a small one."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import pytest
from sqlalchemy import Engine, func, insert, literal, select

from shop import clock
from shop.audit.events import Outgoing
from shop.audit.models import AuditEntry
from shop.audit.sinks.memory import MemorySink
from shop.db import writing
from tests.audit.running import RunningDrain, cursor, eventually

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
