"""Imports and exports that are over are forgotten, with their files."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from shop import clock
from shop.db import db, transactional, writing
from shop.transfers import operations
from shop.transfers.jobs import forget_transfers
from shop.transfers.models import ImportFault, ProductExport, ProductImport
from tests.transfers.checks import EXPORTS, Headers, exported, imported, json_lines, send


def forget(app: Flask, days: int) -> None:
    @transactional
    def run() -> None:
        forget_transfers(db.session(), clock.now(), app.extensions["transfers"], days)

    with app.app_context():
        run()


def age(engine: Engine, days: int) -> None:
    """Make all there is begin so many days ago."""
    with writing(engine) as connection:
        for model in (ProductImport, ProductExport):
            then = clock.now() - timedelta(days=days)
            connection.execute(update(model).values(created_at=then))


def files(app: Flask) -> set[Path]:
    return set(app.extensions["transfers"].path("").iterdir())


def left(session: Session) -> tuple[int, ...]:
    session.rollback()
    models = (ProductImport, ProductExport, ImportFault)
    return tuple(session.scalar(select(func.count()).select_from(it)) or 0 for it in models)


def test_old_ones_go_and_then_their_files(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine, session: Session
) -> None:
    others = files(app) if app.extensions["transfers"].path("").exists() else set()
    imported(app, client, staff, json_lines({}, {}))
    exported(app, client, staff, format="csv")
    mine = files(app) - others
    for path in mine:
        os.utime(path, (time.time() - 7200,) * 2)
    age(engine, days=5)

    forget(app, days=6)
    assert left(session)[:2] == (1, 1)
    assert mine <= files(app)

    forget(app, days=4)
    assert left(session) == (0, 0, 0)
    forget(app, days=4)
    assert not mine & files(app)


def test_what_somebody_works_on_stays(
    app: Flask, client: FlaskClient, staff: Headers, engine: Engine, session: Session
) -> None:
    begun = send(client, staff, json_lines({}))
    with app.app_context():
        transactional(operations.claim)(db.session(), ProductImport, begun["id"], 60.0)
    age(engine, days=50)

    forget(app, days=4)

    assert left(session)[0] == 1


def test_a_file_that_is_just_coming_in_stays(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    exported(app, client, staff, format="csv")
    new = app.extensions["transfers"].path("0" * 32 + ".csv")
    new.write_bytes(b"not all of it yet")

    forget(app, days=4)

    assert new.exists()
    new.unlink()
    assert client.get(EXPORTS, headers=staff).get_json()["items"]
