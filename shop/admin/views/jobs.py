"""The jobs of the shop, for those in charge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from flask import Response, current_app

from shop import clock, provenance
from shop.admin.schemas import JobIn, JobList, JobOut, RunOut, RunPage, job_out, run_out
from shop.db import db, transactional
from shop.errors import NotFound
from shop.jobs import operations, queries
from shop.jobs.plan import Job
from shop.web.answers import answer
from shop.web.api import ETAG, LINK, Blueprint
from shop.web.callers import ADMIN, EMPLOYEES
from shop.web.pagination import PageQuery, decode_cursor, page

jobs = Blueprint("jobs", __name__, description="What the shop does by itself, and when")

_RUNS = "jobs:runs"
#: Behind every slot.
_NEWEST = "~"


class NoSuchJob(NotFound):
    """No job has this name."""


def _job(name: str) -> Job:
    """Raises NoSuchJob."""
    known = cast(Mapping[str, Job], current_app.extensions["jobs"])
    if name not in known:
        raise NoSuchJob(f"There is no such job. There are: {', '.join(known)}.")
    return known[name]


def _shown(*wanted: Job) -> list[dict[str, Any]]:
    names = [job.name for job in wanted]
    disabled = {it.job for it in db.session.scalars(queries.states()) if not it.enabled}
    running = set(db.session.scalars(queries.under_way()))
    last = {run.job: run for run in db.session.scalars(queries.newest_of_each(names))}
    return [
        job_out(
            job, job.trigger.following(clock.now()), last.get(job.name),
            enabled=job.name not in disabled, running=job.name in running,
        )
        for job in wanted
    ]  # fmt: skip


@jobs.get("/jobs")
@jobs.allow(*EMPLOYEES)
@jobs.response(200, JobList, headers=ETAG)
@jobs.conditional
def list_jobs() -> Response:
    """Every job: when it is due, how it ran last, whether it is enabled."""
    return answer({"items": _shown(*current_app.extensions["jobs"].values())})


@jobs.get("/jobs/<name:name>/runs")
@jobs.allow(*EMPLOYEES)
@jobs.query(PageQuery)
@jobs.response(200, RunPage, headers=ETAG | LINK)
@jobs.conditional
@jobs.refuses(404)
def list_runs(name: str, limit: int, cursor: str | None = None) -> Response:
    """Runs of a job, the newest slot first; those that ended thirty days ago are forgotten."""
    job = _job(name)
    before = str(decode_cursor(_RUNS, cursor, [str])[0]) if cursor else _NEWEST
    rows = db.session.scalars(queries.runs_of(job.name, before, limit + 1)).all()
    return page(
        rows, limit, scope=_RUNS, key=lambda run: (run.slot,),
        shape=lambda runs: [run_out(run) for run in runs],
    )  # fmt: skip


@jobs.post("/jobs/<name:name>/run")
@jobs.allow(ADMIN)
@jobs.response(202, RunOut)
@jobs.refuses(404, 409)
def run_job(name: str) -> Response:
    """Run a job outside its plan, as soon as a scheduler sees it: within seconds.

    ---
    Asking again before it has begun changes nothing. A job that is disabled can be run so, too.
    """
    job = _job(name)

    @transactional
    def order() -> Response:
        run = operations.order(db.session(), job.name, provenance.actor.get() or "")
        return answer(run_out(run), 202)

    return order()


@jobs.patch("/jobs/<name:name>")
@jobs.allow(ADMIN)
@jobs.body(JobIn)
@jobs.response(200, JobOut, headers=ETAG)
@jobs.refuses(404)
def change_job(body: dict[str, Any], name: str) -> Response:
    """Let the plan of a job rest, or go on.

    ---
    Every worker knows at once. A run that is under way goes on; slots that come while the job is
    disabled are skipped, and are not made up for.
    """
    job = _job(name)

    @transactional
    def switch() -> Response:
        who = provenance.actor.get() or ""
        operations.switch(db.session(), job.name, body["enabled"], who)
        return answer(_shown(job)[0])

    return switch()
