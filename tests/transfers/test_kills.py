"""An import whose process is killed anywhere is finished by the next one: nothing twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import requests
from sqlalchemy import Engine, create_engine, select

from shop.audit.models import AuditEntry
from shop.products.models import StockMovement, Variant
from tests.running import RunningShop
from tests.servers import MariaDB
from tests.transfers.checks import IMPORTS, counts

LONGEST_SECONDS = 900.0


def product(number: int) -> dict[str, Any]:
    """A product of two variants."""
    price = {"amount": 100 + number, "currency": "EUR"}
    variants = [{"sku": f"OAK-{number}-{size}", "price": price, "stock": 3} for size in "SL"]
    return {"name": f"Oak {number}", "slug": f"oak-{number}", "variants": variants}


@pytest.fixture
def database_url(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if engine_name == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.create_database(f"kills{time.monotonic_ns()}")


def watch(shop: RunningShop, url: str, headers: dict[str, str]) -> dict[str, Any]:
    """What the shop says of the import; empty while it says nothing."""
    try:
        answer = requests.get(f"{shop.url}{url}", headers=headers, timeout=20)
        return answer.json() if answer.status_code == 200 else {}
    except requests.RequestException:
        return {}


def resident(shop: RunningShop) -> float:
    """MiB of the largest process."""
    found = [0]
    for process in shop.processes():
        with suppress(psutil.NoSuchProcess):
            found.append(process.memory_info().rss)
    return max(found) / 2**20


def run(
    shop: RunningShop, products: int, kills: int, chance: random.Random
) -> tuple[dict[str, Any], float]:
    """Import while workers are killed; the import at its end, and by how many MiB memory grew."""
    headers = {"Authorization": f"Bearer {shop.admin_token()}"}
    file = b"".join(orjson.dumps(product(n)) + b"\n" for n in range(products))
    before = resident(shop)
    answer = requests.post(
        f"{shop.url}{IMPORTS}", file, headers=headers | {"Content-Type": "application/x-ndjson"},
        timeout=60,
    )  # fmt: skip
    assert answer.status_code == 202, answer.text
    url, largest, killed = answer.headers["Location"], before, 0
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        now = watch(shop, url, headers)
        largest = max(largest, resident(shop))
        if now.get("status") in ("completed", "failed"):
            assert killed == kills
            return now, largest - before
        if killed < kills and now.get("rows_done", 0) > products * (killed + 1) / (kills + 2):
            # Whoever works on it is one of them.
            for pid in shop.worker_pids():
                psutil.Process(pid).kill()
            killed += 1
        time.sleep(chance.uniform(0.01, 0.05))
    raise AssertionError("the import did not end")


def check_exactly_once(engine: Engine, products: int) -> None:
    """Each product, variant, level, movement and entry is there once."""
    variants = 2 * products
    assert counts(engine) == {
        "products": products, "variants": variants, "stock_levels": variants,
        "stock_movements": variants, "audit_log": products + 2 * variants,
    }  # fmt: skip
    with engine.connect() as connection:
        moved = Counter(connection.scalars(select(StockMovement.variant_id)))
        assert set(moved) == set(connection.scalars(select(Variant.id)))
        assert set(moved.values()) == {1}
        entries = connection.execute(
            select(AuditEntry.table_name, AuditEntry.row_id, AuditEntry.sequence)
            .where(AuditEntry.table_name != "users")
        ).all()  # fmt: skip
    assert len({tuple(entry) for entry in entries}) == len(entries)
    assert {entry.sequence for entry in entries} == {1}


def import_under_fire(url: str, folder: Path, products: int, kills: int) -> None:
    seed = random.randrange(2**32)
    shop = RunningShop(folder, url, None, sinks="none", lease_seconds=2)
    with shop:
        done, grown = run(shop, products, kills, random.Random(seed))
    assert grown < 100, f"{grown} MiB"
    assert (done["status"], done["created"], done["failed"]) == ("completed", products, 0), (
        f"seed {seed}"
    )
    assert done["rows_done"] == done["rows_total"] == products
    engine = create_engine(url)
    check_exactly_once(engine, products)
    engine.dispose()


@pytest.mark.timeout(600)
def test_an_import_whose_workers_are_killed_is_finished_by_others(
    database_url: str, tmp_path: Path
) -> None:
    import_under_fire(database_url, tmp_path / "var", products=3000, kills=1)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_large_import_survives_many_kills(database_url: str, tmp_path: Path) -> None:
    import_under_fire(database_url, tmp_path / "var", products=100_000, kills=8)
