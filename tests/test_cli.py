"""The command line looks after the shop, and says clearly what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditSink
from tests import factories
from tests.conftest import create_shop
from tests.servers import Mosquitto, free_port

ROOT = Path(__file__).parent.parent


def flask(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a `flask` command in a process of its own over these settings."""
    given = {f"SHOP_{name.upper()}": value for name, value in settings.items()}
    environment = {"PATH": os.environ["PATH"], "SHOP_VAR": str(folder)} | given
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_check_names_the_database_that_does_not_answer_in_one_line(tmp_path: Path) -> None:
    url = f"mysql://root:canary@127.0.0.1:{free_port()}/shop"

    result = flask(tmp_path, "shop", "check", database_url=url)

    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "does not answer" in line
    assert "canary" not in result.stderr + result.stdout


def test_check_shows_each_dependency_with_its_latency(tmp_path: Path, mosquitto: Mosquitto) -> None:
    create_shop(tmp_path)

    result = flask(tmp_path, "shop", "check", mqtt_url=mosquitto.url)

    assert result.returncode == 0, result.stderr
    database, mqtt = result.stdout.strip().splitlines()
    assert "shop.db" in database
    assert str(mosquitto.port) in mqtt
    assert " up " in database
    assert " up " in mqtt


def test_check_fails_when_the_broker_is_away(tmp_path: Path) -> None:
    create_shop(tmp_path)

    result = flask(tmp_path, "shop", "check", mqtt_url=f"mqtt://127.0.0.1:{free_port()}")

    assert result.returncode == 1
    assert "Not reachable: mqtt" in result.stderr


def test_settings_lists_every_setting(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["shop", "settings"])

    assert result.exit_code == 0
    for name in ("SHOP_DATABASE_URL", "SHOP_TIMEZONE", "SHOP_LEASE_SECONDS"):
        assert name in result.output


def test_the_drain_of_the_command_line_shows_what_it_publishes(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    app = create_shop(tmp_path)
    users = [factories.create_user(app) for _ in range(3)]

    result = flask(tmp_path, "audit", "drain", "--once", mqtt_url=mosquitto.url)

    assert result.returncode == 0, result.stderr
    assert "database.checked" in result.stderr
    assert result.stderr.count("event.published") == len(users)
    with Session(app.extensions["shop"].engine) as session:
        assert session.scalars(select(AuditSink.position)).all() == [3]


def test_the_drain_of_the_command_line_ends_when_the_database_is_away(tmp_path: Path) -> None:
    url = f"mysql://root@127.0.0.1:{free_port()}/shop"

    result = flask(tmp_path, "audit", "drain", database_url=url)

    assert result.returncode == 1
    assert "does not answer" in result.stderr


def test_jobs_are_listed_run_and_remembered(app: Flask) -> None:
    runner = app.test_cli_runner()

    listed = runner.invoke(args=["jobs", "list"])
    ran = runner.invoke(args=["jobs", "run", "reconcile"])
    remembered = runner.invoke(args=["jobs", "history", "reconcile"])

    assert "daily at 14:00 UTC" in listed.output
    assert "every 20 min" in listed.output
    assert ran.exit_code == 0, ran.output
    assert "done" in ran.output
    assert "reconcile" in remembered.output


def test_an_unknown_job_is_named_with_those_that_there_are(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["jobs", "run", "nothing"])

    assert result.exit_code == 1
    assert "digest, reconcile" in result.output


@pytest.mark.parametrize("group", ["shop", "audit", "jobs", "db"])
def test_every_group_of_commands_helps(app: Flask, group: str) -> None:
    result = app.test_cli_runner().invoke(args=[group, "--help"])

    assert result.exit_code == 0
    assert "Commands:" in result.output
