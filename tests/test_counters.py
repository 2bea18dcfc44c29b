"""Counters in shared memory: several processes, dead ones, and full regions."""

from __future__ import annotations

import os
import signal
import threading

from shop import counters as module
from shop.counters import BUCKETS, Counters

PATH = '/api/v1/products/<id(beside="bulk"):id>'


def total(counters: Counters) -> int:
    return sum(each.count for each in counters.requests())


def in_child(counters: Counters, seat: int, requests: int) -> int:
    """Count in a forked process that dies without a farewell; its exit status."""
    child = os.fork()
    if child == 0:
        counters.sit(seat)
        for _ in range(requests):
            counters.count("GET", PATH, 200, 0.003)
        counters.borrow(2)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def test_processes_add_up_and_what_a_dead_one_counted_stays() -> None:
    counters = Counters()
    for seat in (0, 1, 1, 63):
        assert os.WTERMSIG(in_child(counters, seat, 250)) == signal.SIGKILL

    (found,) = counters.requests()
    assert (found.method, found.route, found.status) == ("GET", "/api/v1/products/{id}", "200")
    assert found.count == found.buckets[1] == 1000
    assert round(found.seconds, 6) == 3.0


def test_the_connections_of_a_dead_process_are_gone() -> None:
    counters = Counters()
    in_child(counters, 1, 1)
    in_child(counters, 2, 1)
    before = counters.in_use()
    counters.leave(1)

    assert (before, counters.in_use()) == (4, 2)


def test_threads_lose_no_count() -> None:
    counters = Counters()

    def work() -> None:
        for _ in range(5000):
            counters.count("GET", PATH, 200, 0.5)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert total(counters) == 40_000


def test_each_time_is_in_the_bucket_that_ends_at_or_after_it() -> None:
    counters = Counters()
    for end in BUCKETS:
        counters.count("GET", PATH, 200, end)
    counters.count("GET", PATH, 200, 3600.0)

    assert counters.requests()[0].buckets == [1] * (len(BUCKETS) + 1)


def test_a_full_region_counts_the_rest_together() -> None:
    counters = Counters()
    most = module._MOST_RECORDS
    for number in range(most + 50):
        counters.count("GET", f"/{number}", 200, 0.1)
        counters.count("GET", f"/{number}", 200, 0.1)
    found = counters.requests()

    assert len(found) == most
    assert total(counters) == 2 * (most + 50)
    assert {each.route: each.count for each in found}["other"] == 2 * 51


def test_methods_that_clients_make_up_are_one() -> None:
    counters = Counters()
    for number in range(100):
        counters.count(f"BREW{number}", PATH, 405, 0.1)

    assert [each.method for each in counters.requests()] == ["other"]
