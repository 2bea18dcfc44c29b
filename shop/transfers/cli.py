"""`flask products import` and `flask products export`."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click
from flask import current_app
from flask.cli import AppGroup, with_appcontext
from rich.progress import Progress

from shop import provenance
from shop.db import db, transactional
from shop.errors import Refusal
from shop.transfers import operations, queries
from shop.transfers.files import Folder, Received
from shop.transfers.models import (
    COMPLETED,
    CSV,
    JSONL,
    POLICIES,
    SKIP_BAD_ROWS,
    ProductExport,
    ProductImport,
)
from shop.transfers.operations import Lost
from shop.transfers.queries import T
from shop.transfers.reading import check_beginning
from shop.transfers.work import go_on

#: How long this command's claim lasts after its last piece of work.
_CLAIM_SECONDS = 10.0
_FORMATS = {".csv": CSV, ".jsonl": JSONL, ".ndjson": JSONL}
_SHOWN_FAULTS = 10

product_commands = AppGroup("products", help="Files of products.")


def _folder() -> Folder:
    return cast(Folder, current_app.extensions["transfers"])


def _format_of(path: Path) -> str:
    format = _FORMATS.get(path.suffix.lower())
    if format is None:
        raise click.ClickException(f"The name of a file ends with {', '.join(_FORMATS)}.")
    return format


@product_commands.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--policy", type=click.Choice(POLICIES), default=SKIP_BAD_ROWS, show_default=True)
@click.option("--dry-run", is_flag=True, help="Write nothing, and say what would happen.")
@with_appcontext
def import_products(file: Path, policy: str, dry_run: bool) -> None:
    """Import products from a CSV or JSON Lines file.

    Ctrl-C interrupts it; the same command goes on where it was.
    """
    provenance.actor.set("cli")
    format = _format_of(file)
    options = {"format": format, "policy": policy, "dry_run": dry_run}
    try:
        with file.open("rb") as stream, _folder().receive(stream, format) as received:
            claimed = _claimed(received, options)
    except Refusal as refusal:
        lines = [refusal.detail, *(fault.message for fault in refusal.faults)]
        raise click.ClickException("\n".join(lines)) from refusal
    if claimed.file != received.name:
        # An interrupted import of the same file: its own copy is here.
        _folder().path(received.name).unlink()
        click.echo(f"Going on after {claimed.rows_done} rows.")
    total = claimed.size * (2 if claimed.checking and not dry_run else 1)
    _work(claimed, total, lambda it: it.position + (0 if it.checking else total - it.size))
    _report_import(claimed.id)


def _claimed(received: Received, options: dict[str, Any]) -> ProductImport:
    """An import of the file, claimed by this process: an unfinished one, or a new one."""
    with _folder().path(received.name).open("rb") as file:
        check_beginning(file, options["format"])

    @transactional
    def claim() -> ProductImport | None:
        session = db.session()
        same = queries.unfinished(received.digest, options["policy"], dry_run=options["dry_run"])
        found = next((it for it in session.scalars(same) if _is_here(it)), None)
        if found is None:
            found = operations.begin_import(
                session, file=received.name, size=received.size, digest=received.digest,
                due_ms=None, **options,
            )  # fmt: skip
        return operations.claim(session, ProductImport, found.id, _CLAIM_SECONDS)

    claimed = claim()
    if claimed is None:
        raise click.ClickException("This file is being imported already, or was until just now.")
    return claimed


def _is_here(it: ProductImport) -> bool:
    return _folder().path(it.file).exists()


@product_commands.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--status", help="Only products of this status.")
@click.option("--category", type=int, help="Only products in this category and below it.")
@with_appcontext
def export_products(file: Path, status: str | None, category: int | None) -> None:
    """Export products to a CSV or JSON Lines file, which `import` takes."""
    provenance.actor.set("cli")
    format = _format_of(file)

    @transactional
    def begin() -> ProductExport | None:
        session = db.session()
        begun = operations.begin_export(
            session, file=_folder().new_name(format), format=format, product_status=status,
            category_id=category, due_ms=None,
        )  # fmt: skip
        return operations.claim(session, ProductExport, begun.id, _CLAIM_SECONDS)

    claimed = begin()
    assert claimed is not None
    _work(claimed, None, lambda it: it.rows_done)
    done = _now(ProductExport, claimed.id)
    if done.status != COMPLETED:
        raise click.ClickException(done.error or "The export was interrupted.")
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    shutil.copyfile(_folder().path(done.file), draft)
    draft.replace(file)
    click.echo(f"{done.rows_done} products.")


def _work(claimed: T, total: int | None, done: Callable[[T], int]) -> None:
    """Work on something with a progress bar, until its end or Ctrl-C."""
    with Progress() as progress, _interruptible() as stopping:
        bar = progress.add_task("products", total=total)

        def show(now: T) -> None:
            progress.update(bar, completed=done(now), total=total or now.rows_total)

        try:
            if not go_on(claimed, _folder(), _CLAIM_SECONDS, stopping, show):
                transactional(operations.release)(db.session(), claimed, wait=True)
        except Lost as lost:
            raise click.ClickException("Somebody else goes on with it, or cancelled it.") from lost


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C ends the work at the end of a piece, instead of anywhere."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = {
        number: signal.signal(number, lambda *_: stopping.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report_import(import_id: int) -> None:
    done = _now(ProductImport, import_id)
    would = " (dry run: nothing was written)" if done.dry_run else ""
    click.echo(
        f"{done.rows_done} rows: {done.created} products created, {done.updated} changed,"
        f" {done.failed} failed{would}."
    )
    for fault in db.session.scalars(queries.faults_of(import_id, 0, _SHOWN_FAULTS)):
        click.echo(f"  line {fault.line} {fault.pointer}: {fault.message}")
    if done.faults > _SHOWN_FAULTS:
        click.echo(f"  and more: GET /api/v1/products/imports/{import_id}/errors")
    if done.status != COMPLETED:
        raise click.ClickException(done.error or "Interrupted: the same command goes on with it.")


def _now(model: type[T], id_: int) -> T:
    db.session.rollback()
    return operations.find(db.session(), model, id_)
