"""Two servers share one plan: each planned time runs exactly once, whoever is killed meanwhile."""

from __future__ import annotations

import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from sqlalchemy import exc, text

from shop.jobs.slots import slot_name, slot_time
from tests.chaos.history import connected, tell, wait_until
from tests.running import ROOT, RunningShop
from tests.servers import MariaDB

TICKING = "tests.chaos.wsgi_ticking:app"
LEASE_SECONDS = 2
MASTERS = 2
ADDRESS = {"name": "Anna", "line1": "Elm Street 1", "city": "Uppsala", "postal_code": "75310",
           "country": "SE"}  # fmt: skip

pytestmark = pytest.mark.xdist_group("chaos")


@dataclass(frozen=True, slots=True)
class Case:
    """Which engine, how many slots, and how many workers are killed and frozen meanwhile."""

    engine: str
    jobs: int
    seconds: float
    kills: int = 0
    freezes: int = 0
    workers: int = 2

    @property
    def work_seconds(self) -> float:
        """Long enough to be met by a kill, short enough for SQLite, which runs one at a time."""
        if not self.kills:
            return 0.0
        return 0.3 if self.engine == "mariadb" else 0.4 / self.jobs


_FULL = [pytest.mark.full, pytest.mark.timeout(900)]
CASES = [
    pytest.param(Case("sqlite", jobs=2, seconds=10, kills=2), id="sqlite-quick"),
    pytest.param(Case("mariadb", jobs=10, seconds=30, kills=10, freezes=3), id="mariadb-quick"),
    pytest.param(Case("sqlite", jobs=10, seconds=120), id="sqlite-full", marks=_FULL),
    pytest.param(
        Case("sqlite", jobs=5, seconds=120, kills=30, freezes=5), id="sqlite-kills-full",
        marks=_FULL,
    ),
    pytest.param(
        Case("mariadb", jobs=40, seconds=251, kills=60, freezes=15, workers=4),
        id="mariadb-full", marks=_FULL,
    ),
]  # fmt: skip


@dataclass(slots=True)
class Losses:
    """Which runs were under way in a worker when it was killed or frozen, and when that was."""

    kills: int = 0
    freezes: int = 0
    runs: dict[int, datetime] = field(default_factory=dict)


@pytest.mark.parametrize("case", CASES)
def test_two_servers_run_each_planned_time_exactly_once_even_when_workers_are_killed_and_frozen(
    case: Case, tmp_path: Path, request: Any
) -> None:
    """SC-01, SC-02, SC-08: nothing twice, nothing missed, runs of the dead are taken over."""
    seed = secrets.randbits(32)
    tell(f"seed {seed}")
    url = _database(case.engine, tmp_path, request, seed)
    with ExitStack() as stack:
        shops = [
            stack.enter_context(
                _ticking_shop(
                    tmp_path / f"shop{number}", url, workers=case.workers, jobs=case.jobs,
                    work_seconds=case.work_seconds,
                )
            )
            for number in range(MASTERS)
        ]  # fmt: skip
        losses = _let_it_tick(shops, url, case, random.Random(seed))
        last = _wait_for_all_up_to_now(url, case)
    slots = skipped = 0
    for job in _jobs(url):
        found, passed = _check_slots(url, job, last)
        assert len(found) >= case.seconds - 3, f"only {len(found)} slots in {case.seconds} s"
        slots, skipped = slots + len(found), skipped + passed
    assert (losses.kills, losses.freezes) == (case.kills, case.freezes)
    tell(f"{case.engine}: {slots} slots of {case.jobs} jobs, {MASTERS} x {case.workers} workers,"
         f" {losses.kills} killed, {losses.freezes} frozen; none twice, none missed,"
         f" {skipped} skipped")  # fmt: skip
    _tell_takeovers(url, losses)


def _tell_takeovers(url: str, losses: Losses) -> None:
    """How long runs lay there until another process had begun them again."""
    question = text("SELECT id, started_at FROM job_runs WHERE attempts > 1")
    with connected(url) as connection:
        begun = {row.id: _instant(row.started_at) for row in connection.execute(question)}
    waits = [(begun[run] - lost).total_seconds() for run, lost in losses.runs.items()
             if run in begun and begun[run] > lost]  # fmt: skip
    tell(f"{len(begun)} runs were taken over; of {len(waits)} it is known when they were lost:"
         f" after {max(waits, default=0):.1f} s at most, lease {LEASE_SECONDS} s")  # fmt: skip


def _instant(stored: datetime | str) -> datetime:
    """A time as the driver answers it: SQLite has texts."""
    return (stored if isinstance(stored, datetime) else datetime.fromisoformat(stored)).replace(
        tzinfo=UTC
    )


def _database(engine: str, folder: Path, request: Any, seed: int) -> str:
    if engine == "sqlite":
        return f"sqlite:///{folder / 'shop.db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.create_database(f"slots{seed}")


def _ticking_shop(
    folder: Path,
    url: str,
    *,
    workers: int = 4,
    jobs: int = 2,
    claim_seconds: float = 0,
    work_seconds: float = 0,
    **more: Any,
) -> RunningShop:
    """A migrated shop with the table that its extra jobs write to."""
    shop = RunningShop(
        folder,
        url,
        None,
        workers=workers,
        wsgi=TICKING,
        sinks="none",
        lease_seconds=LEASE_SECONDS,
        ticking_jobs=jobs,
        ticking_claim_seconds=claim_seconds,
        ticking_work_seconds=work_seconds,
        **more,
    )
    folder.mkdir()
    shop.prepare()
    table = "CREATE TABLE IF NOT EXISTS ticks (job VARCHAR(9), slot VARCHAR(20))"
    with connected(url) as connection, connection.begin():
        connection.execute(text(table))
    return shop


def _let_it_tick(shops: list[RunningShop], url: str, case: Case, chance: random.Random) -> Losses:
    """Wait, and kill and freeze workers meanwhile; the frozen go on after one to two leases."""
    losses, deeds = Losses(), ["kill"] * case.kills + ["freeze"] * case.freezes
    chance.shuffle(deeds)
    started = time.monotonic()
    # The last ones leave time for whatever they do to be seen.
    span = case.seconds - 2
    moments = [
        span * (number + chance.uniform(0.2, 1)) / len(deeds) for number in range(len(deeds))
    ]
    thaws: list[threading.Timer] = []
    for moment, deed in zip(moments, deeds, strict=True):
        time.sleep(max(0.0, started + moment - time.monotonic()))
        shop = chance.choice(shops)
        # A run takes a part of its second; a blind choice would seldom meet one.
        owner = _owner_of_the_newest_run(url) if chance.random() < 0.7 else None
        shop = next((it for it in shops if owner in it.worker_pids()), shop)
        if deed == "kill":
            pid = shop.kill_worker(chance, owner)
            losses.kills += pid is not None
        else:
            pid = owner if owner in shop.worker_pids() else chance.choice(shop.worker_pids())
            thaws.append(_freeze(psutil.Process(pid), chance.uniform(1.25, 2) * LEASE_SECONDS))
            losses.freezes += 1
        losses.runs |= dict.fromkeys(_runs_of(url, pid), datetime.now(UTC))
    time.sleep(max(0.0, started + case.seconds - time.monotonic()))
    for thaw in thaws:
        thaw.join()
    return losses


def _freeze(process: psutil.Process, seconds: float) -> threading.Timer:
    process.suspend()
    thaw = threading.Timer(seconds, _thaw, [process])
    thaw.start()
    return thaw


def _thaw(process: psutil.Process) -> None:
    # It may have been killed meanwhile.
    with suppress(psutil.NoSuchProcess):
        process.resume()


def _runs_of(url: str, pid: int | None) -> list[int]:
    """The runs that a process works on."""
    question = text("SELECT id, owner FROM job_runs WHERE status = 'running'")
    with connected(url) as connection:
        found = connection.execute(question).all()
    return [row.id for row in found if row.owner.split(":")[1] == str(pid)]


def _owner_of_the_newest_run(url: str) -> int | None:
    """The process that works on the newest slot, if one does."""
    question = text("SELECT owner FROM job_runs WHERE status = 'running' ORDER BY slot DESC")
    with connected(url) as connection:
        owner = connection.execute(question).scalars().first()
    return None if owner is None else int(owner.split(":")[1])


def _jobs(url: str) -> list[str]:
    question = text("SELECT DISTINCT job FROM job_runs WHERE job LIKE 'tick%' ORDER BY job")
    with connected(url) as connection:
        return list(connection.execute(question).scalars())


def _wait_for_an_idle_moment(url: str, seconds: float) -> str:
    """Wait until whatever was planned up to now has ended; answers the last such slot."""
    # The last slot that all jobs have reached.
    moment = text(
        "SELECT MIN(slot) FROM (SELECT MAX(slot) AS slot FROM job_runs"
        " WHERE job LIKE 'tick%' GROUP BY job) AS reached"
    )
    with connected(url) as connection:
        last: str = connection.execute(moment).scalar_one()
    question = text(
        "SELECT COUNT(*) FROM job_runs"
        " WHERE job LIKE 'tick%' AND status IN ('running', 'waiting') AND slot <= :last"
    )

    def have_ended() -> bool:
        with connected(url) as connection:
            return bool(connection.execute(question, {"last": last}).scalar_one() == 0)

    wait_until("no run is left running", have_ended, seconds)
    return last


def _wait_for_all_up_to_now(url: str, case: Case) -> str:
    """Wait until each slot of each job up to now is settled; answers the last one."""
    last = slot_name(datetime.now(UTC))
    reached = text(
        "SELECT COUNT(*) FROM (SELECT job FROM job_runs WHERE job LIKE 'tick%'"
        " GROUP BY job HAVING MAX(slot) >= :last) AS reached"
    )

    def are_reached() -> bool:
        with connected(url) as connection:
            return bool(connection.execute(reached, {"last": last}).scalar_one() == case.jobs)

    # A busy machine may be far behind.
    seconds = wait_until("each job has reached it", are_reached, 60 + case.seconds)
    _wait_for_an_idle_moment(url, 60 + case.seconds)
    tell(f"all was settled {seconds:.0f} s after the end")
    return last


def _check_slots(url: str, job: str, last_slot: str) -> tuple[list[str], int]:
    """Every second has a run that is done, with one effect, or skipped, with none.

    Answers the slots, and how many were skipped.
    """
    which = {"job": job, "last": last_slot}
    condition = "WHERE job = :job AND slot <= :last"
    with connected(url) as connection:
        runs = connection.execute(
            text(f"SELECT slot, status, attempts, error FROM job_runs {condition}"), which
        ).all()
        done = connection.execute(text(f"SELECT slot FROM ticks {condition}"), which)
        effects = Counter(done.scalars())
    not_done = [tuple(run) for run in runs if run.status not in ("done", "skipped")]
    assert not not_done, f"not done: {not_done}"
    slots = sorted(run.slot for run in runs)
    first, last = slot_time(slots[0]), slot_time(slots[-1])
    seconds = int((last - first).total_seconds()) + 1
    planned = [slot_name(first + timedelta(seconds=n)) for n in range(seconds)]
    assert slots == planned, f"missing: {sorted(set(planned) - set(slots))}"
    expected = Counter(run.slot for run in runs if run.status == "done")
    assert effects == expected, f"differ: {effects - expected}, {expected - effects}"
    return slots, len(slots) - len(expected)


def _retried(url: str) -> int:
    question = text("SELECT COUNT(*) FROM job_runs WHERE attempts > 1")
    with connected(url) as connection:
        return int(connection.execute(question).scalar_one())


def test_all_that_is_due_after_a_restart_runs_although_it_is_due_at_once(tmp_path: Path) -> None:
    """SC-04."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with _ticking_shop(tmp_path / "shop", url, workers=1, work_seconds=0.2) as shop:
        time.sleep(3)
        shop.kill()
        time.sleep(2)
        shop.start()
        time.sleep(3)
        last = _wait_for_an_idle_moment(url, 4 * LEASE_SECONDS + 20)
        for job in _jobs(url):
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
        for job in _jobs(url):
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


@pytest.mark.parametrize(
    ("options", "reloads"),
    [(["--preload"], 0), (["--max-requests", "50", "--max-requests-jitter", "0"], 0), ([], 2)],
    ids=["preload", "max-requests", "reload"],
)
def test_however_workers_come_and_go_one_leads_each_slot_runs_once_and_requests_are_answered(
    options: list[str], reloads: int, tmp_path: Path
) -> None:
    """SC-09, OP-02, OP-03: preloaded, recycled after 50 requests each, reloaded by HUP."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with _ticking_shop(tmp_path / "shop", url, workers=2, options=options) as shop:
        first = set(shop.worker_pids())
        statuses: Counter[int] = Counter()
        started = time.monotonic()
        for number in range(160):
            time.sleep(max(0.0, started + number * 0.04 - time.monotonic()))
            if reloads and number % 60 == 40:
                shop.send(signal.SIGHUP)
            statuses[requests.get(f"{shop.url}/health/live", timeout=20).status_code] += 1
        last = _wait_for_an_idle_moment(url, 4 * LEASE_SECONDS + 20)
        for job in _jobs(url):
            _check_slots(url, job, last)
        wait_until("the old workers are gone", lambda: len(shop.worker_pids()) == 2, 40)
        wait_until("a living worker leads", lambda: _leader(url) in shop.worker_pids(), 20)
        assert statuses == {200: 160}
        assert options == ["--preload"] or first.isdisjoint(shop.worker_pids())


def _leader(url: str) -> int:
    """The process that holds the lease of the drain."""
    question = text("SELECT owner FROM leases WHERE name = 'drain'")
    with connected(url) as connection:
        return int(connection.execute(question).scalar_one().split(":")[1])


def test_a_server_that_is_ended_during_a_job_lets_it_end(tmp_path: Path) -> None:
    """SC-10: SIGTERM while runs are under way; nothing is left half done, nothing for others."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with _ticking_shop(tmp_path / "shop", url, workers=2, jobs=1, work_seconds=1.5) as shop:
        running = text("SELECT COUNT(*) FROM job_runs WHERE status = 'running'")

        def is_under_way() -> bool:
            with connected(url) as connection:
                return bool(connection.execute(running).scalar_one())

        wait_until("a run is under way", is_under_way, 20)
        shop.send(signal.SIGTERM)
        assert shop.wait(25) == 0, f"it still runs; its log ends:\n{shop.log_tail()}"
        assert not is_under_way()
        with connected(url) as connection:
            done = connection.execute(
                text("SELECT slot FROM job_runs WHERE status = 'done' AND job LIKE 'tick%'")
            )
            effects = connection.execute(text("SELECT slot FROM ticks"))
            assert sorted(effects.scalars()) == sorted(done.scalars())


def test_the_scheduler_runs_in_a_process_of_its_own_beside_workers_that_only_serve(
    tmp_path: Path,
) -> None:
    """SC-10: `flask jobs start`, SHOP_SCHEDULER=off; it ends on SIGTERM with the run it has."""
    shop = RunningShop(
        tmp_path / "shop", f"sqlite:///{tmp_path / 'shop.db'}", None, workers=1, sinks="none",
        scheduler="off", lease_seconds=LEASE_SECONDS,
    )  # fmt: skip
    with shop:
        admin = {"Authorization": f"Bearer {shop.admin_token()}"}
        jobs = f"{shop.url}/api/v1/jobs"
        assert requests.post(f"{jobs}/reconcile/run", headers=admin, timeout=20).status_code == 202

        def status() -> str:
            answer = requests.get(f"{jobs}/reconcile/runs", headers=admin, timeout=20)
            return str(answer.json()["items"][0]["status"])

        time.sleep(2)
        assert status() == "waiting", "nobody runs jobs"
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "jobs", "start"]
        with subprocess.Popen(
            command, cwd=ROOT, env=shop.environment, stderr=subprocess.PIPE, text=True
        ) as own:
            wait_until("the run is done", lambda: status() == "done", 30)
            own.send_signal(signal.SIGTERM)
            log = own.communicate(timeout=30)[1]
        assert own.returncode == 0, log
        assert "scheduler.ended" in log


@pytest.mark.parametrize(
    "crash", ["in-job", pytest.param("before-commit:3", marks=pytest.mark.full)]
)
def test_orders_that_expire_while_the_worker_is_killed_give_their_stock_back_once(
    crash: str, tmp_path: Path
) -> None:
    """SC-05: an unpaid order, a kill inside the job that cancels it, another worker."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    shop = RunningShop(
        tmp_path / "shop", url, None, workers=2, sinks="none", env="testing",
        lease_seconds=LEASE_SECONDS,
    )  # fmt: skip
    with shop:
        admin = {"Authorization": f"Bearer {shop.admin_token()}"}
        _place_an_order(shop, admin)
    with connected(url) as connection, connection.begin():
        connection.execute(text("UPDATE orders SET expires_at = '2026-01-01 00:00:00.000000'"))
        taken = connection.execute(text("SELECT on_hand FROM stock_levels")).scalar_one()
    assert taken == 5
    shop.change(crash_at=crash)
    with shop:
        requests.post(f"{shop.url}/api/v1/jobs/orders/run", headers=admin, timeout=20)

        def is_done() -> bool:
            with connected(url) as connection:
                runs = text(
                    "SELECT COUNT(*) FROM job_runs WHERE job = 'orders' AND status = 'done'"
                )
                return bool(connection.execute(runs).scalar_one())

        wait_until("the order's job is done", is_done, 60)
    with connected(url) as connection:
        orders = connection.execute(text("SELECT status FROM orders")).scalars().all()
        stock = connection.execute(text("SELECT on_hand FROM stock_levels")).scalar_one()
        moves = connection.execute(text("SELECT SUM(delta) FROM stock_movements")).scalar_one()
    assert (orders, stock, moves) == (["cancelled"], 7, 7)
    assert "crash point" in shop.log.read_text()


def _place_an_order(shop: RunningShop, admin: dict[str, str]) -> None:
    variant = {"sku": "OAK-1", "price": {"amount": 1990, "currency": "EUR"}, "stock": 7}
    product = {"name": "Oak table", "status": "active", "variants": [variant]}
    made = requests.post(f"{shop.url}/api/v1/products", json=product, headers=admin, timeout=20)
    assert made.status_code == 201, made.text
    order = {"items": [{"sku": "OAK-1", "quantity": 2}], "shipping_address": ADDRESS}
    key = {"Idempotency-Key": secrets.token_hex(8)}
    placed = requests.post(f"{shop.url}/api/v1/orders", json=order, headers=admin | key, timeout=20)
    assert placed.status_code == 201, placed.text
