"""Sign-ins: how many a second, and what a rush of them does to everybody else."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import orjson

from bench.load import Plan, Result, collect, generate, launch, request
from bench.stage import EMAIL, PASSWORD, product_paths
from shop.users.passwords import hash_password

#: People who sign in at the same time, again and again.
RUSH = 50
_READS_PER_SECOND = 50.0


@dataclass(frozen=True)
class SignIns:
    """What was measured. `hashes` are those a second that two threads make and do nothing else."""

    rush: Result
    reads: Result
    quiet: Result
    hashes: float


def measure(port: int, seconds: float) -> SignIns:
    """A rush of sign-ins, with product reads beside it; and the same reads without it."""
    body = orjson.dumps({"email": EMAIL, "password": PASSWORD}).decode()
    sign_in = [request("POST", "/api/v1/auth/login", body=body)]
    reads = [request("GET", path) for path in product_paths(port, pages=1)]
    looking = Plan(port, reads, seconds, connections=8, rate=_READS_PER_SECOND)
    quiet = generate(looking)
    rush = launch(Plan(port, sign_in, seconds + 2.0, connections=RUSH))
    time.sleep(1.0)
    beside = generate(looking)
    return SignIns(collect(rush), beside, quiet, _hashes_per_second(seconds / 2))


def _hashes_per_second(seconds: float) -> float:
    made = [0, 0]
    end = time.monotonic() + seconds

    def work(place: int) -> None:
        while time.monotonic() < end:
            hash_password(PASSWORD)
            made[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made) / seconds
