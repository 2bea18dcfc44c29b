"""The scheduler runs each slot once, with its effect, and makes up for what was missed."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from config import Config
from shop import clock
from shop.jobs.models import JobRun
from shop.jobs.plan import Job
from shop.jobs.slots import Every, slot_name
from shop.scheduler import Scheduler, jobs_of
from shop.users.models import User
from tests.audit.running import eventually


def scheduler(app: Flask, *jobs: Job, silence_seconds: float = 10.0) -> Scheduler:
    return Scheduler(app, jobs, None, silence_seconds=silence_seconds)


def runs(session: Session) -> list[JobRun]:
    session.rollback()
    session.expire_all()
    return list(session.scalars(select(JobRun).order_by(JobRun.slot)))


def add_user(session: Session, slot: datetime) -> None:
    """A job with an effect: a second run of the same slot would break a unique rule."""
    name = slot_name(slot)
    session.add(User(email=name, name=name, password_hash="x", role="customer"))


def test_the_shop_has_its_jobs() -> None:
    jobs = {job.name: str(job.trigger) for job in jobs_of(Config(timezone="Europe/Berlin"), {})}

    assert jobs == {"digest": "daily at 14:00 Europe/Berlin", "reconcile": "every 20 min",
                    "forget": "every 20 min", "orders": "every 20 min", "publish": "every 1 min",
                    "refresh-listings": "every 1 min", "prune": "every 20 min",
                    "ads-hourly": "every 60 min", "ads-daily": "daily at 00:10 Europe/Berlin",
                    "ads-remove": "every 60 min"}  # fmt: skip


def test_two_schedulers_run_each_second_once(app: Flask, session: Session) -> None:
    tick = Job("tick", Every(1), add_user, catch_up="all")
    pair = [scheduler(app, tick), scheduler(app, tick)]
    for each in pair:
        each.start()
    eventually(lambda: len([run for run in runs(session) if run.status == "done"]) >= 4)
    for each in pair:
        each.stop()

    found = runs(session)
    assert {run.status for run in found} == {"done"}
    slots = [run.slot for run in found]
    assert max(Counter(slots).values()) == 1
    assert sorted(session.scalars(select(User.email))) == sorted(slots)
    first = datetime.fromisoformat(slots[0])
    assert slots == [slot_name(first + timedelta(seconds=n)) for n in range(len(slots))]


def test_a_failing_job_is_recorded_and_the_next_slot_runs(app: Flask, session: Session) -> None:
    attempts = []

    def fail_once(session: Session, slot: datetime) -> None:
        attempts.append(slot)
        add_user(session, slot)
        session.flush()
        if len(attempts) == 1:
            raise LookupError("no stock")

    started = scheduler(app, Job("tick", Every(1), fail_once, catch_up="all", attempts=1))
    started.start()
    eventually(lambda: len([run for run in runs(session) if run.status == "done"]) >= 1)
    started.stop()

    first, second, *_ = runs(session)
    assert (first.status, first.error) == ("failed", "LookupError('no stock')")
    assert second.status == "done"
    assert first.slot not in session.scalars(select(User.email)).all()


def test_a_run_that_was_cut_off_is_taken_over_and_done_once(app: Flask, session: Session) -> None:
    # The grid's present slot, so that no other one becomes due meanwhile.
    slot = slot_name(Every(10**8).latest(clock.now()))
    session.add(
        JobRun(job="tick", slot=slot, status="running", attempts=1, owner="a dead process",
               heartbeat_ms=0, started_at=clock.now())
    )  # fmt: skip
    session.commit()

    started = scheduler(app, Job("tick", Every(10**8), add_user), silence_seconds=1)
    started.start()
    eventually(lambda: runs(session)[0].status == "done")
    started.stop()

    assert runs(session)[0].attempts == 2
    assert session.scalars(select(User.email)).all() == [slot]


def test_a_run_that_is_cut_off_again_and_again_is_given_up(app: Flask, session: Session) -> None:
    session.add(
        JobRun(job="tick", slot="2026-01-01T00:00:00Z", status="running", attempts=3,
               owner="a dead process", heartbeat_ms=0, started_at=clock.now())
    )  # fmt: skip
    session.commit()

    started = scheduler(app, Job("tick", Every(10**8), add_user), silence_seconds=1)
    started.start()
    eventually(lambda: runs(session)[0].status == "failed")
    started.stop()

    assert session.scalars(select(User.email)).all() == []


def test_a_long_job_is_not_taken_over_while_it_lives(app: Flask, session: Session) -> None:
    go_on = threading.Event()
    started_runs = []

    def wait(session: Session, slot: datetime) -> None:
        started_runs.append(slot)
        go_on.wait(20)

    hourly = Job("tick", Every(3600), wait, grace=timedelta(days=1))
    before = slot_name(Every(3600).latest(clock.now()) - timedelta(hours=1))
    session.add(
        JobRun(job="tick", slot=before, status="done", attempts=1, owner="x", heartbeat_ms=0,
               started_at=clock.now())
    )  # fmt: skip
    session.commit()
    pair = [scheduler(app, hourly, silence_seconds=2) for _ in range(2)]
    for each in pair:
        each.start()
    eventually(lambda: len(started_runs) == 1)
    aged = threading.Event()
    aged.wait(8)
    go_on.set()
    for each in pair:
        each.stop()

    assert len(started_runs) == 1
    assert [run.status for run in runs(session)] == ["done", "done"]


@pytest.mark.parametrize(("catch_up", "expected"), [("all", 3), ("latest", 1)])
def test_after_a_pause_missed_slots_are_caught_up(
    app: Flask, session: Session, catch_up: Any, expected: int
) -> None:
    trigger = Every(3600)
    latest = trigger.latest(clock.now())
    session.add(
        JobRun(job="tick", slot=slot_name(latest - timedelta(hours=3)), status="done", attempts=1,
               owner="x", heartbeat_ms=0, started_at=clock.now())
    )  # fmt: skip
    session.commit()

    started = scheduler(app, Job("tick", trigger, add_user, catch_up=catch_up))
    started.start()
    eventually(lambda: len([run for run in runs(session) if run.status == "done"]) >= 1 + expected)
    started.stop()

    found = runs(session)
    assert found[-1].slot == slot_name(latest)
    passed = [(run.status, run.reason) for run in found if run.status != "done"]
    assert passed == [("skipped", "too-old")] * (3 - expected)


def test_a_new_job_does_not_catch_up_a_past_it_never_had(app: Flask, session: Session) -> None:
    calls: list[Any] = []
    started = scheduler(app, Job("yearly", Every(10**8), lambda *call: calls.append(call)))
    started.start()
    eventually(lambda: started.runner.rounds >= 2)
    started.stop()

    assert runs(session) == []
    assert calls == []


def test_a_job_can_be_run_at_once(app: Flask, session: Session) -> None:
    run = scheduler(app, Job("tick", Every(3600), add_user)).runner.run_now("tick", "cli")

    assert run.status == "done"
    assert session.scalars(select(User.email)).all() == [run.slot]


def test_the_scheduler_survives_a_database_that_is_away(
    app: Flask, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = scheduler(app, Job("tick", Every(1), add_user, catch_up="all"))
    real = started.runner._claim_due

    def fail_twice() -> None:
        if started.runner.rounds < 2:
            started.runner.rounds += 1
            raise OperationalError("SELECT", {}, Exception("gone"))
        real()

    monkeypatch.setattr(started.runner, "_claim_due", fail_twice)
    started.start()
    eventually(lambda: len(runs(session)) >= 1)
    started.stop()

    assert runs(session)[0].status == "done"
