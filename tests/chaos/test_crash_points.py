"""Whoever dies at a crash point, request, job or migration, loses and doubles nothing."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from shop.crashes import POINTS
from tests import factories
from tests.chaos.history import connected, tell, wait_until
from tests.chaos.test_kill_matrix import ON_THE_WAY
from tests.notifications.test_kills import READING
from tests.orders.test_crashes import PAYING, PLACING, REFUNDING
from tests.running import CUT_OFF, ROOT, RunningShop
from tests.servers import MariaDB

LEASE_SECONDS = 2
PRODUCTS = "/api/v1/products"

#: Every pass of a point while a request with a key is worked on: the claim commits, then the work.
IN_REQUEST = (
    "before-commit:1", "after-commit:1", "idempotency-claimed:1", "before-answer-kept:1",
    "before-commit:2", "after-commit:2",
)  # fmt: skip

#: Each point takes a start of the server, and most of what is tried is the same on both engines.
BOTH_WHEN_FULL = pytest.mark.parametrize(
    "database_url", ["mariadb", pytest.param("sqlite", marks=pytest.mark.full)], indirect=True
)

pytestmark = pytest.mark.xdist_group("chaos")


def test_every_crash_point_is_tried_by_a_test() -> None:
    tried = {point.partition(":")[0] for point in IN_REQUEST} | set(ON_THE_WAY)

    tried |= {point.partition(":")[0] for point in (*PLACING, *PAYING, *REFUNDING, *READING)}
    assert tried | {"in-job", "in-migration"} == set(POINTS)


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.create_database(f"crashes{secrets.randbits(32)}")


@contextmanager
def dying_at(shop: RunningShop, point: str) -> Iterator[set[int]]:
    """A running shop one of whose workers dies there; the ids of the workers before."""
    shop.change(crash_at=point)
    shop.start()
    try:
        yield set(shop.worker_pids())
    finally:
        shop.stop()
        shop.change(crash_at="")


def send_until_final(shop: RunningShop, body: dict[str, Any], key: str) -> requests.Response:
    """What a patient client gets in the end, who always sends the same key."""
    headers = {"Authorization": f"Bearer {shop.admin_token()}", "Idempotency-Key": key}
    started = time.monotonic()
    while time.monotonic() - started < LEASE_SECONDS + 5:
        try:
            answer = requests.post(f"{shop.url}{PRODUCTS}", json=body, headers=headers, timeout=10)
        except CUT_OFF:
            time.sleep(0.1)
            continue
        if answer.status_code not in (409, 503):
            return answer
        assert answer.headers["Retry-After"]
        time.sleep(0.2)
    raise AssertionError(f"no final answer within the lease and 5 s: {key}")


@BOTH_WHEN_FULL
@pytest.mark.timeout(400)
def test_a_request_whose_worker_dies_anywhere_has_one_effect_and_one_answer(
    database_url: str, tmp_path: Path
) -> None:
    """BL-18, G5."""
    shop = RunningShop(
        tmp_path / "shop", database_url, None, env="testing", scheduler="off", sinks="none",
        idempotency_lease_seconds=LEASE_SECONDS,
    )  # fmt: skip
    with shop:
        shop.admin_token()
    for number, point in enumerate(IN_REQUEST, 1):
        body = factories.product_body(variants=[factories.variant_body(sku=f"CRASH-{number}")])
        with dying_at(shop, point) as workers:
            started = time.monotonic()
            answer = send_until_final(shop, body, f"key {number}")
            seconds = time.monotonic() - started
            wait_until("a worker has died", lambda: not workers <= set(shop.worker_pids()), 5)
            again = send_until_final(shop, body, f"key {number}")

        assert (answer.status_code, again.status_code) == (201, 201), point
        assert again.content == answer.content
        assert again.headers["Idempotency-Replayed"] == "true"
        # Only the last point is behind the commit of the work.
        assert ("Idempotency-Replayed" in answer.headers) == (point == "after-commit:2")
        tell(f"{point}: final after {seconds:.1f} s")
        assert counted(database_url) == {
            "products": number, "variants": number, "stock_levels": number,
            "stock_movements": number, "idempotency_keys": number, "entries": 3 * number,
        }  # fmt: skip


def counted(database_url: str) -> dict[str, int]:
    """How many rows there are of what a new product consists of."""
    tables = ("products", "variants", "stock_levels", "stock_movements", "idempotency_keys")
    entries = "SELECT COUNT(*) FROM audit_log WHERE table_name <> 'users'"
    questions = {name: f"SELECT COUNT(*) FROM {name}" for name in tables} | {"entries": entries}
    with connected(database_url) as connection:
        return {
            name: connection.execute(text(question)).scalar_one()
            for name, question in questions.items()
        }


def flask(shop: RunningShop, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command over the same settings and some more."""
    more = {f"SHOP_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *arguments],
        cwd=ROOT, env=shop.environment | more, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_job_that_dies_before_it_is_recorded_has_its_effect_once(
    database_url: str, tmp_path: Path
) -> None:
    """SC-05."""
    shop = RunningShop(
        tmp_path / "shop", database_url, None, env="testing", sinks="none", lease_seconds=2
    )
    flask(shop, "db", "upgrade")
    with connected(database_url) as connection, connection.begin():
        connection.execute(
            text("INSERT INTO rate_counters (name, count, ends_ms) VALUES ('over', 1, 0)")
        )

    died = flask(shop, "jobs", "run", "forget", crash_at="in-job")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert expired_counters(database_url) == 1, "what was not recorded did not happen"
    # A lease long the dead one might be alive.
    time.sleep(2.5)
    done = flask(shop, "jobs", "run", "forget")

    assert done.returncode == 0, done.stderr
    assert expired_counters(database_url) == 0


def expired_counters(database_url: str) -> int:
    with connected(database_url) as connection:
        count: int = connection.execute(text("SELECT COUNT(*) FROM rate_counters")).scalar_one()
        return count


def test_an_upgrade_that_dies_after_any_step_can_be_run_again(
    database_url: str, tmp_path: Path
) -> None:
    shop = RunningShop(tmp_path / "shop", database_url, None, env="testing", sinks="none")
    deaths = 0
    # Each attempt dies a few steps further on: what is done already is passed again.
    for step in range(3, 200, 25):
        upgraded = flask(shop, "db", "upgrade", crash_at=f"in-migration:{step}")
        if upgraded.returncode == 0:
            break
        assert upgraded.returncode == -signal.SIGKILL, upgraded.stderr
        deaths += 1

    assert deaths > 1
    assert flask(shop, "db", "upgrade").returncode == 0
    assert counted(database_url)["products"] == 0
