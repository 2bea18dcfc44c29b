"""The data layer: base class, column types and the one way to write.

Facts behind the choices are in docs/architecture.md ("Facts of the engines").
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Annotated, Any, ParamSpec, Protocol, TypeVar

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    ClauseElement,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Executable,
    Integer,
    MetaData,
    Row,
    String,
    Text,
    exc,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

from shop.bundles import Answer, ask_alone
from shop.crashes import crash_point
from shop.errors import Unavailable
from shop.retry import Backoff, attempts

P = ParamSpec("P")
R = TypeVar("R")

#: Deadlock, lock wait time-out, and "record has changed since last read" (snapshot isolation).
CONFLICT_CODES = frozenset({1213, 1205, 1020})
#: The server refuses, is going down, is read-only, or the connection is gone.
AWAY_CODES = frozenset(
    {0, 1040, 1053, 1129, 1203, 1290, 1317, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031}
)
_SQLITE_AWAY = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
     sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
)  # fmt: skip
ATTEMPTS = 8
PATIENCE_SECONDS = 4.0  # Whoever lost later has waited for a lock in vain, long enough.
#: Name of the engine of `read`.
READER = "reader"


class UTCDateTime(TypeDecorator[datetime]):
    """An instant in UTC to the microsecond; naive values are refused, on both engines."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone cannot be stored: use shop.clock.now()")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


#: 64 bits on both engines; SQLite only numbers a primary key by itself when it is INTEGER.
BigId = BigInteger().with_variant(Integer, "sqlite")
#: Text without a length of its own: 4 GB on MySQL, whose plain TEXT ends at 64 kB.
LongText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")

#: A generated primary key.
Id = Annotated[int, mapped_column(BigId, primary_key=True, autoincrement=True)]
#: An amount of money in minor units (cents); its currency stands in a column beside it.
Amount = Annotated[int, mapped_column(BigInteger)]
#: An ISO 4217 code.
CurrencyCode = Annotated[str, mapped_column(String(3))]
#: An instant in UTC.
Instant = Annotated[datetime, mapped_column(UTCDateTime)]


class Base(DeclarativeBase):
    """What every table has in common: names of constraints, and exact text comparison.

    `utf8mb4_bin` compares code points, as SQLite does, so that both engines agree on what is
    equal and on the order (MariaDB's default finds two different emoji equal).
    """

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


#: Keyword arguments of every table: row ids are never used again (SQLite needs to be told).
TABLE_OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}

db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})


class database_ms(FunctionElement[int]):  # noqa: N801 (used like SQLAlchemy's functions)
    """The database's clock in milliseconds since 1970: the only clock that leases trust."""

    type = BigInteger()
    inherit_cache = True
    name = "database_ms"


@compiles(database_ms, "sqlite")
def _sqlite_ms(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(database_ms, "mysql")
@compiles(database_ms, "mariadb")
def _mysql_ms(_element: Any, _compiler: Any, **_kw: Any) -> str:
    # The session's time zone is UTC (see _on_mysql_connect), so no hour is ambiguous.
    return "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000 AS SIGNED)"


def _code(error: exc.DBAPIError) -> int | None:
    """The engine's own error number: MySQL's, or SQLite's primary result code."""
    original = error.orig
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", None)
        return None if code is None else code & 0xFF
    first = original.args[0] if original is not None and original.args else None
    return first if isinstance(first, int) else None


def is_conflict(error: exc.DBAPIError) -> bool:
    """Whether the transaction lost against another one and may simply be run again."""
    return not isinstance(error.orig, sqlite3.Error) and _code(error) in CONFLICT_CODES


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be used just now (away, busy, full, out of connections)."""
    if isinstance(error, exc.TimeoutError):
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    if error.connection_invalidated or is_conflict(error):
        return True
    away = _SQLITE_AWAY if isinstance(error.orig, sqlite3.Error) else AWAY_CODES
    return _code(error) in away


def reason(error: Exception) -> str:
    """Why the database failed, in the driver's words and in one line, without the statement."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:300]


def is_duplicate(error: exc.IntegrityError, table: str, *columns: str) -> bool:
    """Whether the unique rule on these columns of a table was broken, by the name of the rule."""
    # The driver's last argument, and not all of them as text: that would quote the value's quotes.
    text = str(error.orig.args[-1]) if error.orig is not None and error.orig.args else ""
    # SQLite names the columns, MySQL and MariaDB the key (MySQL with its table), after the value.
    if text.startswith("UNIQUE constraint failed: "):
        named = ", ".join(f"{table}.{column}" for column in columns)
        return text == f"UNIQUE constraint failed: {named}"
    key = f"uq_{table}_{'_'.join(columns)}'"
    return "Duplicate entry" in text and key in text.rpartition(" for key ")[2]


def is_missing_reference(error: exc.IntegrityError) -> bool:
    """Whether a row refers to one that is not there."""
    return "FOREIGN KEY constraint failed" in str(error.orig) or _code(error) == 1452


def read(statement: Executable, **values: Any) -> Sequence[Row[Any]]:
    """Rows of one question that stands for itself, as they are committed now.

    For the hot paths: a prepared statement of `queries` with bound values, asked without the ORM
    on a connection that commits by itself, which saves a round trip for the ROLLBACK and the making
    of a session. Asked once more when the connection turned out to be dead.
    """
    try:
        return _read(statement, values)
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
    return _read(statement, values)


def _read(statement: Executable, values: dict[str, Any]) -> Sequence[Row[Any]]:
    with db.engines[READER].connect() as connection:
        return connection.execute(statement, values).all()


def write_alone(statement: ClauseElement, values: dict[str, Any]) -> Answer:
    """One statement that is a transaction of its own, run without a session.

    For the hot paths, as `read` is: a connection that commits by itself saves the round trip for
    the COMMIT. Whoever calls it deals with conflicts and broken connections (see `is_conflict`).
    """
    engine = db.engines[READER]
    crash_point("before-commit")
    with writing(engine) if engine.dialect.name == "sqlite" else engine.connect() as connection:
        answer = ask_alone(connection, statement, values)
    crash_point("after-commit")
    return answer


def transactional(work: Callable[P, R]) -> Callable[P, R]:
    """Run the whole function in one transaction of `db.session`.

    Commits when it returns, rolls back on any exception, refuses to be nested, and runs the
    function again when the transaction lost against another (deadlock, lock time-out, changed
    snapshot) or its connection broke before the commit, at most 8 times with jitter, and not after
    `PATIENCE_SECONDS`. A `with` block could not be run again, so this is a decorator: put it on the
    innermost function of a door.

    Raises:
        Unavailable: when every attempt lost.
    """

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        session = db.session()
        if session.info.get("transactional"):
            raise RuntimeError("transactions do not nest: call the operation, not the door")
        for _ in attempts(ATTEMPTS, PATIENCE_SECONDS, Backoff(first=0.005, most=0.3)):
            with suppress(LostRace), _transaction(session):
                return work(*args, **kwargs)
        raise Unavailable("The database is too busy just now. Send the same request again.")

    return run


@contextmanager
def _transaction(session: Session) -> Iterator[None]:
    """One attempt, all or nothing. Raises LostRace when it may be made again."""
    if session.new or session.dirty or session.deleted:
        raise RuntimeError("something was changed before the transaction began")
    session.info["transactional"] = True
    try:
        _begin(session)
        with _watched(session):
            yield
            session.flush()
    except exc.DBAPIError as error:
        _roll_back(session)
        if is_conflict(error) or error.connection_invalidated:
            raise LostRace from error
        raise
    except BaseException:
        _roll_back(session)
        raise
    else:
        _commit(session)
    finally:
        del session.info["transactional"]


class Watcher(Protocol):
    """Is told of the transactions of a thread, and may let them fail; see `shop.jobs.fence`."""

    def begun(self, session: Session) -> None:
        """One has begun."""

    def before_commit(self, session: Session) -> None:
        """All its changes are flushed."""

    def over(self) -> None:
        """It is about to be committed or rolled back."""


#: Who watches over the transactions of this thread.
watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def _watched(session: Session) -> Iterator[None]:
    watching = watcher.get()
    if watching is None:
        yield
        return
    try:
        watching.begun(session)
        yield
        watching.before_commit(session)
    finally:
        watching.over()


class LostRace(Exception):
    """The transaction certainly did not commit and may be run again."""


def _roll_back(session: Session) -> None:
    try:
        session.rollback()
    except exc.OperationalError:
        # It went back to a savepoint first, and a deadlock had taken that away.
        session.rollback()


def _begin(session: Session) -> None:
    # A transaction that has read cannot become one that writes on SQLite.
    if session.in_transaction():
        session.rollback()
    if session.get_bind().dialect.name == "sqlite":
        session.connection(execution_options={"writes": True})


def _commit(session: Session) -> None:
    crash_point("before-commit")
    try:
        session.commit()
    except exc.DBAPIError as error:
        session.rollback()
        # When the connection broke here nobody knows whether it committed: not run again.
        if is_conflict(error):
            raise LostRace from error
        raise
    crash_point("after-commit")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction on a connection of its own, for parts that live outside a request."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection
