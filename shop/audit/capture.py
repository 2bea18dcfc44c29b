"""Capture: every flush of an audited row writes its audit entry in the same transaction.

Entries are written *after* the flush, so that a row's entries get their ids while its lock is
held and their id order is the row's commit order. Writing them before it gives inversions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Self

import orjson
from sqlalchemy import BigInteger, Connection, Dialect, Table, event, insert, inspect
from sqlalchemy.orm import (
    Mapped,
    ORMExecuteState,
    Session,
    declared_attr,
    mapped_column,
    object_session,
)
from sqlalchemy.orm.state import InstanceState
from ulid_transform import ulid_now

from shop import clock, provenance
from shop.audit.models import AuditEntry
from shop.audit.wake import wake_drain
from shop.bundles import Answer, Bundle

Row = dict[str, Any]

_NAMED = re.compile(r"%\(\w+\)s")
_VERBS = {"insert": "created", "update": "updated", "delete": "deleted"}


class Audited:
    """Mixin of a model whose changes are audited and published.

    `version` starts at 1 and rises with every UPDATE; a write from a stale copy fails. A column
    named in `audit_secret` never enters the log; one in `audit_masked` enters it masked.
    """

    audit_noun: ClassVar[str]
    audit_secret: ClassVar[frozenset[str]] = frozenset()
    audit_masked: ClassVar[dict[str, Callable[[str], str]]] = {}

    __tablename__: str
    __table__: ClassVar[Any]

    version: Mapped[int] = mapped_column(BigInteger)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 (a class method to SQLAlchemy)
        return {"version_id_col": cls.version}


class UnauditedWrite(RuntimeError):
    """A bulk statement would change audited rows without leaving entries."""


def mask_email(address: str) -> str:
    """`ann@example.com` becomes `a***@example.com`."""
    name, at, domain = address.partition("@")
    return f"{name[:1]}***{at}{domain}"


def mask_text(text: str) -> str:
    """`Anna Larsson` becomes `A***`."""
    return f"{text[:1]}***"


def _visible(model: type[Audited], values: Row) -> Row:
    """The row as the log may show it: secrets left out, personal data masked."""
    keys = model.__table__.columns.keys()
    shown = {key: values[key] for key in keys if key in values and key not in model.audit_secret}
    for key, mask in model.audit_masked.items():
        if isinstance(text := shown.get(key), str):
            shown[key] = mask(text)
    return shown


def _entry(
    model: type[Audited], action: str, before: Row | None, values: Row, moment: datetime
) -> Row:
    """The audit entry of one change; `values` is the row after it, or the last of a deleted one."""
    (key,) = model.__table__.primary_key.columns.keys()
    data = {
        "table": model.__tablename__,
        "id": values[key],
        "action": action,
        "before": None if before is None else _visible(model, before),
        "after": None if action == "delete" else _visible(model, values),
    }
    return {
        "event_id": ulid_now(),
        "table_name": model.__tablename__,
        "row_id": values[key],
        "sequence": values["version"] + (1 if action == "delete" else 0),
        "action": action,
        "type": f"shop.{model.audit_noun}.{_VERBS[action]}",
        "data": orjson.dumps(data, option=orjson.OPT_UTC_Z).decode(),
        "actor": provenance.actor.get(),
        "request_id": provenance.request_id.get(),
        "created_at": moment,
    }


def _changes(state: InstanceState[Any]) -> Row:
    """Old values of the columns that this flush changes; empty when it changes none."""
    changed = {}
    for key in state.mapper.column_attrs.keys():  # noqa: SIM118 (iterating gives the attributes)
        history = state.attrs[key].history
        if history.has_changes():
            changed[key] = history.deleted[0] if history.deleted else None
    return changed


def _values(state: InstanceState[Any]) -> Row:
    # What was never set is NULL now.
    return dict.fromkeys(state.mapper.column_attrs.keys()) | state.dict


def _place(item: Audited) -> tuple[str, Any]:
    # The session knows what changed as a set, whose order is that of addresses in memory.
    return type(item).__tablename__, inspect(item).identity


def _entries(session: Session) -> Iterable[Row]:
    moment = clock.now()
    for item in session.new:
        if isinstance(item, Audited):
            yield _entry(type(item), "insert", None, _values(inspect(item)), moment)
    deleted = session.info.pop("deleted", [])
    changed = {it for it in session.dirty if isinstance(it, Audited)}.difference(deleted)
    for item in sorted(changed, key=_place):
        state = inspect(item)
        if before := _changes(state):
            yield _entry(type(item), "update", before, _values(state), moment)
    for item in deleted:
        values = _values(inspect(item))
        yield _entry(type(item), "delete", values, values, moment)


class AuditedWrites:
    """Writes rows of audited tables without objects: several times faster, and as audited.

    The entries of all rows are written when the block ends, together with what was left for
    `later`::

        with AuditedWrites(session) as writes:
            product = writes.insert(Product, name="Oak table", ...)
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.connection = session.connection()
        self._moment = clock.now()
        self._changes: list[tuple[type[Audited], str, Row | None, Row]] = []
        self._later: list[tuple[Table, list[Row]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is not None:
            return
        if self._changes:
            written = clock.now()
            entries = [_entry(*change, written) for change in self._changes]
            self.later(AuditEntry.__table__, entries)
            self._session.info["audited"] = True
        self._write_the_rest()

    def _write_the_rest(self) -> None:
        bundle = Bundle(self.connection)
        for table, rows in self._later:
            if len(rows) > _FEW:
                bundle.send()
                bundle = Bundle(self.connection)
                insert_rows(self.connection, table, rows)
            else:
                add_insert(bundle, table, rows)
        bundle.send()

    def later(self, table: Any, rows: list[Row]) -> None:
        """Insert rows of the same columns when the block ends: nobody needs their ids before."""
        if rows:
            self._later.append((table, rows))

    def insert(self, model: type[Audited], **values: Any) -> Row:
        """Insert one row; answers it as it is stored: id, version 1 and defaults filled in."""
        row = self.row_of(model, **values)
        return self.inserted(model, row, insert_rows(self.connection, model.__table__, [row]))

    def row_of(self, model: type[Audited], **values: Any) -> Row:
        """A new row as it is to be stored, by a statement that the caller sends."""
        row = {name: self._default(column) for name, column in _defaults(model.__table__)}
        return row | {"version": 1} | values

    def inserted(self, model: type[Audited], row: Row, number: int) -> Row:
        """Say that a row was inserted under the id `number`, unless it has one; answers it."""
        (key,) = model.__table__.primary_key.columns.keys()
        row.setdefault(key, number)
        self._changes.append((model, "insert", None, row))
        return row

    def insert_many(
        self, model: type[Audited], rows: Sequence[Row], *, by: str | None = None
    ) -> list[Row]:
        """Insert rows that name the same columns, with few statements; answers what `insert` does.

        Where the database makes the ids, `by` is a unique column that tells which row got which.
        (MySQL cannot tell the ids of several rows: it inserts them one by one.) Without it they
        are inserted `later`.
        """
        table = model.__table__
        (key,) = table.primary_key.columns.keys()
        if by is not None and (len(rows) < 2 or not self.connection.dialect.insert_returning):
            return [self.insert(model, **row) for row in rows]
        defaults = {name: self._default(column) for name, column in _defaults(table)}
        whole = [defaults | {"version": 1} | row for row in rows]
        if by is None:
            self.later(table, whole)
        else:
            ids = {name: id_ for id_, name in _insert_numbered(self.connection, table, whole, by)}
            for row in whole:
                row[key] = ids[row[by]]
        self._changes += [(model, "insert", None, row) for row in whole]
        return whole

    def updated(self, model: type[Audited], before: Row, row: Row) -> None:
        """Say that a row, whose version was raised, was changed in this transaction.

        `before` has the old values of the changed columns, `row` the whole row as it is now.
        """
        self._changes.append((model, "update", before, row))

    def _default(self, value: Any) -> Any:
        # All times of one unit of work are the same instant.
        return self._moment if callable(value) else value


#: Rows of one INSERT; SQLite takes 32,766 values in a statement.
_MOST_ROWS = 500
#: So many rows of one table may go in a bundle.
_FEW = 50


class _Insert(NamedTuple):
    """An INSERT as the driver takes it, in parts: `group` is what stands there for each row."""

    beginning: str
    group: str
    end: str
    columns: list[tuple[str, Callable[[Any], Any] | None]]

    def text(self, rows: int) -> str:
        """The statement for so many rows."""
        return self.beginning + ", ".join([self.group] * rows) + self.end

    def values(self, *rows: Row) -> tuple[Any, ...]:
        """The values of rows, as the driver takes them."""
        return tuple(
            process(row[name]) if process else row[name]
            for row in rows
            for name, process in self.columns
        )

    def of(self, rows: Sequence[Row]) -> tuple[str, tuple[Any, ...]]:
        """The statement for these rows, and its values."""
        return self.text(len(rows)), self.values(*rows)


@lru_cache
def _inserting(
    table: Any, dialect: Dialect, names: frozenset[str], returned: str | None = None
) -> _Insert:
    """An INSERT of these columns; it answers the key and the column `returned`, if there is one."""
    columns = [column for column in table.columns if column.key in names]
    one = insert(table)
    if returned is not None:
        one = one.returning(*table.primary_key.columns, table.columns[returned])
    text = str(one.compile(dialect=dialect, column_keys=[column.key for column in columns]))
    beginning, rest = text.split("VALUES ", 1)
    group, returning, answered = rest.partition(" RETURNING ")
    types = {column.key: column.type.dialect_impl(dialect) for column in columns}
    bound = [(name, it.bind_processor(dialect)) for name, it in types.items()]
    # Names would mean the same value in each row.
    group = _NAMED.sub("%s", group)
    return _Insert(f"{beginning}VALUES ", group, returning + answered, bound)


def add_insert(bundle: Bundle, table: Any, rows: Sequence[Row]) -> Answer:
    """Add one INSERT of some rows of the same columns to a bundle."""
    return bundle.add(*_inserting(table, bundle.dialect, frozenset(rows[0])).of(rows))


def insert_rows(connection: Connection, table: Any, rows: list[Row]) -> int:
    """Insert rows of the same columns; answers the id that the database gave to the last one.

    For the hot paths: the statement is made once, for good, and the driver gets it as it is.
    """
    inserting = _inserting(table, connection.dialect, frozenset(rows[0]))
    if len(rows) == 1:
        return connection.exec_driver_sql(*inserting.of(rows)).lastrowid
    # The driver makes long statements of them, but not too long ones.
    bound: list[Any] = [inserting.values(row) for row in rows]
    return connection.exec_driver_sql(inserting.text(1), bound).lastrowid


def _insert_numbered(
    connection: Connection, table: Any, rows: list[Row], by: str
) -> Iterator[Sequence[Any]]:
    """Insert rows of the same columns; answers the id that each got, beside its value of `by`."""
    inserting = _inserting(table, connection.dialect, frozenset(rows[0]), by)
    for first in range(0, len(rows), _MOST_ROWS):
        yield from connection.exec_driver_sql(*inserting.of(rows[first : first + _MOST_ROWS]))


@lru_cache
def _defaults(table: Table) -> list[tuple[str, Any]]:
    """Columns with a default: a plain value, or a callable, which in our models is the time."""
    columns = [column for column in table.columns if column.default is not None]
    return [(column.key, getattr(column.default, "arg", None)) for column in columns]


@event.listens_for(Session, "before_flush")
def _forget_failed_flush(session: Session, _context: Any, _instances: Any) -> None:
    session.info.pop("deleted", None)


@event.listens_for(Audited, "after_delete", propagate=True)
def _remember_deleted(_mapper: Any, _connection: Connection, item: Audited) -> None:
    # `session.deleted` lacks what was deleted because it was taken out of its parent's list.
    session = object_session(item)
    assert session is not None
    session.info.setdefault("deleted", []).append(item)


@event.listens_for(Session, "after_flush")
def record_flush(session: Session, _context: Any) -> None:
    """Write the entries of what was flushed."""
    if rows := list(_entries(session)):
        insert_rows(session.connection(), AuditEntry.__table__, rows)
        session.info["audited"] = True


@event.listens_for(Session, "do_orm_execute")
def _refuse_bulk_writes(state: ORMExecuteState) -> None:
    if not (state.is_update or state.is_delete or state.is_insert):
        return
    model = state.bind_mapper.class_ if state.bind_mapper is not None else None
    if model is not None and issubclass(model, Audited):
        raise UnauditedWrite(
            f"a bulk write on {model.__name__} leaves no audit entries: change its objects"
        )


@event.listens_for(Session, "after_commit")
def _wake_after_commit(session: Session) -> None:
    if session.info.pop("audited", False):
        wake_drain()


@event.listens_for(Session, "after_rollback")
def _forget_after_rollback(session: Session) -> None:
    session.info.pop("audited", None)
