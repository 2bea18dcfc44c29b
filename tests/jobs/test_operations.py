"""Claims decide in the database who runs a slot."""

from __future__ import annotations

import threading

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shop.db import database_ms, db, transactional
from shop.jobs import operations
from shop.jobs.models import JobRun

SLOT = "2026-11-22T14:00:00Z"


def age(session: Session, milliseconds: int) -> None:
    session.execute(update(JobRun).values(heartbeat_ms=database_ms() - milliseconds))
    session.commit()


def test_a_slot_is_claimed_once(session: Session) -> None:
    run = operations.claim(session, "digest", SLOT, "first")
    assert operations.claim(session, "digest", SLOT, "second") is None
    session.commit()

    assert run is not None
    assert (run.attempts, run.owner) == (1, "first")
    assert session.scalars(select(JobRun.status)).all() == ["running"]


def test_eight_processes_at_once_get_one_claim(app: Flask) -> None:
    meeting = threading.Barrier(8, timeout=10)
    claimed: list[str] = []

    def claim(owner: str) -> None:
        @transactional
        def attempt() -> operations.Claim | None:
            return operations.claim(db.session(), "digest", SLOT, owner)

        with app.app_context():
            meeting.wait()
            if attempt() is not None:
                claimed.append(owner)

    threads = [threading.Thread(target=claim, args=(f"worker {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == 1


def test_a_finished_run_says_how_it_ended(session: Session) -> None:
    run = operations.claim(session, "digest", SLOT, "me")
    assert run is not None

    operations.finish(session, run)
    session.commit()

    stored = session.get_one(JobRun, run.id, populate_existing=True)
    assert stored.status == "done"
    assert stored.finished_at is not None


def test_a_failed_run_keeps_its_error(session: Session) -> None:
    run = operations.claim(session, "digest", SLOT, "me")
    assert run is not None

    operations.finish(session, run, "LookupError('no stock')")
    session.commit()

    stored = session.get_one(JobRun, run.id, populate_existing=True)
    assert (stored.status, stored.error) == ("failed", "LookupError('no stock')")


def test_a_silent_run_is_taken_over_and_its_old_owner_is_fenced(session: Session) -> None:
    old = operations.claim(session, "digest", SLOT, "old")
    assert old is not None
    session.commit()
    age(session, 11_000)

    new = operations.take_over(session, "digest", "new", silence_ms=10_000)
    session.commit()

    assert new is not None
    assert (new.owner, new.attempts) == ("new", 2)
    with pytest.raises(operations.Superseded):
        operations.finish(session, old)
    session.rollback()
    operations.finish(session, new)
    session.commit()


def test_a_run_that_keeps_its_heartbeat_is_left_alone(session: Session) -> None:
    run = operations.claim(session, "digest", SLOT, "me")
    assert run is not None
    session.commit()
    age(session, 11_000)

    operations.keep(session, [run.id], "me")
    session.commit()

    assert operations.take_over(session, "digest", "other", silence_ms=10_000) is None


def test_finished_runs_are_not_taken_over(session: Session) -> None:
    run = operations.claim(session, "digest", SLOT, "me")
    assert run is not None
    operations.finish(session, run)
    session.commit()
    age(session, 99_000)

    assert operations.take_over(session, "digest", "other", silence_ms=10_000) is None
    assert session.scalars(select(JobRun.status)).all() == ["done"]
