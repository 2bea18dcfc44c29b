"""Commits at a steady rate, without HTTP: each renames one of some variants.

`python -m bench.commits RATE SECONDS` makes them in the shop of its environment, and writes the
result as `bench.load` does.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict
from itertools import cycle, islice

import orjson
from sqlalchemy import select

from bench.load import Result
from bench.stage import ROOT, Shop
from shop.app import create_app
from shop.db import db
from shop.products.models import Variant

_VARIANTS = 100


def make(shop: Shop, rate: float, seconds: float) -> Result:
    """Commit in a process of its own; latencies are those of the commits."""
    command = [sys.executable, "-m", "bench.commits", str(rate), str(seconds)]
    environment = shop.environment | {"SHOP_SCHEDULER": "off"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    return Result(**orjson.loads(done.stdout.splitlines()[-1]))


def _commit(rate: float, seconds: float) -> Result:
    session, latencies = db.session(), []
    variants = session.scalars(select(Variant).order_by(Variant.id).limit(_VARIANTS)).all()
    began, used = time.perf_counter(), time.process_time()
    for number, variant in enumerate(islice(cycle(variants), int(rate * seconds))):
        due = began + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        started = time.perf_counter()
        variant.name = f"Bench {number}"
        session.commit()
        latencies.append((time.perf_counter() - started) * 1000)
    took = time.perf_counter() - began
    return Result(latencies, [], took, time.process_time() - used, 0)


def main() -> None:
    """Commit for a while."""
    rate, seconds = float(sys.argv[1]), float(sys.argv[2])
    with create_app().app_context():
        result = _commit(rate, seconds)
    sys.stdout.buffer.write(orjson.dumps(asdict(result)) + b"\n")


if __name__ == "__main__":
    main()
