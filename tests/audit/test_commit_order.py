"""Ids are given before the commit: whoever reads on from the highest id loses what comes late."""

from __future__ import annotations

import itertools
import json
import random
import secrets
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.audit.sinks.memory import MemorySink
from shop.users.models import User
from tests import factories
from tests.audit.running import RunningDrain, cursor, eventually
from tests.chaos.history import tell

WRITERS, ROWS = 64, 100
_LONGEST_PAUSE = 0.15
_GIVEN_UP = 0.2


@dataclass
class Crowd:
    """Writers who each take a pause between their entry and its commit."""

    engine: Engine
    users: list[int]
    seed: int = field(default_factory=lambda: secrets.randbits(32))

    def write(self, transactions: int) -> None:
        """All of them write so many transactions each, and have ended when this returns."""
        threads = [
            threading.Thread(target=self._write, args=(number, transactions))
            for number in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _write(self, number: int, transactions: int) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        for count in range(transactions):
            with Session(self.engine) as session:
                user = session.get(User, chance.choice(self.users), with_for_update=True)
                assert user is not None
                user.name = f"{number}/{count}"
                session.flush()
                time.sleep(chance.uniform(0, _LONGEST_PAUSE))
                if chance.random() < _GIVEN_UP:
                    session.rollback()
                else:
                    session.commit()


@pytest.mark.parametrize("engine_name", ["mariadb"])
@pytest.mark.parametrize(
    "transactions", [6, pytest.param(300, marks=[pytest.mark.full, pytest.mark.timeout(1200)])]
)
def test_no_event_is_passed_over_because_its_transaction_was_slower(
    app: Flask, engine: Engine, transactions: int
) -> None:
    """DO-20, DO-04: 64 writers with pauses, so that id n + 1 commits before n."""
    users = [factories.create_user(app).id for _ in range(ROWS)]
    own = create_engine(
        engine.url, pool_size=WRITERS, isolation_level="READ COMMITTED", pool_timeout=60
    )
    crowd, sink = Crowd(own, users), MemorySink()
    try:
        with RunningDrain(engine, sink, window=200, batch=200, poll_seconds=0.005):
            crowd.write(transactions)
            log = entries(engine)
            eventually(lambda: cursor(engine) == len(log))
            log = entries(engine)
    finally:
        own.dispose()

    late = passed_over([entry.id for entry in log])
    assert late > 0, "nobody was late, so nothing was tried"
    events = [json.loads(message) for message in sink.messages]
    assert [event["id"] for event in events] == [entry.event_id for entry in log]
    heard = defaultdict(list)
    for event in events:
        heard[event["subject"]].append(int(event["sequence"]))
    assert all(it == list(range(1, len(it) + 1)) for it in heard.values())
    tell(f"seed {crowd.seed}: {len(log)} events of {WRITERS} writers, {late} of them behind a"
         " higher id: lost 0, out of order 0")  # fmt: skip


def entries(engine: Engine) -> list[AuditEntry]:
    """The log in the order of positions; what has none comes first."""
    with Session(engine) as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.position)))


def passed_over(ids: list[int]) -> int:
    """How many a reader would miss that reads on from the highest id it has seen."""
    highest = itertools.accumulate(ids, max)
    return sum(id_ < most for id_, most in zip(ids, highest, strict=True))
