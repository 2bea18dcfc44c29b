"""Crash points die where and when they are asked to, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from config import Config, ConfigError
from shop.crashes import POINTS, WAYS, crash_point, parse

ROOT = Path(__file__).parent.parent

PASS = """
import sys
from shop.crashes import arm, crash_point

arm(sys.argv[1])
for count in range(1, 6):
    print(count, flush=True)
    crash_point("in-job")
    crash_point("after-stamp")
"""

PASS_IN_CHILDREN = """
import os, sys
from shop.crashes import arm, crash_point

children = []
for _ in range(4):
    if (child := os.fork()) == 0:
        arm("in-job:100")
        for _ in range(50):
            crash_point("in-job")
        os._exit(0)
    children.append(child)
print(sorted(os.waitpid(child, 0)[1] for child in children))
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(("setting", "passed"), [("in-job", 1), ("in-job:1", 1), ("in-job:4", 4)])
def test_the_process_dies_at_the_pass_that_was_asked_for(setting: str, passed: int) -> None:
    done = run(PASS, setting)

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.split() == [str(number + 1) for number in range(passed)]


@pytest.mark.parametrize("setting", ["", "in-job:6", "in-migration"])
def test_nothing_dies_elsewhere(setting: str) -> None:
    done = run(PASS, setting)

    assert done.returncode == 0, done.stderr


WAYS_IN_TURN = """
from shop.crashes import Crashed, arm, crash_point

arm("in-job:2:raise,after-stamp:1:stop,in-job:1:kill")
crash_point("after-stamp")
crash_point("in-job")
try:
    crash_point("in-job")
except Crashed as error:
    print(error, flush=True)
crash_point("after-stamp")
print("thawed", flush=True)
crash_point("after-stamp")
crash_point("in-job")
print("never")
"""


def test_a_process_may_also_be_frozen_or_meet_an_exception_one_after_the_other() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAYS_IN_TURN], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        process.send_signal(signal.SIGCONT)
        out, told = process.communicate(timeout=30)

    assert process.returncode == -signal.SIGKILL
    assert out.split() == ["in-job", "thawed"]
    assert [line.partition(" of ")[0] for line in told.splitlines()] == [
        "crash point in-job: raise", "crash point after-stamp: stop", "crash point in-job: kill"
    ]  # fmt: skip


def test_workers_count_together_and_one_of_them_dies() -> None:
    done = run(PASS_IN_CHILDREN)

    assert done.stdout.strip() == f"[0, 0, 0, {signal.SIGKILL:d}]", done.stderr


def test_a_point_that_is_not_declared_is_a_mistake() -> None:
    with pytest.raises(LookupError, match="no-such-point"):
        crash_point("no-such-point")


@pytest.mark.parametrize(
    "setting",
    [
        "canary",
        "in-job:0",
        "in-job:",
        "in-job:x",
        "in-job:-1",
        ":1",
        "in_job",
        "in-job ",
        "in-job:1:freeze",
        "in-job:kill:1",
        "in-job,",
        "in-job,canary",
    ],
)
def test_what_names_no_point_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="no crash point"):
        parse(setting)


@pytest.mark.parametrize("env", ["development", "production"])
def test_only_a_shop_under_test_dies_on_request(monkeypatch: pytest.MonkeyPatch, env: str) -> None:
    monkeypatch.setenv("SHOP_ENV", env)
    monkeypatch.setenv("SHOP_CRASH_AT", "in-job")

    with pytest.raises(ConfigError, match="SHOP_CRASH_AT: is only for SHOP_ENV=testing"):
        Config.from_env()


def test_every_point_is_listed_with_its_moment(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["shop", "crash-points"])

    assert result.exit_code == 0
    for name, moment in (*POINTS.items(), *WAYS.items()):
        assert name in result.output
        assert moment in result.output
        assert moment.endswith(".")
