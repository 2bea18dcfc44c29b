"""Capture: every flush of an audited row writes its audit entry in the same transaction.

Entries are written *after* the flush, so that a row's entries get their ids while its lock is
held and their id order is the row's commit order. Writing them before it gives inversions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar

import orjson
from sqlalchemy import BigInteger, event, insert, inspect
from sqlalchemy.orm import Mapped, ORMExecuteState, Session, declared_attr, mapped_column
from sqlalchemy.orm.mapper import Mapper
from sqlalchemy.orm.state import InstanceState
from ulid import ULID

from shop import clock, provenance
from shop.audit.models import AuditEntry
from shop.audit.wake import wake_drain

Row = dict[str, Any]

_INSERT = insert(AuditEntry)
_VERBS = {"insert": "created", "update": "updated", "delete": "deleted"}


class Audited:
    """Mixin of a model whose changes are audited and published.

    `version` starts at 1 and rises with every UPDATE; a write from a stale copy fails. A column
    named in `audit_secret` never enters the log; one in `audit_masked` enters it masked.
    """

    audit_noun: ClassVar[str]
    audit_secret: ClassVar[frozenset[str]] = frozenset()
    audit_masked: ClassVar[dict[str, Callable[[str], str]]] = {}

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


def _visible(state: InstanceState[Any], mapper: Mapper[Any], values: Row) -> Row:
    """The row as the log may show it: secrets left out, personal data masked."""
    model: type[Audited] = state.class_
    shown = {key: values[key] for key in mapper.column_attrs.keys() if key in values}  # noqa: SIM118
    for key in model.audit_secret:
        shown.pop(key, None)
    for key, mask in model.audit_masked.items():
        if isinstance(text := shown.get(key), str):
            shown[key] = mask(text)
    return shown


def _changes(state: InstanceState[Any], mapper: Mapper[Any]) -> Row:
    """Old values of the columns that this flush changes; empty when it changes none."""
    changed = {}
    for key in mapper.column_attrs.keys():  # noqa: SIM118 (iterating gives the attributes)
        history = state.attrs[key].history
        if history.has_changes():
            changed[key] = history.deleted[0] if history.deleted else None
    return changed


def _entry(state: InstanceState[Any], action: str, before: Row | None, moment: datetime) -> Row:
    mapper, table = state.mapper, str(state.class_.__tablename__)
    values: Row = dict.fromkeys(mapper.column_attrs.keys()) | state.dict
    row_id = mapper.primary_key_from_instance(state.obj())[0]
    after = None if action == "delete" else _visible(state, mapper, values)
    data = {
        "table": table,
        "id": row_id,
        "action": action,
        "before": None if before is None else _visible(state, mapper, before),
        "after": after,
    }
    return {
        "event_id": str(ULID()),
        "table_name": table,
        "row_id": row_id,
        "sequence": values["version"] + (1 if action == "delete" else 0),
        "action": action,
        "type": f"shop.{state.class_.audit_noun}.{_VERBS[action]}",
        "data": orjson.dumps(data, option=orjson.OPT_UTC_Z).decode(),
        "actor": provenance.actor.get(),
        "request_id": provenance.request_id.get(),
        "created_at": moment,
    }


def _entries(session: Session) -> Iterable[Row]:
    moment = clock.now()
    for item in session.new:
        if isinstance(item, Audited):
            yield _entry(inspect(item), "insert", None, moment)
    for item in session.dirty:
        if isinstance(item, Audited):
            state = inspect(item)
            if before := _changes(state, state.mapper):
                yield _entry(state, "update", before, moment)
    for item in session.deleted:
        if isinstance(item, Audited):
            state = inspect(item)
            yield _entry(state, "delete", dict(state.dict), moment)


@event.listens_for(Session, "after_flush")
def _record_flush(session: Session, _context: Any) -> None:
    if rows := list(_entries(session)):
        session.connection().execute(_INSERT, rows)
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
