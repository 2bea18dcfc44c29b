"""What becomes of slots and runs that do not go as planned; each leaves a row that says so."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from flask import Flask
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from shop import clock
from shop.db import db, transactional
from shop.jobs import operations
from shop.jobs.models import JobRun
from shop.jobs.plan import Job
from shop.jobs.slots import Every, slot_name
from shop.jobs.timing import DatabaseClock
from tests.audit.running import eventually
from tests.jobs.running import Times, add_user, effects, has, know, runner, runs, settle, told

NOON = datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC)
TWENTY = Every(20 * 60)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times(NOON)
    monkeypatch.setattr(DatabaseClock, "now", lambda _self: times.now)
    return times


class Gate:
    """Work that lasts until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._open = threading.Semaphore(0)
        self.at_once = 0
        self._inside = 0

    def work(self, session: Session, slot: datetime) -> None:
        self.begun.append(slot_name(slot))
        self._inside += 1
        self.at_once = max(self.at_once, self._inside)
        self._open.acquire(timeout=20)
        self._inside -= 1

    def let_go(self, runs: int = 1) -> None:
        self._open.release(runs)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.let_go(1000)


def make_due(session: Session) -> None:
    """Let everything that waits be due at once."""
    session.execute(update(JobRun).where(JobRun.status == "waiting").values(due_ms=0))
    session.commit()


def in_pieces(gate: Gate, **options: Any) -> Job:
    # In pieces, so that the run that lasts holds no lock on SQLite.
    return Job("tick", TWENTY, gate.work, in_pieces=True, **options)


def test_a_slot_that_comes_while_the_run_before_it_lasts_waits_for_its_end(
    app: Flask, session: Session, times: Times, gate: Gate
) -> None:
    """SC-03: no overlap."""
    know(session, "tick", NOON - timedelta(minutes=1))
    pair = [runner(app, in_pieces(gate)) for _ in range(2)]
    pair[0].tick()
    eventually(lambda: len(gate.begun) == 1)
    times.pass_by(minutes=20)
    for each in pair * 2:
        each.tick()
    assert told(session) == [("running", None), ("waiting", "overlap")]

    gate.let_go(2)

    eventually(has(session, "done", 2))
    assert gate.begun == ["2026-11-22T12:00:00Z", "2026-11-22T12:20:00Z"]
    assert gate.at_once == 1


def test_slots_do_not_pile_up_behind_a_long_run_the_newest_one_runs(
    app: Flask, session: Session, times: Times, gate: Gate
) -> None:
    """SC-03: no pile-up; each slot that did not run is there as skipped."""
    know(session, "tick", NOON - timedelta(minutes=1))
    one = runner(app, in_pieces(gate))
    for _ in range(5):
        one.tick()
        times.pass_by(minutes=20)
    gate.let_go(2)

    eventually(has(session, "done", 2))
    assert told(session) == [("done", None), *[("skipped", "overlap")] * 3, ("done", None)]


def test_a_job_may_rather_skip_slots_than_run_them_late(
    app: Flask, session: Session, times: Times, gate: Gate
) -> None:
    know(session, "tick", NOON - timedelta(minutes=1))
    one = runner(app, in_pieces(gate, overlap="skip"))
    one.tick()
    eventually(lambda: len(gate.begun) == 1)
    times.pass_by(minutes=20)
    one.tick()
    gate.let_go()
    eventually(has(session, "done"))
    times.pass_by(minutes=20)
    gate.let_go()
    settle(one)

    assert told(session) == [("done", None), ("skipped", "overlap"), ("done", None)]


def test_a_job_may_run_beside_itself_when_it_is_declared_so(
    app: Flask, session: Session, times: Times, gate: Gate
) -> None:
    know(session, "tick", NOON - timedelta(minutes=1))
    one = runner(app, in_pieces(gate, overlap="allow"))
    one.tick()
    times.pass_by(minutes=20)
    one.tick()

    eventually(lambda: gate.at_once == 2)


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("latest", [("skipped", "too-old")] * 2 + [("done", None)]),
        ("all", [("done", None)] * 3),
        ("none", [("skipped", "too-old")] * 3),
    ],
)
def test_an_hour_in_which_nobody_ran_is_caught_up_as_declared_and_once(
    app: Flask, session: Session, times: Times, catch_up: Any, expected: Any
) -> None:
    """SC-04: stopped for an hour, then two start."""
    know(session, "tick", NOON - timedelta(minutes=1))
    before = runner(app, Job("tick", TWENTY, add_user, catch_up=catch_up))
    settle(before)
    times.pass_by(minutes=61)

    pair = [runner(app, Job("tick", TWENTY, add_user, catch_up=catch_up)) for _ in range(2)]
    settle(*pair)
    settle(*pair)

    eventually(lambda: "waiting" not in {status for status, _ in told(session)})
    assert told(session) == [("done", None), *expected]
    assert effects(session) == [run.slot for run in runs(session) if run.status == "done"]


def test_what_is_caught_up_is_bounded_and_the_rest_is_visible(
    app: Flask, session: Session, times: Times
) -> None:
    """SC-04: two days of twenty minutes, of which the last five are caught up."""
    know(session, "tick", NOON - timedelta(days=2))
    one = runner(app, Job("tick", TWENTY, add_user, catch_up="all", most=5))
    settle(one)

    eventually(has(session, "done", 5))
    found = told(session)
    assert found == [("skipped", "too-old")] * (len(found) - 5) + [("done", None)] * 5
    assert len(found) == 2 * 72


def test_slots_of_a_disabled_job_are_skipped_and_nothing_is_made_up_for(
    app: Flask, session: Session, times: Times
) -> None:
    know(session, "tick", NOON - timedelta(minutes=1))
    one = runner(app, Job("tick", TWENTY, add_user))
    operations.switch(session, "tick", False, "users/3")
    session.commit()
    settle(one)
    times.pass_by(minutes=20)
    settle(one)
    operations.switch(session, "tick", True, "users/3")
    session.commit()
    settle(one)
    times.pass_by(minutes=20)
    settle(one)

    assert told(session) == [("skipped", "disabled")] * 2 + [("done", None)]


@pytest.mark.parametrize("failures", range(1, 11, 3))
def test_a_run_that_fails_is_tried_again_later_and_later_until_it_is_done(
    app: Flask, session: Session, times: Times, failures: int
) -> None:
    """SC-11: the target fails 1 to 10 times; the delay doubles up to a cap, with jitter."""
    know(session, "tick", NOON - timedelta(minutes=1))
    left = [failures]

    def fail(session: Session, slot: datetime) -> None:
        add_user(session, slot)
        session.flush()
        left[0] -= 1
        if left[0] >= 0:
            raise LookupError("no stock")

    one = runner(app, Job("tick", TWENTY, fail, attempts=11, pause=4, longest_pause=60))
    delays = []
    for _ in range(failures):
        settle(one)
        (run,) = runs(session)
        assert (run.status, run.reason, run.error) == (
            "waiting", "retry", "LookupError('no stock')",
        )  # fmt: skip
        delays.append((run.due_ms or 0) / 1000 - time.time())
        settle(one)
        assert runs(session)[0].attempts == len(delays), "not before its time"
        make_due(session)
    settle(one)

    ceilings = [min(4 * 2**number, 60) for number in range(failures)]
    assert all(0.4 * most < delay < most + 1 for delay, most in zip(delays, ceilings, strict=True))
    assert [(run.status, run.attempts) for run in runs(session)] == [("done", failures + 1)]
    assert effects(session) == ["2026-11-22T12:00:00Z"]


def test_delays_differ_by_chance() -> None:
    """SC-11: jitter."""
    random.seed(7)
    delays = {Job("tick", TWENTY, add_user, pause=8).delay(3) for _ in range(50)}

    assert len(delays) > 40
    assert all(16 <= delay <= 32 for delay in delays)


def test_a_run_that_fails_for_good_keeps_its_error_and_the_next_slot_runs(
    app: Flask, session: Session, times: Times
) -> None:
    """SC-06, SC-11: the final state is visible."""
    know(session, "tick", NOON - timedelta(minutes=1))
    failing = [True]

    def fail(session: Session, slot: datetime) -> None:
        if failing[0]:
            raise LookupError("no stock")

    one = runner(app, Job("tick", TWENTY, fail, attempts=2))
    settle(one)
    make_due(session)
    settle(one)
    failing[0] = False
    times.pass_by(minutes=20)
    settle(one)

    first, second = runs(session)
    assert (first.status, first.attempts, first.error) == ("failed", 2, "LookupError('no stock')")
    assert (second.status, second.attempts) == ("done", 1)


def test_a_retry_gives_way_to_the_next_slot(app: Flask, session: Session, times: Times) -> None:
    know(session, "tick", NOON - timedelta(minutes=1))

    def fail_at_noon(session: Session, slot: datetime) -> None:
        if slot < NOON:
            raise LookupError("no stock")

    one = runner(app, Job("tick", TWENTY, fail_at_noon, pause=600))
    settle(one)
    times.pass_by(minutes=20)
    settle(one)

    assert told(session) == [("failed", "overtaken"), ("done", None)]
    assert runs(session)[0].error == "LookupError('no stock')"


def _hang_in_python(session: Session) -> None:
    while True:
        time.sleep(0.02)


def _hang_in_the_database(session: Session) -> None:
    if session.get_bind().dialect.name == "sqlite":
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        session.execute(text(f"{endless} SELECT COUNT(*) FROM n"))
    session.execute(text("SELECT SLEEP(100)"))


def _hang_deaf(session: Session) -> None:
    threading.Event().wait(3)
    session.execute(text("DELETE FROM users"))


@pytest.mark.parametrize("hang", [_hang_in_python, _hang_in_the_database, _hang_deaf])
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
def test_a_run_that_hangs_is_cut_off_with_its_locks_and_the_next_slot_runs(
    app: Flask, session: Session, times: Times, hang: Any, pieces: bool
) -> None:
    """SC-06: what it did is rolled back, and what it tries after its time is refused."""
    know(session, "tick", NOON - timedelta(minutes=1))
    ended = threading.Event()

    def effect(session: Session, slot: datetime) -> None:
        add_user(session, slot)
        session.flush()
        if slot < NOON:
            hang(session)

    def work(session: Session, slot: datetime) -> None:
        try:
            if pieces:
                transactional(lambda: effect(db.session(), slot))()
            else:
                effect(session, slot)
        finally:
            if slot < NOON:
                ended.set()

    job = Job("tick", TWENTY, work, timeout=0.5, attempts=1, in_pieces=pieces)
    one = runner(app, job)
    one.tick()
    eventually(has(session, "running"))
    time.sleep(0.6)
    one.tick()
    assert told(session) == [("failed", "timed-out")]
    assert runs(session)[0].error == "TimeoutError('took longer than 0.5 s')"

    times.pass_by(minutes=20)
    settle(one)
    assert effects(session) == ["2026-11-22T12:20:00Z"], "the lock is free, its change is not kept"

    def has_ended() -> bool:
        one.tick()
        return ended.is_set()

    eventually(has_ended)
    time.sleep(0.2)
    assert effects(session) == ["2026-11-22T12:20:00Z"]
    assert told(session) == [("failed", "timed-out"), ("done", None)]


def test_a_run_of_pieces_that_was_taken_over_commits_no_further_piece(
    app: Flask, session: Session, times: Times, gate: Gate
) -> None:
    """SC-08: an owner that was frozen goes on when another one has taken over."""
    know(session, "tick", NOON - timedelta(minutes=1))
    begun = []

    def work(_session: Session, slot: datetime) -> None:
        begun.append(slot)
        mark = slot + timedelta(seconds=len(begun))
        if len(begun) == 1:
            gate.work(_session, slot)
        transactional(lambda: add_user(db.session(), mark))()

    old, new = (runner(app, Job("tick", TWENTY, work, in_pieces=True)) for _ in range(2))
    old.tick()
    eventually(lambda: len(begun) == 1)
    session.execute(update(JobRun).values(heartbeat_ms=0))
    session.commit()
    settle(new)
    assert effects(session) == ["2026-11-22T12:00:02Z"]

    gate.let_go()
    assert old._crew.wait(20)

    assert effects(session) == ["2026-11-22T12:00:02Z"]
    assert [(run.status, run.attempts) for run in runs(session)] == [("done", 2)]


@pytest.mark.parametrize("on_crash", ["retry", "skip"])
def test_a_run_whose_process_died_is_run_again_or_has_failed_as_declared(
    app: Flask, session: Session, times: Times, on_crash: Literal["retry", "skip"]
) -> None:
    know(session, "tick", NOON)
    slot = slot_name(NOON)
    session.add(
        JobRun(job="tick", slot=slot, status="running", attempts=1, owner="a dead process",
               heartbeat_ms=0, started_at=clock.now())
    )  # fmt: skip
    session.commit()

    settle(runner(app, Job("tick", TWENTY, add_user, on_crash=on_crash)))

    retried = on_crash == "retry"
    assert told(session) == [("done", None) if retried else ("failed", "cut-off")]
    assert effects(session) == ([slot] if retried else [])


def test_a_run_ordered_by_hand_is_picked_up_and_leaves_the_plan_alone(
    app: Flask, session: Session, times: Times
) -> None:
    know(session, "tick", NOON - timedelta(minutes=1))
    ordered = operations.order(session, "tick", "users/3")
    again = operations.order(session, "tick", "users/4")
    session.commit()
    assert ordered.id == again.id

    one = runner(app, Job("tick", TWENTY, add_user))
    settle(one)
    # The ordered run is of the real present, which is later than that of the test.
    times.pass_by(minutes=20)
    settle(one)
    restarted = runner(app, Job("tick", TWENTY, add_user))
    times.pass_by(minutes=20)
    settle(restarted)

    found = {run.slot: run for run in runs(session)}
    assert {run.status for run in found.values()} == {"done"}
    assert found[ordered.slot].ordered_by == "users/3"
    planned = [run.slot for run in found.values() if run.ordered_by is None]
    assert planned == ["2026-11-22T12:00:00Z", "2026-11-22T12:20:00Z", "2026-11-22T12:40:00Z"]


def test_no_run_can_be_ordered_while_one_is_under_way(session: Session) -> None:
    assert operations.claim(session, "tick", slot_name(NOON), "me") is not None

    with pytest.raises(operations.StillRuns):
        operations.order(session, "tick", "users/3")


def test_a_run_by_hand_waits_for_no_other_one_but_takes_a_dead_one_over(
    app: Flask, session: Session
) -> None:
    before = operations.claim(session, "tick", slot_name(NOON), "a process")
    session.commit()
    assert before is not None

    with pytest.raises(operations.StillRuns):
        runner(app, Job("tick", TWENTY, add_user)).run_now("tick", "cli")
    session.execute(update(JobRun).values(heartbeat_ms=0))
    session.commit()
    run = runner(app, Job("tick", TWENTY, add_user)).run_now("tick", "cli")

    assert (run.id, run.status, run.attempts) == (before.id, "done", 2)
    assert len(runs(session)) == 1


def test_clocks_that_differ_are_said_in_the_log(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SC-07: the shop's own clock is an hour ahead; slots follow the database's."""
    monkeypatch.setattr(
        "shop.jobs.timing.clock.now", lambda: datetime.now(UTC) + timedelta(hours=1)
    )
    one = runner(app, Job("tick", TWENTY, add_user))
    for _ in range(3):
        one.tick()

    differ = [it.msg for it in caplog.records if "clocks-differ" in str(it.msg)]
    assert len(differ) == 1
    assert "3600.0" in str(differ[0])
    assert abs((one._clock.now() - datetime.now(UTC)).total_seconds()) < 5
