"""Engines: how the shop connects to its database, and how strict each connection is."""

from __future__ import annotations

import time
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, event, exc
from sqlalchemy.engine import URL, make_url

from shop.literals import quicken

#: How long a pooled connection counts as alive after its last use.
_TRUSTED_SECONDS = 1.0
#: A transaction that rests so long belongs to a frozen process, whose locks others wait for.
_IDLE_SECONDS = 10
_STRICT_MODE = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


def database_url(text: str) -> URL:
    """Parse a database URL; a bare `mysql://` or `mariadb://` means the PyMySQL driver."""
    url = make_url(text)
    if url.drivername in ("mysql", "mariadb"):
        url = url.set(drivername=f"{url.drivername}+pymysql")
    return url


def engine_options(url: URL, *, threads: int, answer_seconds: int) -> dict[str, Any]:
    """Options of `create_engine` for a process with that many threads."""
    options: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        # What is written may be a secret or somebody's address: errors do not repeat it.
        "hide_parameters": True,
        "pool_timeout": answer_seconds,
        "pool_size": threads,
        "max_overflow": threads,
        "pool_use_lifo": True,
        # Whoever borrows a connection here ends its transaction; a second ROLLBACK would be for
        # nothing.
        "pool_reset_on_return": None,
    }
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": answer_seconds}
        return options
    options |= {"pool_recycle": 1800, "isolation_level": "READ COMMITTED"}
    if url.get_driver_name() == "pymysql":
        # Ten megabytes a process, of which SQLite needs nothing.
        from shop.packets import CONVERSIONS, BundlingCursor

        options["connect_args"] = {
            "charset": "utf8mb4",
            "cursorclass": BundlingCursor,
            "conv": CONVERSIONS,
            "connect_timeout": min(answer_seconds, 5),
            "read_timeout": answer_seconds,
            "write_timeout": answer_seconds,
        }
    return options


def reader_options(url: URL, options: dict[str, Any]) -> dict[str, Any]:
    """Options of the engine of `read`: each statement commits by itself (SQLite: as usual)."""
    if url.get_backend_name() == "sqlite":
        return options
    return options | {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}


def prepare_engine(engine: Engine) -> None:
    """Make each new connection of the engine strict."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    else:
        event.listen(engine, "connect", _on_mysql_connect)
        event.listen(engine, "checkin", _on_checkin)
        event.listen(engine, "checkout", _on_checkout)


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # The driver's deferred BEGIN fails at once, "locked", when what has read begins to write.
    connection.isolation_level = None
    for pragma in ("foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _on_sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _on_mysql_connect(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        # Only MariaDB reads the comment, and has such a rule.
        cursor.execute(
            f"SET SESSION sql_mode='{_STRICT_MODE}', time_zone='+00:00', innodb_lock_wait_timeout=5"
            f" /*M!100301 , idle_transaction_timeout={_IDLE_SECONDS} */"
        )
    quicken(connection)
    # It imports PyMySQL, of which SQLite needs nothing.
    from shop.rows import read_quickly

    read_quickly(connection)


def _on_checkin(_connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _on_checkout(connection: Any, record: Any, _proxy: Any) -> None:
    # A ping before each use would cost a tenth of a read. One that was in use a moment ago is
    # trusted; should it be dead after all, `read` and `transactional` ask again on another.
    if time.monotonic() - record.info.get("used", 0.0) > _TRUSTED_SECONDS:
        try:
            connection.ping(reconnect=False)
        except Exception as error:
            raise exc.DisconnectionError from error
