"""Counters in the database: they count alike for all threads, workers and hosts of a shop.

What is counted is committed at once, in a transaction of its own, so that it stays counted
whatever becomes of the request. Never count inside another transaction: on SQLite the counter
would wait for the lock that its own thread holds.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from limits.storage import Storage
from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Executable,
    bindparam,
    case,
    delete,
    exc,
    select,
    text,
)
from sqlalchemy.dialects import mysql, sqlite

from shop.db import ATTEMPTS, database_ms, is_conflict, writing
from shop.errors import Unavailable
from shop.limits.models import RateCounter
from shop.retry import Backoff

_NAME = RateCounter.name == bindparam("key")
_AMOUNT = bindparam("amount", type_=BigInteger())
_ENDS = database_ms() + bindparam("length", type_=BigInteger())
_OVER = RateCounter.ends_ms <= database_ms()
_NEW_ROW = {"name": bindparam("key"), "count": _AMOUNT, "ends_ms": _ENDS}
#: In this order: MySQL computes one column after the other, and each from the ones before as they
#: are already changed, so what decides must be changed last.
_SAME_ROW: list[tuple[str, Any]] = [
    ("count", case((_OVER, _AMOUNT), else_=RateCounter.count + _AMOUNT)),
    ("ends_ms", case((_OVER, _ENDS), else_=RateCounter.ends_ms)),
]
_MYSQL_COUNT = mysql.insert(RateCounter).values(_NEW_ROW).on_duplicate_key_update(_SAME_ROW)
#: Count in the window that runs; in a new one where there is none or the last one is over.
_COUNT: dict[str, Executable] = {
    "sqlite": sqlite.insert(RateCounter)
    .values(_NEW_ROW)
    .on_conflict_do_update(index_elements=["name"], set_=dict(_SAME_ROW)),
    "mysql": _MYSQL_COUNT,
    "mariadb": _MYSQL_COUNT,
}
_ROW = select(RateCounter.count).where(_NAME)
_COUNTED = _ROW.where(~_OVER)
_MS_LEFT = select(RateCounter.ends_ms - database_ms()).where(_NAME, ~_OVER)
_CLEAR = delete(RateCounter).where(_NAME)


def digest(name: str) -> str:
    """A stand-in of fixed length for a name that may say who somebody is."""
    return hashlib.sha256(name.encode()).hexdigest()


class SqlStorage(Storage):
    """A storage of `limits` on the table rate_counters, by the database's clock.

    `reader` is the engine of single questions (`shop.db.reader_options`).
    """

    def __init__(self, engine: Engine, reader: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._reader = reader
        self._count = _COUNT[engine.dialect.name]

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the database fails with."""
        return exc.SQLAlchemyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` in a window of `expiry` seconds, and answer how many there are now."""
        values = {"key": digest(key), "amount": amount, "length": expiry * 1000}

        def count(connection: Connection) -> int:
            connection.execute(self._count, values)
            # What was just counted is answered even when its window ends at this very moment.
            return connection.execute(_ROW, values).scalar_one()

        return self._write(count)

    def get(self, key: str) -> int:
        """How many there are in the window that runs."""
        return self._read(_COUNTED, key=digest(key)) or 0

    def get_expiry(self, key: str) -> float:
        """When the window ends, on the clock of this process; now if none runs."""
        return time.time() + (self._read(_MS_LEFT, key=digest(key)) or 0) / 1000

    def check(self) -> bool:
        """Whether the database answers."""
        try:
            return self._read(text("SELECT 1")) == 1
        except exc.SQLAlchemyError:
            return False

    def reset(self) -> int:
        """Forget everything; how many counters there were."""
        return self._write(lambda connection: connection.execute(delete(RateCounter)).rowcount)

    def clear(self, key: str) -> None:
        """Forget what was counted under this key."""
        values = {"key": digest(key)}
        self._write(lambda connection: connection.execute(_CLEAR, values).rowcount)

    def _read(self, statement: Executable, **values: str) -> int | None:
        """The answer to one question; asked once more if its connection turned out to be dead."""
        try:
            return self._ask(statement, values)
        except exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return self._ask(statement, values)

    def _ask(self, statement: Executable, values: dict[str, str]) -> int | None:
        with self._reader.connect() as connection:
            answer: int | None = connection.execute(statement, values).scalar()
            return answer

    def _write(self, work: Callable[[Connection], int]) -> int:
        """One short transaction, made again when it lost against another."""
        backoff = Backoff(first=0.005, most=0.3)
        fresh = False
        for _ in range(ATTEMPTS):
            try:
                with writing(self._engine) as connection:
                    return work(connection)
            except exc.DBAPIError as error:
                if is_conflict(error):
                    time.sleep(backoff.delay())
                elif error.connection_invalidated and not fresh:
                    # It died in the pool; any other would have. Should it have died just after
                    # its COMMIT was sent, this counts one twice, which does no harm.
                    fresh = True
                else:
                    raise
        raise Unavailable("The database is too busy just now. Send the same request again.")
