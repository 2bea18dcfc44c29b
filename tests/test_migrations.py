"""Migrations: the models and the schema agree, up and down, on filled tables, after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import Engine, Table, exc, func, insert, inspect, select, text

from config import Config
from migrations.steps import is_ours
from shop import create_app
from shop.audit.models import AuditHead
from shop.db import Base, writing
from shop.jobs.models import JobRun
from shop.serving import why_not_serve
from tests import factories
from tests.servers import MariaDB

ROOT = Path(__file__).parent.parent
FOLDER = str(ROOT / "migrations")


@pytest.fixture
def own(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Flask:
    """A shop over a database of this test's own, not migrated yet."""
    url = ""
    if engine_name == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        name = f"migrations_{tmp_path.name}"[:60].replace("[", "_").replace("]", "_")
        server.drop_database(name)
        url = server.create_database(name)
    return create_app(Config(env="testing", var=tmp_path, database_url=url, sinks=()))


def engine_of(app: Flask) -> Engine:
    engine: Engine = app.extensions["shop"].engine
    return engine


def upgrade(app: Flask) -> None:
    with app.app_context():
        flask_migrate.upgrade(directory=FOLDER)


def downgrade(app: Flask) -> None:
    with app.app_context():
        flask_migrate.downgrade(directory=FOLDER, revision="base")


def counts(app: Flask) -> dict[str, int]:
    with engine_of(app).connect() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in Base.metadata.sorted_tables
        }


def fill(app: Flask, products: int) -> None:
    runner = app.test_cli_runner()
    result = runner.invoke(args=["shop", "demo", "--products", str(products), "--users", "50"])
    assert result.exit_code == 0, result.output


def test_models_and_schema_agree(app: Flask, engine: Engine) -> None:
    with engine.connect() as connection:
        compared = {"compare_type": True, "compare_server_default": True, "include_object": is_ours}
        context = MigrationContext.configure(connection, opts=compared)
        differences = compare_metadata(context, Base.metadata)

    assert differences == []


def test_there_is_one_head_and_one_base() -> None:
    scripts = ScriptDirectory(FOLDER)

    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1


def test_up_down_and_up_again_on_filled_tables(own: Flask) -> None:
    upgrade(own)
    fill(own, products=1000)
    filled = counts(own)
    assert filled["products"] == 1000
    assert filled["audit_log"] == sum(
        filled[name] for name in ("users", "categories", "products", "variants", "stock_levels")
    )

    upgrade(own)
    assert counts(own) == filled, "an upgrade at head changes nothing"

    downgrade(own)
    left = set(inspect(engine_of(own)).get_table_names()) - {"sqlite_sequence"}
    assert left == {"alembic_version"}

    upgrade(own)
    assert set(counts(own).values()) == {0, 1}
    fill(own, products=50)
    assert counts(own)["products"] == 50


def test_a_half_done_upgrade_is_finished_by_the_next_one(own: Flask) -> None:
    """MariaDB commits each statement of DDL by itself, so any prefix may be what is there."""
    upgrade(own)
    whole = schema(own)
    newest_first = Base.metadata.sorted_tables[::-1]
    for count in range(1, len(newest_first) + 1):
        with writing(engine_of(own)) as connection:
            connection.execute(text("DELETE FROM alembic_version"))
        for table in newest_first[:count]:
            table.drop(engine_of(own))
        upgrade(own)
        assert schema(own) == whole, f"without {count} tables"
    with engine_of(own).connect() as connection:
        assert connection.execute(select(AuditHead.position)).scalars().all() == [0]


def schema(app: Flask) -> dict[str, set[str]]:
    found = inspect(engine_of(app))
    return {
        name: {column["name"] for column in found.get_columns(name)}
        | {str(index["name"]) for index in found.get_indexes(name)}
        for name in found.get_table_names()
        if name != "sqlite_sequence"
    }


def test_what_variants_cost_already_begins_their_history(own: Flask) -> None:
    upgrade(own)
    fill(own, products=50)
    before = history(own)
    with own.app_context():
        flask_migrate.downgrade(directory=FOLDER, revision="0004")
    assert "price_changes" not in inspect(engine_of(own)).get_table_names()

    upgrade(own)

    assert history(own) == before
    assert len(before) == counts(own)["variants"]
    shown = own.test_client().get("/api/v1/products?limit=1").get_json()["items"][0]
    assert (shown["metadata"], shown["variants"][0]["metadata"]) == ({}, {})


def test_values_of_attributes_take_over_state_and_price(own: Flask) -> None:
    upgrade(own)
    fill(own, products=50)
    before = rows_of(own, "listed_values")
    assert len(before) > 50
    with own.app_context():
        flask_migrate.downgrade(directory=FOLDER, revision="0011")
    assert [row[:2] + row[4:] for row in before] == rows_of(own, "listed_attributes")

    upgrade(own)

    assert rows_of(own, "listed_values") == before
    assert "listed_attributes" not in inspect(engine_of(own)).get_table_names()


def rows_of(app: Flask, table: str) -> list[tuple[object, ...]]:
    with engine_of(app).connect() as connection:
        rows = connection.execute(text(f"SELECT * FROM {table} ORDER BY product_id, code, value"))
        return [tuple(row) for row in rows]


def test_runs_of_jobs_outlive_a_way_back_but_for_those_that_never_began(own: Flask) -> None:
    upgrade(own)
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    same = {"job": "publish", "attempts": 1, "owner": "x", "heartbeat_ms": 0, "started_at": now}
    runs = [
        same | {"slot": f"2026-11-22T12:0{number}:00Z", "status": status}
        for number, status in enumerate(("done", "failed", "running"))
    ]
    never = {"slot": "2026-11-22T12:09:00Z", "status": "skipped", "started_at": None}
    with writing(engine_of(own)) as connection:
        connection.execute(insert(JobRun), [*runs, same | never])

    with own.app_context():
        flask_migrate.downgrade(directory=FOLDER, revision="0011")
    assert runs_of(own) == [("done", now), ("failed", now), ("running", now)]
    with pytest.raises(exc.DBAPIError), writing(engine_of(own)) as connection:
        connection.execute(text("UPDATE job_runs SET status = 'skipped'"))

    upgrade(own)
    assert runs_of(own) == [("done", now), ("failed", now), ("running", now)]
    with writing(engine_of(own)) as connection:
        connection.execute(text("UPDATE job_runs SET status = 'skipped', started_at = NULL"))


def runs_of(app: Flask) -> list[tuple[object, ...]]:
    with engine_of(app).connect() as connection:
        found = connection.execute(select(JobRun.status, JobRun.started_at).order_by(JobRun.slot))
        return [tuple(row) for row in found]


def history(app: Flask) -> list[tuple[object, ...]]:
    columns = "variant_id, price_amount, currency"
    with engine_of(app).connect() as connection:
        rows = connection.execute(text(f"SELECT {columns} FROM price_changes ORDER BY variant_id"))
        return [tuple(row) for row in rows]


def test_what_was_there_before_notifications_is_told_to_nobody(own: Flask) -> None:
    upgrade(own)
    fill(own, products=20)
    with own.app_context():
        flask_migrate.downgrade(directory=FOLDER, revision="0011")
    factories.create_user(own)
    upgrade(own)

    # None of it has its position yet.
    entries = counts(own)["audit_log"]
    with engine_of(own).connect() as connection:
        rows = connection.execute(text("SELECT name, position, began_behind FROM audit_readers"))
        assert [tuple(row) for row in rows] == [("notifications", entries, entries)]


UPGRADE_AND_DIE = """
import os, signal, sys
import flask_migrate
from sqlalchemy import event
from shop import create_app

app, left = create_app(), [int(sys.argv[1])]

@event.listens_for(app.extensions["shop"].engine, "after_cursor_execute")
def die(_connection, _cursor, statement, *_rest):
    left[0] -= statement.strip().startswith(("CREATE", "INSERT"))
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

with app.app_context():
    flask_migrate.upgrade(directory="migrations")
"""


@pytest.mark.parametrize("statements", [2, 6, 12])
def test_a_killed_upgrade_can_be_run_again(own: Flask, statements: int) -> None:
    config: Config = own.extensions["shop"].config
    environment = {
        "SHOP_ENV": "testing", "SHOP_VAR": str(config.var), "SHOP_DATABASE_URL": config.database,
    }  # fmt: skip
    died = subprocess.run(
        [sys.executable, "-c", UPGRADE_AND_DIE, str(statements)],
        cwd=ROOT, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-500:]

    upgrade(own)

    assert set(counts(own).values()) == {0, 1}
    factories.create_user(own)


def test_ids_are_never_used_again(own: Flask) -> None:
    upgrade(own)
    first = factories.create_user(own).id
    with writing(engine_of(own)) as connection:
        connection.execute(text("DELETE FROM audit_log"))
        connection.execute(text("DELETE FROM users"))

    assert factories.create_user(own).id > first


@pytest.mark.parametrize("engine_name", ["mariadb"])
def test_every_text_column_is_utf8mb4_and_compares_exactly(app: Flask, engine: Engine) -> None:
    columns = text(
        "SELECT table_name, column_name, character_set_name, collation_name"
        " FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND character_set_name IS NOT NULL"
        " AND table_name <> 'alembic_version'"
    )
    with engine.connect() as connection:
        found = connection.execute(columns).all()

    assert len(found) > 20
    assert {(row[2], row[3]) for row in found} == {("utf8mb4", "utf8mb4_bin")}


def test_tables_are_made_with_the_options_of_the_models(app: Flask) -> None:
    tables: list[Table] = list(Base.metadata.sorted_tables)

    assert all(table.kwargs["mysql_collate"] == "utf8mb4_bin" for table in tables)
    assert all(table.kwargs["sqlite_autoincrement"] is True for table in tables)


def test_a_database_that_is_not_migrated_is_not_served(own: Flask) -> None:
    url = own.extensions["shop"].config.database

    before = why_not_serve(url, Path(FOLDER))
    upgrade(own)

    assert before is not None
    assert "flask db upgrade" in before
    assert why_not_serve(url, Path(FOLDER)) is None
