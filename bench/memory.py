"""Memory: what the processes of a shop hold once they have worked."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from bench.stage import Gunicorn


@dataclass(frozen=True)
class Memory:
    """Of one server with all its processes, in MiB.

    `resident` counts what processes share once for each of them, `together` once for all (Linux's
    PSS); `unique` is what would be freed if they ended.
    """

    what: str
    processes: int
    resident: float
    together: float
    unique: float


def of_server(what: str, server: Gunicorn) -> list[Memory]:
    """The server's processes together, and its embedded broker by itself where it has one."""
    found = server.processes()
    brokers = [process for process in found if _is_broker(process)]
    web = [process for process in found if process not in brokers]
    measured = [_of(what, web)]
    if brokers:
        measured.append(_of("its embedded broker", brokers))
    return measured


def _is_broker(process: psutil.Process) -> bool:
    return any("iotcore" in word for word in process.cmdline())


def _of(what: str, processes: list[psutil.Process]) -> Memory:
    full = [process.memory_full_info() for process in processes]
    mebi = 2**20
    sums = [sum(getattr(info, name) for info in full) / mebi for name in ("rss", "pss", "uss")]
    return Memory(what, len(full), *sums)
