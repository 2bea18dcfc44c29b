"""Importing: products a second of one process, the processor time that it takes, its memory."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from bench.stage import ROOT, Shop


@dataclass(frozen=True)
class Import:
    """One import: `seconds` by the clock and `busy` of its own processor time.

    Memory is in MiB: `first` when the first products are there, `largest` at any time after that.
    """

    products: int
    seconds: float
    busy: float
    first: float
    largest: float


def measure(shop: Shop, folder: Path, products: int) -> Import:
    """Import a file of JSON Lines with `flask products import`."""
    path = folder / "import.jsonl"
    with path.open("wb") as file:
        file.writelines(orjson.dumps(_product(n)) + b"\n" for n in range(products))
    started = time.monotonic()
    words = [sys.executable, "-m", "flask", "--app", "wsgi", "products", "import", str(path)]
    process = subprocess.Popen(
        words, cwd=ROOT, env=shop.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    sizes, busy = _watch(psutil.Process(process.pid), process)
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(said.decode())
    # The first second is spent on starting Python and reading the code.
    begun = sizes[min(len(sizes) - 1, 30)]
    return Import(products, time.monotonic() - started, busy, begun, max(sizes))


def _product(n: int) -> dict[str, Any]:
    price = {"amount": 19900 + n % 100, "currency": "EUR"}
    return {
        "name": f"Imported oak side table {n}",
        "slug": f"imported-{n}",
        "description": "A side table of solid oak, oiled and made to last. " * 3,
        "attributes": {"material": "oak", "finish": "oiled"},
        "variants": [{"sku": f"IMPORTED-{n}", "price": price, "stock": n % 50}],
    }


def _watch(seen: psutil.Process, process: subprocess.Popen[bytes]) -> tuple[list[float], float]:
    sizes, busy = [0.0], 0.0
    while process.poll() is None:
        try:
            times = seen.cpu_times()
            sizes.append(seen.memory_info().rss / 2**20)
        except psutil.Error:
            break
        busy = max(busy, times.user + times.system)
        time.sleep(0.1)
    return sizes, busy


def table(found: Import) -> str:
    """As Markdown."""
    rate, most = found.products / found.seconds, found.products / found.busy
    return "\n".join(
        [
            "| products | seconds | products/s | its processor s | products a processor s"
            " | MiB after 3 s | MiB at most |",
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            f"| {found.products} | {found.seconds:.1f} | {rate:.0f} | {found.busy:.1f} | {most:.0f}"
            f" | {found.first:.0f} | {found.largest:.0f} |",
        ]
    )
