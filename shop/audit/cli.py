"""`flask audit status`, `parked`, `requeue`, `replay`.

They ask the database and leave orders there: whoever leads the drain, in whatever process, carries
them out.
"""

from __future__ import annotations

from typing import Any

import click
import orjson
from flask import current_app
from flask.cli import with_appcontext

from shop.audit import parking, queries, redelivery
from shop.audit.models import ParkedEvent
from shop.audit.status import leader
from shop.audit.status import status as status_of
from shop.db import db, transactional
from shop.errors import Refusal

_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


def _sinks() -> tuple[str, ...]:
    """Names of the sinks in SHOP_SINKS."""
    found: tuple[str, ...] = current_app.extensions["shop"].config.active_sinks
    return found


@click.command()
@_JSON
@with_appcontext
def status(as_json: bool) -> None:
    """Show the head of the log, who leads the drain, and how far each sink is behind."""
    report = status_of(db.session(), _sinks())
    if as_json:
        _print_json(report)
        return
    click.echo(f"head {report['head']}, {report['pending']} without a position yet")
    click.echo(f"the log begins at {report['begins']}, sealed through {report['sealed_through']}")
    leads = report["leader"]
    click.echo(
        f"led by {leads['owner']} for {leads['expires_in_seconds']:.1f} s more"
        if leads
        else "nobody leads the drain"
    )
    for sink in report["sinks"]:
        click.echo(_line(sink))


def _line(sink: dict[str, Any]) -> str:
    age = sink["oldest_seconds"]
    heard = sink["last_acknowledged_at"]
    parts = [
        f"{sink['name']}: at {sink['position']}, {sink['backlog']} behind",
        f"oldest {age:.1f} s" if age is not None else "nothing waits",
        f"last acknowledgement {heard.isoformat()}" if heard else "nothing acknowledged yet",
        f"{sink['parked']} parked, {sink['requeued']} put back",
        *(f"replay {it['from']} to {it['to']}, next {it['next']}" for it in sink["replays"]),
        *(["not in SHOP_SINKS"] if not sink["configured"] else []),
    ]
    return ", ".join(parts)


@click.command()
@click.option("--sink", help="Of this sink only.")
@_JSON
@with_appcontext
def parked(sink: str | None, as_json: bool) -> None:
    """List the events that a sink refused for good, and why."""
    rows = db.session.scalars(queries.parked(sink)).all()
    if as_json:
        _print_json([_shown(row) for row in rows])
        return
    for row in rows:
        click.echo(
            f"{row.sink} {row.position} {row.event_id} {row.table_name}/{row.row_id}"
            f" sequence {row.sequence}, {row.state} after {row.attempts}: {row.reason}"
        )
    if not rows:
        click.echo("Nothing is parked.")


def _shown(row: ParkedEvent) -> dict[str, Any]:
    names = (
        "sink", "position", "event_id", "row_id", "sequence", "reason", "attempts", "announced",
        "state", "parked_at", "changed_at",
    )  # fmt: skip
    return {"table": row.table_name} | {name: getattr(row, name) for name in names}


@click.command()
@click.argument("event_ids", nargs=-1)
@click.option("--sink", help="Of this sink only.")
@with_appcontext
def requeue(event_ids: tuple[str, ...], sink: str | None) -> None:
    """Put parked events back, all or these: they are sent again with the same ids and bytes."""

    @transactional
    def put_back() -> int:
        return parking.requeue(db.session(), sink, event_ids)

    count = put_back()
    if event_ids and count < len(event_ids):
        raise click.ClickException(
            f"{count} of {len(event_ids)} put back: the others are not parked, see `flask audit"
            " parked`."
        )
    click.echo(f"{count} put back.")
    _say_who_does_it()


@click.command()
@click.option("--sink", help="Send to this sink; needed when SHOP_SINKS has several.")
@click.option("--from", "first", type=click.IntRange(1), required=True, help="First position.")
@click.option("--to", "last", type=click.IntRange(1), help="Last position; else the sink's.")
@with_appcontext
def replay(sink: str | None, first: int, last: int | None) -> None:
    """Send a range of the log to a sink again, with the same ids and bytes.

    Only what it had already: its cursor stays where it is, and new events go on arriving.
    """
    sinks = _sinks()
    if sink is None and len(sinks) != 1:
        raise click.UsageError(f"Say --sink; there are: {', '.join(sinks) or 'none'}.")
    name = sink or sinks[0]

    @transactional
    def order() -> tuple[int, int]:
        made = redelivery.order_replay(db.session(), name, first, last)
        return made.from_position, made.to_position

    try:
        begin, end = order()
    except Refusal as refusal:
        raise click.ClickException(refusal.detail) from refusal
    click.echo(f"{name} gets positions {begin} to {end} again.")
    _say_who_does_it()


def _say_who_does_it() -> None:
    if leader(db.session()) is None:
        click.echo("Nobody leads the drain now: it is done as soon as somebody does.")


def _print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z))
