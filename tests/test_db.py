"""The data layer keeps what it is given, and transactions are all or nothing."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pymysql
import pytest
from flask import Flask
from sqlalchemy import Engine, exc, select, text, update
from sqlalchemy.orm import Session

from shop import clock
from shop.db import ATTEMPTS, database_ms, db, is_away, transactional, writing
from shop.errors import Unavailable
from shop.jobs.models import JobRun
from shop.users.models import User
from tests import factories

MOMENT = datetime(2026, 3, 29, 1, 30, 0, 123457, tzinfo=UTC)


def a_run(**values: Any) -> JobRun:
    defaults = {
        "job": "count", "slot": "2026-01-01T00:00:00Z", "status": "running", "attempts": 1,
        "owner": "me", "heartbeat_ms": 0, "started_at": MOMENT,
    }  # fmt: skip
    return JobRun(**defaults | values)


def test_an_instant_keeps_its_microseconds_and_its_zone_is_utc(session: Session) -> None:
    kiritimati = timezone(timedelta(hours=14))
    session.add(a_run(started_at=MOMENT.astimezone(kiritimati)))
    session.commit()
    session.expunge_all()

    read = session.scalars(select(JobRun.started_at)).one()

    assert read == MOMENT
    assert read.utcoffset() == timedelta(0)
    assert read.microsecond == 123457


def test_a_time_without_zone_is_refused(session: Session) -> None:
    session.add(a_run(started_at=MOMENT.replace(tzinfo=None)))

    with pytest.raises(exc.StatementError, match="without zone"):
        session.commit()


def test_text_of_every_script_comes_back_as_it_went_in(app: Flask, session: Session) -> None:
    user = factories.create_user(app, email="zoë@example.com")
    name = "Zoë 王小明 🛋️ \u202eabc"
    session.get_one(User, user.id).name = name
    session.commit()
    session.expunge_all()

    assert session.get_one(User, user.id).name == name


@pytest.mark.parametrize(("one", "other"), [("🛋️", "🛒"), ("bob", "bób"), ("bob", "BOB")])
def test_different_texts_are_different_to_unique_rules(
    session: Session, one: str, other: str
) -> None:
    session.add_all([a_run(job=one), a_run(job=other)])

    session.commit()

    assert set(session.scalars(select(JobRun.job))) == {one, other}


def test_rules_of_the_schema_hold_against_direct_sql(engine: Engine) -> None:
    stock_of_nothing = text("INSERT INTO stock_levels VALUES (424242, 1, 1)")
    with pytest.raises(exc.IntegrityError), writing(engine) as connection:
        connection.execute(stock_of_nothing)


# SQLite knows no lengths: there the schemas of the API keep them alone.
@pytest.mark.parametrize("engine_name", ["mariadb"])
def test_too_long_a_text_is_refused_and_not_cut(session: Session) -> None:
    session.add(a_run(job="x" * 65))

    with pytest.raises(exc.DataError):
        session.commit()


def test_the_database_clock_runs_in_milliseconds_of_the_epoch(session: Session) -> None:
    there = session.execute(select(database_ms())).scalar_one()

    assert abs(there - clock.now().timestamp() * 1000) < 2000


@pytest.mark.parametrize("engine_name", ["mariadb"])
def test_mariadb_sessions_are_strict(engine: Engine) -> None:
    variables = (
        "@@sql_mode, @@time_zone, @@character_set_connection, @@session.tx_isolation,"
        " @@idle_transaction_timeout"
    )
    with engine.connect() as connection:
        mode, *others = connection.execute(text(f"SELECT {variables}")).one()
    assert "STRICT_TRANS_TABLES" in mode
    assert others == ["+00:00", "utf8mb4", "READ-COMMITTED", 10]


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_sqlite_connections_are_strict(engine: Engine) -> None:
    with engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("foreign_keys", "journal_mode", "synchronous", "busy_timeout")
        }
    assert found == {
        "foreign_keys": 1, "journal_mode": "wal", "synchronous": 2, "busy_timeout": 10_000,
    }  # fmt: skip


def test_a_transaction_that_fails_leaves_nothing(app: Flask, session: Session) -> None:
    @transactional
    def add_and_fail() -> None:
        db.session.add(a_run())
        db.session.flush()
        raise LookupError("after the flush")

    with app.app_context(), pytest.raises(LookupError):
        add_and_fail()

    assert session.scalars(select(JobRun)).all() == []


def test_transactions_do_not_nest_and_the_outer_one_is_rolled_back(
    app: Flask, session: Session
) -> None:
    @transactional
    def outer() -> None:
        db.session.add(a_run())
        transactional(db.session.flush)()

    with app.app_context(), pytest.raises(RuntimeError, match="do not nest"):
        outer()

    assert session.scalars(select(JobRun)).all() == []


@pytest.mark.parametrize("code", [1213, 1205, 1020])
def test_a_lost_race_is_run_again_as_a_whole(app: Flask, session: Session, code: int) -> None:
    lost_race = exc.OperationalError("UPDATE", {}, pymysql.err.OperationalError(code, "lost"))
    attempts = []

    @transactional
    def add() -> str:
        attempts.append(1)
        db.session.add(a_run())
        db.session.flush()
        if len(attempts) < 3:
            raise lost_race
        return "won"

    with app.app_context():
        assert add() == "won"

    assert len(attempts) == 3
    assert len(session.scalars(select(JobRun)).all()) == 1


def test_a_race_that_is_always_lost_is_reported_as_unavailable(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop.retry.time.sleep", lambda _seconds: None)
    attempts = []

    @transactional
    def lose() -> None:
        attempts.append(1)
        raise exc.OperationalError("UPDATE", {}, pymysql.err.OperationalError(1213, "deadlock"))

    with app.app_context(), pytest.raises(Unavailable):
        lose()

    assert len(attempts) == ATTEMPTS


def test_sixteen_writers_that_read_before_they_write_lose_no_update(
    app: Flask, session: Session
) -> None:
    session.add(a_run())
    session.commit()
    rounds, writers = 10, 16

    @transactional
    def count() -> None:
        run = db.session.scalars(
            select(JobRun).with_for_update().execution_options(populate_existing=True)
        ).one()
        run.attempts += 1

    def write() -> None:
        with app.app_context():
            for _ in range(rounds):
                count()

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    session.expire_all()
    assert session.scalars(select(JobRun.attempts)).one() == 1 + rounds * writers


def test_a_real_deadlock_is_run_again(app: Flask, session: Session) -> None:
    """Two transactions take two rows in opposite order; both end well."""
    session.add_all([a_run(job="left"), a_run(job="right")])
    session.commit()
    meeting = threading.Barrier(2, timeout=5)
    failures: list[BaseException] = []
    single_writer = session.get_bind().dialect.name == "sqlite"

    def cross(first: str, second: str) -> None:
        met: list[bool] = []

        @transactional
        def take_both() -> None:
            for name in (first, second):
                db.session.execute(
                    update(JobRun).where(JobRun.job == name).values(attempts=JobRun.attempts + 1),
                    execution_options={"synchronize_session": False},
                )
                if not met and not single_writer:
                    met.append(True)
                    meeting.wait()

        try:
            with app.app_context():
                take_both()
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=cross, args=names)
        for names in (("left", "right"), ("right", "left"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    session.expire_all()
    assert failures == []
    assert list(session.scalars(select(JobRun.attempts))) == [3, 3]


def test_a_database_that_cannot_be_reached_counts_as_away(app: Flask) -> None:
    gone = exc.OperationalError("SELECT", {}, pymysql.err.OperationalError(2003, "refused"))

    assert is_away(gone)
    assert not is_away(exc.ProgrammingError("SELEKT", {}, pymysql.err.ProgrammingError(1064, "?")))
    assert not is_away(ValueError("2003"))
