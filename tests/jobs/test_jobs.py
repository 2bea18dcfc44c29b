"""Runs that ended long ago are forgotten, but never the newest of a job."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop import clock
from shop.jobs import jobs, queries
from shop.jobs.jobs import KEPT, forget_runs
from shop.jobs.models import JobRun
from shop.jobs.slots import slot_name

NOW = clock.now().replace(microsecond=0)


def run(session: Session, job: str, ended: datetime, status: str = "done") -> str:
    """Store a run that ended then, or began then and still runs; answers its slot."""
    slot = slot_name(ended)
    session.add(
        JobRun(
            job=job, slot=slot, status=status, attempts=1, owner="me",
            heartbeat_ms=int(ended.timestamp() * 1000), started_at=ended,
            finished_at=None if status == "running" else ended,
        )
    )  # fmt: skip
    session.commit()
    return slot


def left(session: Session, job: str) -> list[str]:
    session.rollback()
    return list(session.scalars(select(JobRun.slot).where(JobRun.job == job).order_by(JobRun.slot)))


def test_only_runs_that_ended_thirty_days_ago_are_forgotten(session: Session) -> None:
    run(session, "publish", NOW - KEPT - timedelta(minutes=1), "failed")
    run(session, "publish", NOW - KEPT)
    kept = [
        run(session, "publish", NOW - KEPT + timedelta(seconds=1)),
        run(session, "publish", NOW),
    ]

    assert forget_runs(session, NOW) == 2
    session.commit()

    assert left(session, "publish") == kept


def test_a_run_that_has_not_ended_stays(session: Session) -> None:
    running = run(session, "publish", NOW - 2 * KEPT, "running")
    newest = run(session, "publish", NOW)

    assert forget_runs(session, NOW) == 0
    session.commit()

    assert left(session, "publish") == [running, newest]


def test_the_newest_run_of_each_job_stays_however_old_it_is(session: Session) -> None:
    run(session, "digest", NOW - 4 * KEPT)
    newest = run(session, "digest", NOW - 3 * KEPT)
    # Another job's newer run is no reason to forget this one's.
    other = run(session, "publish", NOW - 2 * KEPT)

    assert forget_runs(session, NOW) == 1
    session.commit()

    assert left(session, "digest") == [newest]
    assert left(session, "publish") == [other]
    assert session.scalar(queries.latest_slot("digest")) == newest


def test_a_long_history_is_forgotten_in_pieces_and_the_rest_the_next_time(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_BATCH", 2)
    monkeypatch.setattr(jobs, "_MOST_BATCHES", 2)
    for number in range(8):
        run(session, "publish", NOW - 2 * KEPT + timedelta(minutes=number))

    assert [forget_runs(session, NOW) for _ in range(3)] == [4, 3, 0]


def test_the_job_that_forgets_forgets_runs(app: Flask, session: Session) -> None:
    run(session, "publish", NOW - 2 * KEPT)
    newest = run(session, "publish", NOW)

    result = app.test_cli_runner().invoke(args=["jobs", "run", "forget"])

    assert result.exit_code == 0, result.output
    assert left(session, "publish") == [newest]
