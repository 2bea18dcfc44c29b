"""Runners that tests drive by hand, at times that tests choose."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.db import read
from shop.jobs import queries
from shop.jobs.models import JobRun, JobState
from shop.jobs.pings import Pings
from shop.jobs.plan import Job
from shop.jobs.runner import Runner
from shop.jobs.slots import slot_name
from shop.users.models import User
from tests.audit.running import eventually


class Times:
    """The database's time as runners see it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def pass_by(self, **time: float) -> None:
        """Let time go by (`minutes=20`)."""
        self.now += timedelta(**time)


def runner(app: Flask, *jobs: Job, silence_seconds: float = 10.0) -> Runner:
    """A runner that nobody ticks but the test."""
    return Runner(app, jobs, silence_seconds=silence_seconds, pings=Pings(""))


def settle(*runners: Runner) -> None:
    """Tick each, and wait for what runs; a few times more while something could begin.

    A run that was claimed in the very moment in which the one before it ended waits for a tick.
    """
    for _ in range(4):
        for each in runners:
            each.tick()
        for each in runners:
            assert each._crew.wait(20)
        if not any(map(_is_waiting, runners)):
            break


def _is_waiting(one: Runner) -> bool:
    with one._app.app_context():
        return any(read(queries.waiting(job)) for job in one.jobs)


def know(session: Session, job: str, since: datetime) -> None:
    """Let a job be known since then, so that slots after it are missed when nobody runs them."""
    session.add(JobState(job=job, enabled=True, known_since=since))
    session.commit()


def runs(session: Session) -> list[JobRun]:
    """Every run, by slot, as it is stored now."""
    session.rollback()
    session.expire_all()
    return list(session.scalars(select(JobRun).order_by(JobRun.slot)))


def told(session: Session) -> list[tuple[str, str | None]]:
    """Status and reason of every run, by slot."""
    return [(run.status, run.reason) for run in runs(session)]


def has(session: Session, status: str, count: int = 1) -> Callable[[], bool]:
    """Whether so many runs have this status."""
    return lambda: sum(run.status == status for run in runs(session)) == count


def add_user(session: Session, slot: datetime) -> None:
    """A job with an effect: a second run of the same slot would break a unique rule."""
    name = slot_name(slot)
    session.add(User(email=name, name=name, password_hash="x", role="customer"))


def effects(session: Session) -> list[str]:
    """The slots whose effect is there."""
    session.rollback()
    return sorted(session.scalars(select(User.email)))


__all__ = ["add_user", "effects", "eventually", "has", "know", "runner", "runs", "settle", "told"]
