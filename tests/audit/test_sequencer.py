"""Positions are dense, and keep the order of each row."""

from __future__ import annotations

import random
import threading
from collections import defaultdict

import pytest
from flask import Flask
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry, AuditHead
from shop.audit.sequencer import runs, stamp
from shop.db import db, transactional
from shop.users.models import User
from tests import factories


def positions(engine: Engine) -> list[tuple[int, str, int, int]]:
    """(position, table, row, sequence), by position."""
    with Session(engine) as session:
        rows = session.execute(
            select(
                AuditEntry.position, AuditEntry.table_name, AuditEntry.row_id, AuditEntry.sequence
            )
            .where(AuditEntry.position.is_not(None))
            .order_by(AuditEntry.position)
        )
        return [(row[0] or 0, row[1], row[2], row[3]) for row in rows]


def head(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalars(select(AuditHead.position)).one()


@pytest.mark.parametrize(
    ("ids", "ranges"),
    [
        ([7], [(7, 7)]),
        ([1, 2, 3], [(1, 3)]),
        ([1, 2, 4, 5, 9], [(1, 2), (4, 5), (9, 9)]),
        ([2, 4, 6], [(2, 2), (4, 4), (6, 6)]),
    ],
)
def test_ids_become_ranges_without_holes(ids: list[int], ranges: list[tuple[int, int]]) -> None:
    assert list(runs(ids)) == ranges


def test_nothing_pending_is_no_work(engine: Engine) -> None:
    assert len(stamp(engine)) == 0
    assert head(engine) == 0


def test_entries_get_the_next_positions(app: Flask, engine: Engine) -> None:
    factories.create_user(app)
    assert len(stamp(engine)) == 1
    factories.create_user(app)
    factories.create_user(app)
    assert len(stamp(engine)) == 2

    assert [row[0] for row in positions(engine)] == [1, 2, 3]
    assert head(engine) == 3


# SQLite has one writer: nothing can be stamped beside an open transaction.
@pytest.mark.parametrize("engine_name", ["mariadb"])
def test_what_is_not_committed_gets_no_position(app: Flask, engine: Engine) -> None:
    with Session(engine, expire_on_commit=False) as open_session:
        early = User(email="early@example.com", name="E", password_hash="x", role="customer")
        open_session.add(early)
        open_session.flush()
        factories.create_user(app, email="late@example.com")
        assert len(stamp(engine)) == 1
        open_session.commit()
    assert len(stamp(engine)) == 1

    late, early_row = positions(engine)
    assert late[0] == 1
    assert early_row[:3] == (2, "users", early.id)


def test_concurrent_writers_and_stampers_keep_every_rows_order(app: Flask, engine: Engine) -> None:
    """Writers roll back, pause and overlap; two stampers compete."""
    users = [factories.create_user(app).id for _ in range(5)]
    seed = random.randrange(10**6)
    done = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        chance = random.Random(seed + number)

        @transactional
        def rename() -> None:
            ids = sorted(chance.sample(users, 2))
            for row_id in ids:
                user = db.session.scalars(
                    select(User).where(User.id == row_id).with_for_update()
                    .execution_options(populate_existing=True)
                ).one()  # fmt: skip
                user.name = f"{number}.{chance.random()}"
                db.session.flush()
                if chance.random() < 0.2:
                    done.wait(chance.random() * 0.01)
            if chance.random() < 0.1:
                raise LookupError("rolled back on purpose")

        try:
            with app.app_context():
                for _ in range(25):
                    try:
                        rename()
                    except LookupError:
                        continue
        except BaseException as error:
            failures.append(error)

    def keep_stamping() -> None:
        while not done.is_set():
            stamp(engine)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    stampers = [threading.Thread(target=keep_stamping) for _ in range(2)]
    for thread in writers + stampers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in stampers:
        thread.join()
    while stamp(engine):
        pass

    assert failures == [], f"seed {seed}"
    found = positions(engine)
    assert [row[0] for row in found] == list(range(1, len(found) + 1))
    by_row: dict[tuple[str, int], list[int]] = defaultdict(list)
    for _, table, row_id, sequence in found:
        by_row[table, row_id].append(sequence)
    for sequences in by_row.values():
        assert sequences == list(range(1, len(sequences) + 1)), f"seed {seed}"
    assert sum(len(sequences) for sequences in by_row.values()) > 100
