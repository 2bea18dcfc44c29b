"""Four workers share one plan: each planned time runs exactly once, whoever is killed meanwhile."""

from __future__ import annotations

import random
import secrets
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc, text

from shop.jobs.slots import slot_name, slot_time
from tests.chaos.history import connected, tell, wait_until
from tests.running import RunningShop
from tests.servers import MariaDB

TICKING = "tests.chaos.wsgi_ticking:app"
LEASE_SECONDS = 2
JOBS = ("tick", "tock")

pytestmark = pytest.mark.xdist_group("chaos")


@dataclass(frozen=True, slots=True)
class Case:
    """Which engine, for how long, and whether workers are killed."""

    engine: str
    seconds: float
    kills: bool


_FULL = [pytest.mark.full, pytest.mark.timeout(600)]
CASES = [
    pytest.param(Case("sqlite", 10, kills=False), id="sqlite-quick"),
    pytest.param(Case("mariadb", 10, kills=True), id="mariadb-kills-quick"),
    pytest.param(Case("sqlite", 120, kills=False), id="sqlite-full", marks=_FULL),
    pytest.param(Case("sqlite", 120, kills=True), id="sqlite-kills-full", marks=_FULL),
    pytest.param(Case("mariadb", 120, kills=False), id="mariadb-full", marks=_FULL),
    pytest.param(Case("mariadb", 120, kills=True), id="mariadb-kills-full", marks=_FULL),
]


@pytest.mark.parametrize("case", CASES)
def test_four_workers_run_each_planned_time_exactly_once_even_when_some_are_killed(
    case: Case, tmp_path: Path, request: Any
) -> None:
    seed = secrets.randbits(32)
    tell(f"seed {seed}")
    url = _database(case.engine, tmp_path, request, seed)
    # Long enough to be killed in, and short enough for SQLite, where jobs work one at a time.
    work_seconds = {"mariadb": 0.5, "sqlite": 0.1}[case.engine] if case.kills else 0
    with _ticking_shop(tmp_path / "shop", url, work_seconds=work_seconds) as shop:
        kills = _let_it_tick(shop, url, case, random.Random(seed))
        # A killed worker's run is taken over when it has been silent for two leases.
        last = _wait_for_an_idle_moment(url, 4 * LEASE_SECONDS + 20)
    for job in JOBS:
        slots = _check_slots(url, job, last)
        assert len(slots) >= case.seconds - 2, f"only {len(slots)} slots in {case.seconds} s"
    tell(f"{case.engine}: {len(slots)} slots of each job, {kills} killed workers")
    tell(f"{_retried(url)} runs were taken over")


def _database(engine: str, folder: Path, request: Any, seed: int) -> str:
    if engine == "sqlite":
        return f"sqlite:///{folder / 'shop.db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.create_database(f"slots{seed}")


def _ticking_shop(
    folder: Path, url: str, *, workers: int = 4, claim_seconds: float = 0, work_seconds: float = 0
) -> RunningShop:
    """A migrated shop with the table that its extra job writes to."""
    shop = RunningShop(
        folder,
        url,
        None,
        workers=workers,
        wsgi=TICKING,
        sinks="none",
        lease_seconds=LEASE_SECONDS,
        ticking_claim_seconds=claim_seconds,
        ticking_work_seconds=work_seconds,
    )
    folder.mkdir()
    shop.prepare()
    with connected(url) as connection, connection.begin():
        connection.execute(text("CREATE TABLE ticks (job VARCHAR(9), slot VARCHAR(20))"))
    return shop


def _let_it_tick(shop: RunningShop, url: str, case: Case, chance: random.Random) -> int:
    """Wait, and kill a worker now and then; answers how many were killed."""
    kills, ending = 0, time.monotonic() + case.seconds
    while (left := ending - time.monotonic()) > 0:
        time.sleep(min(left, chance.uniform(2, 3)))
        if case.kills:
            # A run takes a part of its second; a blind choice would seldom meet one.
            owner = _owner_of_the_newest_run(url) if chance.random() < 0.7 else None
            kills += shop.kill_worker(chance, owner) is not None
    return kills


def _owner_of_the_newest_run(url: str) -> int | None:
    """The process that works on the newest slot, if one does."""
    question = text("SELECT owner FROM job_runs WHERE status = 'running' ORDER BY slot DESC")
    with connected(url) as connection:
        owner = connection.execute(question).scalars().first()
    return None if owner is None else int(owner.split(":")[1])


def _wait_for_an_idle_moment(url: str, seconds: float) -> str:
    """Wait until whatever was planned up to now has ended; answers the last such slot."""
    # The last slot that both jobs have reached.
    moment = text(
        "SELECT MIN(slot) FROM (SELECT MAX(slot) AS slot FROM job_runs"
        " WHERE job IN ('tick', 'tock') GROUP BY job) AS reached"
    )
    with connected(url) as connection:
        last: str = connection.execute(moment).scalar_one()
    question = text("SELECT COUNT(*) FROM job_runs WHERE status = 'running' AND slot <= :last")

    def have_ended() -> bool:
        with connected(url) as connection:
            return bool(connection.execute(question, {"last": last}).scalar_one() == 0)

    wait_until("no run is left running", have_ended, seconds)
    return last


def _check_slots(url: str, job: str, last_slot: str) -> list[str]:
    """Every second has one run that is done, and one effect; answers the slots."""
    which = {"job": job, "last": last_slot}
    condition = "WHERE job = :job AND slot <= :last"
    with connected(url) as connection:
        runs = connection.execute(
            text(f"SELECT slot, status, attempts, error FROM job_runs {condition}"), which
        ).all()
        done = connection.execute(text(f"SELECT slot FROM ticks {condition}"), which)
        effects = Counter(done.scalars())
    not_done = [tuple(run) for run in runs if run.status != "done"]
    assert not not_done, f"not done: {not_done}"
    slots = sorted(run.slot for run in runs)
    first, last = slot_time(slots[0]), slot_time(slots[-1])
    seconds = int((last - first).total_seconds()) + 1
    planned = [slot_name(first + timedelta(seconds=n)) for n in range(seconds)]
    assert slots == planned, f"missing: {sorted(set(planned) - set(slots))}"
    assert effects == Counter(planned), f"differ: {effects - Counter(planned)}"
    return slots


def _retried(url: str) -> int:
    question = text("SELECT COUNT(*) FROM job_runs WHERE attempts > 1")
    with connected(url) as connection:
        return int(connection.execute(question).scalar_one())


def test_all_that_is_due_after_a_restart_runs_although_it_is_due_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with _ticking_shop(tmp_path / "shop", url, workers=1, work_seconds=0.2) as shop:
        time.sleep(3)
        shop.kill()
        time.sleep(2)
        shop.start()
        time.sleep(3)
        last = _wait_for_an_idle_moment(url, 4 * LEASE_SECONDS + 20)
        for job in JOBS:
            _check_slots(url, job, last)


@pytest.mark.parametrize("moment", [2.0, 2.4, 2.8])
def test_a_worker_that_is_about_to_claim_a_slot_still_ends_in_good_order(
    moment: float, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with _ticking_shop(tmp_path / "shop", url, workers=1, claim_seconds=0.4) as shop:
        time.sleep(moment)
        asked = time.monotonic()
        shop.send(signal.SIGTERM)
        assert shop.wait(15) == 0, f"it still runs after 15 s; its log ends:\n{shop.log_tail()}"
        running = text("SELECT job, slot FROM job_runs WHERE status = 'running'")
        with connected(url) as connection:
            left = connection.execute(running).all()
        assert not left, f"claimed, and then neither done nor handed back: {left}"
    tell(f"ended in {time.monotonic() - asked:.1f} s")


def test_a_run_whose_database_connection_breaks_is_run_again(
    mariadb: MariaDB, tmp_path: Path
) -> None:
    url = mariadb.create_database(f"cut{secrets.randbits(32)}")
    with _ticking_shop(tmp_path / "shop", url, workers=2, work_seconds=0.3):
        cut = sum(_cut_off_transactions(url) for _ in range(4))
        # The cut runs are among those whose end is waited for.
        time.sleep(1)
        last = _wait_for_an_idle_moment(url, 4 * LEASE_SECONDS + 20)
        for job in JOBS:
            _check_slots(url, job, last)
    tell(f"{cut} connections cut, {_retried(url)} runs were taken over")
    assert cut > 0


def _cut_off_transactions(url: str) -> int:
    """End the connections that are in a transaction, as an operator or a proxy may."""
    busy = text(
        "SELECT p.id FROM information_schema.innodb_trx t"
        " JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
        " WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID()"
    )
    cut, deadline = 0, time.monotonic() + 5
    while cut == 0 and time.monotonic() < deadline:
        time.sleep(0.12)
        with connected(url) as connection:
            for number in connection.execute(busy).scalars().all():
                # It may have ended by itself meanwhile.
                with suppress(exc.OperationalError):
                    connection.execute(text(f"KILL {number}"))
                    cut += 1
    return cut
