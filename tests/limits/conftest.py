"""Fixtures: counters over both engines and in Redis."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from limits.storage import Storage

from shop.limits.storage import SqlStorage
from tests.servers import HOST, Server, find, require


class Redis(Server):
    """A private Redis server that keeps nothing over a restart."""

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        """See ``Server``."""
        program = find("redis-server")
        assert program is not None
        options = {"bind": HOST, "port": str(self.port), "save": "", "dir": str(self.folder)}
        return [
            program,
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ]

    def prepare(self) -> None:
        """See ``Server``; there is nothing to make."""

    def answers(self) -> bool:
        """See ``Server``."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """A private Redis server that the test may kill."""
    require("redis", "counting in Redis", private=True)
    with Redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def storage(app: Flask) -> SqlStorage:
    """The counters of the shop under test, in its database."""
    shop = app.extensions["shop"]
    return SqlStorage(shop.engine, shop.reader)


def count_often(storage: Storage, key: str, times: int) -> list[int]:
    """Count in one thread; what each count answered."""
    return [storage.incr(key, 60) for _ in range(times)]
