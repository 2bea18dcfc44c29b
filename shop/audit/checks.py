"""Is the log complete, and does it agree with the rows it tells of?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, literal, or_, select
from sqlalchemy.orm import Session, aliased

from shop.audit.capture import Audited
from shop.audit.models import AuditEntry, AuditHead
from shop.checks import MOST_FINDINGS, Check, Question, Result, found, how_many
from shop.db import Base

_NEXT = aliased(AuditEntry)
_ROW = (AuditEntry.table_name, AuditEntry.row_id)


def positions(session: Session) -> Result:
    """Positions are 1, 2, 3 ... up to the head; what is not stamped yet has none."""
    head = select(AuditHead.position).where(AuditHead.id == 1).scalar_subquery()
    lowest = select(func.min(AuditEntry.position)).scalar_subquery()
    highest = select(func.coalesce(func.max(AuditEntry.position), 0)).scalar_subquery()
    hole = (
        select(literal("a hole").label("what"), (AuditEntry.position + 1).label("position"))
        .where(AuditEntry.position < head)
        .where(~exists().where(_NEXT.position == AuditEntry.position + 1))
        .order_by(AuditEntry.position)
    )
    first = select(literal("not the first").label("what"), lowest.label("position")).where(
        lowest != 1
    )
    last = select(
        literal("not the head").label("what"), highest.label("position"), head.label("head")
    ).where(or_(head.is_(None), head != highest))
    return found(session, how_many(AuditEntry), first, hole, last)


def sequences(session: Session) -> Result:
    """The sequences of each row are 1, 2, 3 ..."""
    count, lowest, highest = (
        func.count(),
        func.min(AuditEntry.sequence),
        func.max(AuditEntry.sequence),
    )
    # No two entries of a row have the same sequence: a rule of the table.
    wrong = (
        select(*_ROW, count.label("entries"), lowest.label("first"), highest.label("last"))
        .group_by(*_ROW)
        .having(or_(lowest != 1, highest != count))
    )
    return found(session, how_many(AuditEntry), wrong)


def rows(session: Session) -> Result:
    """The last entry of each audited row shows it as it is, or that it was deleted."""
    looked_at, more = 0, False
    findings: list[dict[str, Any]] = []
    for model in _audited():
        result = found(session, how_many(model), _unlike_its_entry(model), _gone_unsaid(model))
        looked_at += result.looked_at
        findings += result.findings
        more = more or result.more
    more = more or len(findings) > MOST_FINDINGS
    return Result(looked_at, findings[:MOST_FINDINGS], more)


def _audited() -> list[type[Audited]]:
    models = [mapper.class_ for mapper in Base.registry.mappers]
    found = [model for model in models if issubclass(model, Audited)]
    return sorted(found, key=lambda model: model.__tablename__)


def _key(model: type[Audited]) -> ColumnElement[int]:
    (key,) = model.__table__.primary_key.columns
    return key  # type: ignore[no-any-return]


def _entry_at(model: type[Audited], entry: Any, sequence: Any) -> ColumnElement[bool]:
    # All of the unique key: each row costs one look into the index.
    return and_(
        entry.table_name == model.__tablename__,
        entry.row_id == _key(model),
        entry.sequence == sequence,
    )


def _unlike_its_entry(model: type[Audited]) -> Question:
    """Rows whose last entry is missing, is a deletion, or shows another version."""
    told = func.json_extract(AuditEntry.data, "$.after.version")
    return (
        select(
            literal(model.__tablename__).label("table"),
            _key(model).label("id"),
            model.version.label("version"),
            AuditEntry.action.label("last_entry"),
            _NEXT.action.label("further_entry"),
        )
        .select_from(model)
        .outerjoin(AuditEntry, _entry_at(model, AuditEntry, model.version))
        .outerjoin(_NEXT, _entry_at(model, _NEXT, model.version + 1))
        .where(
            or_(
                AuditEntry.id.is_(None),
                AuditEntry.action == "delete",
                told.is_(None),
                told != model.version,
                _NEXT.id.is_not(None),
            )
        )
    )


def _gone_unsaid(model: type[Audited]) -> Question:
    """Rows that are not there although their last entry is no deletion."""
    following = and_(
        _NEXT.table_name == AuditEntry.table_name,
        _NEXT.row_id == AuditEntry.row_id,
        _NEXT.sequence == AuditEntry.sequence + 1,
    )
    return select(
        AuditEntry.table_name.label("table"),
        AuditEntry.row_id.label("id"),
        literal(None).label("version"),
        AuditEntry.action.label("last_entry"),
    ).where(
        AuditEntry.table_name == model.__tablename__,
        AuditEntry.action != "delete",
        ~exists().where(following),
        ~exists().where(_key(model) == AuditEntry.row_id),
    )


CHECKS = (
    Check("audit-positions", positions),
    Check("audit-sequences", sequences),
    Check("audit-rows", rows),
)
