"""Jobs at the command line."""

from __future__ import annotations

from flask import Flask
from sqlalchemy.orm import Session

from shop import clock
from shop.jobs import operations
from shop.jobs.slots import slot_name
from tests.jobs.running import runs


def flask(app: Flask, *arguments: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["jobs", *arguments])
    return result.exit_code, result.output


def test_a_job_is_switched_off_and_on_and_the_list_says_so(app: Flask, session: Session) -> None:
    assert flask(app, "disable", "publish") == (0, "publish: disabled\n")
    listed = {line.split()[0]: line for line in flask(app, "list")[1].splitlines()}
    assert listed["publish"].endswith("disabled")
    assert not listed["prune"].endswith("disabled")

    assert flask(app, "enable", "publish") == (0, "publish: enabled\n")
    assert "disabled" not in flask(app, "list")[1]


def test_a_run_by_hand_says_who_ordered_it(app: Flask, session: Session) -> None:
    code, output = flask(app, "run", "reconcile")

    assert (code, output[-5:]) == (0, "done\n")
    assert [run.ordered_by for run in runs(session)] == ["cli"]


def test_a_job_that_runs_is_not_run_beside_itself(app: Flask, session: Session) -> None:
    operations.claim(session, "publish", slot_name(clock.now()), "somebody")
    session.commit()

    code, output = flask(app, "run", "publish")

    assert code == 1
    assert "under way" in output


def test_an_unknown_job_is_named_by_every_command(app: Flask) -> None:
    for command in ("run", "enable", "disable", "history"):
        code, output = flask(app, command, "nothing")
        assert code == 1
        assert "publish" in output, "those that there are"
