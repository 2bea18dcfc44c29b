"""Alembic's environment: the app's engine and metadata, one transaction a revision.

MariaDB and MySQL commit each DDL statement by itself, so a killed upgrade leaves a part of a
revision behind. Revisions therefore make only what is not there yet (see `steps`).
"""

from __future__ import annotations

from alembic import context
from flask import current_app

from migrations.steps import is_ours
from shop.db import Base

engine = current_app.extensions["shop"].engine


def run_migrations() -> None:
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=is_ours,
            compare_type=True,
            compare_server_default=True,
            render_as_batch=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("Migrations look at what is there: they need a database (no --sql).")
run_migrations()
