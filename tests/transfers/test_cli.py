"""`flask products import` and `flask products export`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from config import Config
from shop.audit.models import AuditEntry
from tests import factories
from tests.transfers.checks import CSV, EXPORTS, Headers, cells, counts, csv_file, json_lines

ROOT = Path(__file__).parent.parent.parent


def flask(app: Flask, *arguments: str) -> tuple[int, str]:
    """Run a command; its exit code and what it says."""
    result = app.test_cli_runner().invoke(args=["products", *arguments])
    return result.exit_code, result.output


def test_a_file_is_imported(app: Flask, tmp_path: Path, session: Session, engine: Engine) -> None:
    path = tmp_path / "catalogue.csv"
    path.write_bytes(csv_file(cells("oak", "OAK"), cells("elm", "ELM", stock="x")))

    code, said = flask(app, "import", str(path))

    assert code == 0, said
    assert "2 rows: 1 products created, 0 changed, 1 failed." in said
    assert "line 3 /stock: Not a whole number." in said
    assert counts(engine)["products"] == 1
    actors = session.scalars(select(AuditEntry.actor).where(AuditEntry.table_name == "products"))
    assert actors.all() == ["cli"]


def test_a_dry_run_writes_nothing(app: Flask, tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "catalogue.jsonl"
    path.write_bytes(json_lines(factories.product_body()))

    code, said = flask(app, "import", str(path), "--dry-run")

    assert code == 0
    assert "1 products created" in said
    assert "nothing was written" in said
    assert counts(engine)["products"] == 0


@pytest.mark.parametrize("name", ["catalogue.txt", "wrong.csv"])
def test_what_is_no_file_of_products_is_refused(app: Flask, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("name,price\nOak,5\n")

    code, said = flask(app, "import", str(path))

    assert code == 1
    assert ("ends with" if name.endswith("txt") else "There is no column 'price'.") in said


def test_an_export_can_be_imported(
    app: Flask, client: FlaskClient, staff: Headers, tmp_path: Path
) -> None:
    factories.create_product(client, staff, slug="oak")
    path = tmp_path / "catalogue.csv"

    code, said = flask(app, "export", str(path), "--status", "active")
    again, repeated = flask(app, "import", str(path), "--dry-run")

    assert (code, said.splitlines()[-1]) == (0, "1 products.")
    assert path.read_bytes().startswith(b"slug,name,")
    assert again == 0
    assert "1 failed (dry run: nothing was written)" in repeated
    assert "line 2 /sku: One of the SKUs is taken." in repeated


def test_a_command_that_is_interrupted_goes_on_where_it_was(
    app: Flask, tmp_path: Path, engine: Engine
) -> None:
    """Ctrl-C, and the same command again."""
    path = tmp_path / "catalogue.jsonl"
    path.write_bytes(json_lines(*[factories.product_body() for _ in range(4000)]))
    config: Config = app.extensions["shop"].config
    environment = dict(os.environ) | {
        "SHOP_VAR": str(config.var), "SHOP_DATABASE_URL": config.database, "SHOP_SINKS": "none",
    }  # fmt: skip
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "products", "import", str(path)]
    running = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    while not counts(engine)["products"] and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)

    assert running.returncode == 1, said
    assert "the same command goes on" in said
    there = counts(engine)["products"]
    assert 0 < there < 4000
    code, said = flask(app, "import", str(path))
    assert code == 0, said
    assert f"Going on after {there} rows." in said
    assert "4000 products created, 0 changed, 0 failed" in said
    assert counts(engine) == {
        "products": 4000, "variants": 4000, "stock_levels": 4000, "stock_movements": 4000,
        "audit_log": 12_000,
    }  # fmt: skip


def test_what_a_command_began_is_seen_over_http(
    app: Flask, client: FlaskClient, staff: Headers, tmp_path: Path
) -> None:
    flask(app, "export", str(tmp_path / "catalogue.csv"))

    (shown,) = client.get(EXPORTS, headers=staff).get_json()["items"]

    assert (shown["status"], shown["created_by"]) == ("completed", "cli")
    file = client.get(f"{EXPORTS}/{shown['id']}/file", headers=staff, buffered=True)
    assert file.content_type.startswith(CSV)
