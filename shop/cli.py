"""The command line: `flask shop`, `flask audit`, `flask jobs`."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import orjson
from flask import Flask, current_app
from flask.cli import AppGroup
from rich.console import Console
from rich.table import Table
from sqlalchemy import exc, text
from sqlalchemy.engine import make_url

import config as settings_module
from shop import crashes, logs
from shop.audit.cli import parked, replay, requeue, status
from shop.audit.events import Event
from shop.checks import verify
from shop.db import db, reason
from shop.jobs.cli import jobs_commands
from shop.orders.cli import demo
from shop.users.cli import create_admin

if TYPE_CHECKING:
    from shop.app import Shop

log = logs.get(__name__)

_MARK = "<!-- settings -->"

shop_commands = AppGroup("shop", help="Look after the shop.")
audit_commands = AppGroup("audit", help="The audit log and what leaves by it.")
shop_commands.add_command(create_admin)
shop_commands.add_command(demo)
for command in (status, parked, requeue, replay):
    audit_commands.add_command(command)


def _shop() -> Shop:
    return cast("Shop", current_app.extensions["shop"])


def _check_database() -> tuple[str, float]:
    """Address and latency in seconds of the database; ends the process when it does not answer."""
    address = make_url(_shop().config.database).render_as_string(hide_password=True)
    started = time.perf_counter()
    try:
        db.session.execute(text("SELECT 1"))
    except exc.SQLAlchemyError as error:
        why = reason(error)
        raise click.ClickException(f"The database at {address} does not answer: {why}") from None
    return address, time.perf_counter() - started


@shop_commands.command()
def check() -> None:
    """Check each dependency: address, state, latency. Exit code 1 if a required one is away."""
    address, seconds = _check_database()
    rows = [("database", address, "up", f"{seconds * 1000:.1f} ms")]
    away = []
    for sink in _configured_sinks():
        started = time.perf_counter()
        try:
            sink.open()
            sink.close()
            state = "up"
        except Exception as error:
            state = f"down: {error}"
            away.append(sink.name)
        taken = f"{(time.perf_counter() - started) * 1000:.1f} ms"
        rows.append((sink.name, getattr(sink, "address", ""), state, taken))
    for name, where, state, taken in rows:
        click.echo(f"{name:10} {where:50} {state:8} {taken}")
    if away:
        raise click.ClickException(f"Not reachable: {', '.join(away)}")


def _configured_sinks() -> list[Any]:
    try:
        return list(_shop().sinks())
    except Exception as error:
        raise click.ClickException(f"A sink cannot be made: {error}") from error


@shop_commands.command()
@click.option(
    "--into",
    type=click.Path(path_type=Path, exists=True),
    help="Write them as Markdown between the `settings` marks of this file.",
)
def settings(into: Path | None) -> None:
    """List every setting: name, type, default, what it does."""
    rows = list(settings_module.settings())
    if into is not None:
        before, mark, rest = into.read_text().partition(_MARK)
        after = rest.partition(_MARK)[2]
        into.write_text(before + mark + settings_table() + mark + after)
        return
    table = Table("setting", "type", "default", "what it does")
    for name, kind, default, help in rows:
        table.add_row(name, kind, _shown(default), help)
    Console().print(table)


@shop_commands.command("verify")
def verify_books() -> None:
    """Reconcile stock, ratings and the audit log. JSON; exit code 1 if anything is wrong."""
    report = verify(db.session(), current_app.extensions["checks"])
    click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z))
    if not report["sound"]:
        raise click.exceptions.Exit(1)


@shop_commands.command("crash-points")
def list_crash_points() -> None:
    """List what SHOP_CRASH_AT can name, in SHOP_ENV=testing: name[:n][:way], several by commas."""
    for name, moment in (*crashes.POINTS.items(), *crashes.WAYS.items()):
        click.echo(f"{name:24} {moment}")


def settings_table() -> str:
    """The settings as a Markdown table."""
    lines = ["", "| setting | type | default | what it does |", "| --- | --- | --- | --- |"]
    for name, kind, default, help in settings_module.settings():
        lines.append(f"| `{name}` | {kind} | {_shown(default) or 'empty'} | {help} |")
    return "\n".join([*lines, ""])


def _shown(default: Any) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)


@audit_commands.command()
@click.option("--once", is_flag=True, help="End when nothing is left to publish.")
def drain(once: bool) -> None:
    """Run the drain in this process and show each event that it publishes."""
    address, seconds = _check_database()
    log.info("database.checked", address=address, milliseconds=round(seconds * 1000, 1))
    drain = _shop().drain(on_published=_show_event)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    while not ending.wait(0.5):
        try:
            drain.keep_alive()
            if once and drain.backlog() == 0:
                break
        except exc.SQLAlchemyError as error:
            log.warning("drain.cannot-lead", reason=reason(error))
    drain.stop()


def _show_event(event: Event) -> None:
    log.info(
        "event.published", table=event.table, row=event.row_id, sequence=event.sequence,
        position=event.position, time=event.time.isoformat(),
    )  # fmt: skip


@jobs_commands.command()
def start() -> None:
    """Run the scheduler, with the drain, mail and files of products, in this process."""
    from shop.serving import why_not_serve

    migrations = Path(current_app.root_path).parent / "migrations"
    why_not = why_not_serve(_shop().config.database, migrations)
    if why_not:
        raise click.ClickException(why_not)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    scheduler = _shop().timer(_app())
    scheduler.start()
    log.info("scheduler.started", jobs=len(_shop().jobs))
    ending.wait()
    scheduler.stop()
    log.info("scheduler.ended")


def _app() -> Flask:
    # Threads need the app itself, which `current_app` is only a name for.
    return cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]
