"""The command line of jobs; `flask jobs start` is in `shop.cli`, which knows the whole shop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import click
from flask import Flask, current_app
from flask.cli import AppGroup

from shop.db import db, transactional
from shop.jobs import operations, queries
from shop.jobs.pings import Pings
from shop.jobs.plan import Job
from shop.jobs.runner import Runner

jobs_commands = AppGroup("jobs", help="The scheduler's jobs.")

_WHO = "cli"


def _jobs() -> Mapping[str, Job]:
    return cast(Mapping[str, Job], current_app.extensions["jobs"])


def _check(name: str) -> None:
    if name not in _jobs():
        raise click.ClickException(f"No job {name!r}; there are: {', '.join(_jobs())}")


@jobs_commands.command("list")
def list_jobs() -> None:
    """List the jobs and when each ran last."""
    disabled = {it.job for it in db.session.scalars(queries.states()) if not it.enabled}
    for job in _jobs().values():
        last = db.session.execute(queries.latest_slot(job.name)).scalar_one_or_none()
        off = "  disabled" if job.name in disabled else ""
        click.echo(f"{job.name:20} {job.trigger!s:30} last slot: {last or 'never'}{off}")


@jobs_commands.command("run")
@click.argument("name")
def run_job(name: str) -> None:
    """Run a job now, in this process, outside its plan."""
    _check(name)
    app = cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]
    silence = app.extensions["shop"].config.lease_seconds
    runner = Runner(app, _jobs().values(), silence_seconds=silence, pings=Pings(""))
    try:
        run = runner.run_now(name, _WHO)
    except operations.StillRuns as refusal:
        raise click.ClickException(refusal.detail) from None
    click.echo(f"{run.job} {run.slot}: {run.status}" + (f": {run.error}" if run.error else ""))
    if run.error:
        raise click.exceptions.Exit(1)


@jobs_commands.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let the plan of a job go on."""
    _switch(name, True)


@jobs_commands.command()
@click.argument("name")
def disable(name: str) -> None:
    """Let the plan of a job rest: its slots are skipped. It can be run by hand."""
    _switch(name, False)


def _switch(name: str, enabled: bool) -> None:
    _check(name)
    transactional(operations.switch)(db.session(), name, enabled, _WHO)
    click.echo(f"{name}: {'enabled' if enabled else 'disabled'}")


@jobs_commands.command()
@click.argument("name", required=False)
@click.option("--limit", default=20, show_default=True)
def history(name: str | None, limit: int) -> None:
    """Show the newest runs."""
    if name is not None:
        _check(name)
    for run in db.session.scalars(queries.history(name, limit)):
        ended = run.finished_at.isoformat() if run.finished_at else "-"
        why = f"  {run.reason}" if run.reason else ""
        click.echo(f"{run.job:20} {run.slot} {run.status:8} attempt {run.attempts}  {ended}{why}")
