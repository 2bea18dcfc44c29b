"""Capture: every flush of an audited row writes its audit entry in the same transaction.

Entries are written *after* the flush, so that a row's entries get their ids while its lock is
held and their id order is the row's commit order. Writing them before it gives inversions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Self

import orjson
from sqlalchemy import BigInteger, Connection, Table, event, inspect
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
from shop.inserts import Row, add_insert, insert_rows

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
    `later` and whatever else is in the bundle `last`::

        with AuditedWrites(session) as writes:
            product = writes.insert(Product, name="Oak table", ...)
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.connection = session.connection()
        self.last = Bundle(self.connection)
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
        for table, rows in self._later:
            if len(rows) > _FEW:
                # In their order: rows may refer to those before them.
                self.last.send()
                self.last = Bundle(self.connection)
                insert_rows(self.connection, table, rows)
            else:
                add_insert(self.last, table, rows)
        self.last.send()

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
        if by is None:
            whole = self._whole(model, rows)
            self.later(model.__table__, whole)
            self._note(model, whole)
            return whole
        bundle = Bundle(self.connection)
        inserted = self.add_many(bundle, model, rows, by=by)
        bundle.send()
        return inserted()

    def add_many(
        self, bundle: Bundle, model: type[Audited], rows: Sequence[Row], *, by: str
    ) -> Callable[[], list[Row]]:
        """`insert_many` in a bundle; what it answers is to be called once that was sent.

        A value may be the answer to the statement before: then it is the id which that gives.
        """
        whole = self._whole(model, rows)
        numbered = len(rows) > 1 and bundle.dialect.insert_returning
        size = _MOST_ROWS if numbered else 1
        pieces = [whole[first : first + size] for first in range(0, len(whole), size)]
        returned = by if numbered else None
        answers = [add_insert(bundle, model.__table__, piece, returned) for piece in pieces]

        def inserted() -> list[Row]:
            if numbered:
                ids = {name: id_ for answer in answers for id_, name in answer.rows}
                numbers = [ids[row[by]] for row in whole]
            else:
                numbers = [answer.lastrowid for answer in answers]
            self._number(model, whole, numbers)
            return whole

        return inserted

    def _whole(self, model: type[Audited], rows: Sequence[Row]) -> list[Row]:
        defaults = {name: self._default(column) for name, column in _defaults(model.__table__)}
        return [defaults | {"version": 1} | row for row in rows]

    def _number(self, model: type[Audited], rows: Sequence[Row], numbers: Iterable[int]) -> None:
        """Say that rows were inserted under these ids."""
        (key,) = model.__table__.primary_key.columns.keys()
        given = [name for name, value in rows[0].items() if type(value) is Answer] if rows else []
        for row, number in zip(rows, numbers, strict=True):
            row[key] = number
            for name in given:
                row[name] = row[name].lastrowid
        self._note(model, rows)

    def _note(self, model: type[Audited], rows: Iterable[Row]) -> None:
        self._changes += [(model, "insert", None, row) for row in rows]

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
