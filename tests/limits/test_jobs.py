"""Counters whose window has ended are forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import chain

import pytest
from flask import Flask
from sqlalchemy import Engine, event, insert, select, update
from sqlalchemy.orm import Session

from shop import clock
from shop.db import database_ms, db, transactional, writing
from shop.limits import jobs
from shop.limits.jobs import forget_counters
from shop.limits.models import RateCounter
from shop.limits.storage import SqlStorage
from tests.limits.conftest import count_often


def store(engine: Engine, names: list[str], ms_left: int) -> None:
    """Counters whose windows end in so many milliseconds."""
    with writing(engine) as connection:
        for name in names:
            values = {"name": name, "count": 7, "ends_ms": database_ms() + ms_left}
            connection.execute(insert(RateCounter).values(values))


def names(engine: Engine) -> set[str]:
    """Names of the counters that there are."""
    with engine.connect() as connection:
        return set(connection.scalars(select(RateCounter.name)))


def test_only_what_has_ended_is_forgotten(session: Session, engine: Engine) -> None:
    store(engine, ["over", "just over"], 0)
    store(engine, ["runs"], 60_000)

    assert forget_counters(session, clock.now()) == 2
    session.commit()

    assert names(engine) == {"runs"}
    assert forget_counters(session, clock.now()) == 0


@pytest.mark.parametrize("days", [-1, 1])
def test_the_clock_of_the_process_decides_nothing(
    session: Session, engine: Engine, days: int
) -> None:
    store(engine, ["over"], -1)
    store(engine, ["runs"], 60_000)

    forget_counters(session, clock.now() + timedelta(days=days))
    session.commit()

    assert names(engine) == {"runs"}


@pytest.mark.parametrize(("most", "forgotten"), [(9, 7), (2, 6)])
def test_it_goes_by_small_batches_and_leaves_a_flood_for_later(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch, most: int, forgotten: int
) -> None:
    store(engine, [f"name{n}" for n in range(7)], -1)
    monkeypatch.setattr(jobs, "_BATCH", 3)
    monkeypatch.setattr(jobs, "_MOST_BATCHES", most)

    assert forget_counters(session, clock.now()) == forgotten
    session.commit()

    assert len(names(engine)) == 7 - forgotten


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
def test_what_begins_anew_while_it_is_being_forgotten_stays(
    session: Session, engine: Engine, storage: SqlStorage
) -> None:
    storage.incr("anna", 60)
    with writing(engine) as connection:
        connection.execute(update(RateCounter).values(ends_ms=database_ms()))

    def count_first(statement: str) -> None:
        if statement.startswith("DELETE"):
            assert storage.incr("anna", 60) == 1

    with before_each_statement(session, count_first):
        assert forget_counters(session, clock.now()) == 0
    session.commit()

    assert storage.get("anna") == 1


class before_each_statement:  # noqa: N801 (used like a function)
    """Calls `tell` with each statement of a session, before it is sent."""

    def __init__(self, session: Session, tell: Callable[[str], None]) -> None:
        self._connection = session.connection()
        self._tell = tell

    def _before(self, _connection: object, _cursor: object, statement: str, *_more: object) -> None:
        self._tell(statement)

    def __enter__(self) -> None:
        event.listen(self._connection, "before_cursor_execute", self._before)

    def __exit__(self, *_error: object) -> None:
        event.remove(self._connection, "before_cursor_execute", self._before)


def test_counting_goes_on_while_others_are_forgotten(
    app: Flask, engine: Engine, storage: SqlStorage
) -> None:
    forget = transactional(lambda: forget_counters(db.session(), clock.now()))
    store(engine, [f"name{n}" for n in range(300)], -1)
    answers: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(count_often(storage, "anna", 20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    with app.app_context():
        while any(thread.is_alive() for thread in threads):
            forget()
        forget()
    for thread in threads:
        thread.join()

    assert sorted(chain(*answers)) == list(range(1, 81))
    assert len(names(engine)) == 1
