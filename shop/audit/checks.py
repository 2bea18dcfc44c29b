"""Is the log complete, and does it agree with the rows it tells of?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, func, literal, or_, select, true
from sqlalchemy.orm import Session, aliased

from shop.audit.capture import Audited
from shop.audit.models import AuditEntry, AuditHead
from shop.audit.queries import PRUNED
from shop.audit.seal_checks import seals
from shop.checks import MOST_FINDINGS, Check, Question, Result, found, how_many
from shop.db import Base

_NEXT = aliased(AuditEntry)
_ROW = (AuditEntry.table_name, AuditEntry.row_id)


def positions(session: Session) -> Result:
    """Positions are 1, 2, 3 ... up to the head; what is not stamped yet has none.

    They begin behind what was removed for its age.
    """
    pruned = _pruned(session)
    kept = AuditEntry.position > pruned
    head = select(AuditHead.position).where(AuditHead.id == 1).scalar_subquery()
    lowest = select(func.min(AuditEntry.position)).where(kept).scalar_subquery()
    highest = (
        select(func.coalesce(func.max(AuditEntry.position), pruned)).where(kept).scalar_subquery()
    )
    hole = (
        select(literal("a hole").label("what"), (AuditEntry.position + 1).label("position"))
        .where(AuditEntry.position < head, kept)
        .where(~exists().where(_NEXT.position == AuditEntry.position + 1))
        .order_by(AuditEntry.position)
    )
    first = select(literal("not the first").label("what"), lowest.label("position")).where(
        lowest != pruned + 1
    )
    last = select(
        literal("not the head").label("what"), highest.label("position"), head.label("head")
    ).where(or_(head.is_(None), head != highest))
    return found(session, how_many(AuditEntry), first, hole, last)


def sequences(session: Session) -> Result:
    """The sequences of each row are 1, 2, 3 ..., or go on behind what was removed for its age."""
    pruned = _pruned(session)
    count, lowest, highest = (
        func.count(),
        func.min(AuditEntry.sequence),
        func.max(AuditEntry.sequence),
    )
    # No two entries of a row have the same sequence: a rule of the table.
    wrong = (
        select(*_ROW, count.label("entries"), lowest.label("first"), highest.label("last"))
        .where(_is_kept(pruned))
        .group_by(*_ROW)
        .having(or_(lowest != 1 if not pruned else false(), highest - lowest + 1 != count))
    )
    return found(session, how_many(AuditEntry), wrong)


def rows(session: Session) -> Result:
    """The last entry of each audited row shows it as it is, or that it was deleted."""
    pruned = _pruned(session)
    looked_at, more = 0, False
    findings: list[dict[str, Any]] = []
    for model in _audited():
        result = found(session, how_many(model), *_about(model, pruned))
        looked_at += result.looked_at
        findings += result.findings
        more = more or result.more
    more = more or len(findings) > MOST_FINDINGS
    return Result(looked_at, findings[:MOST_FINDINGS], more)


def _pruned(session: Session) -> int:
    return session.execute(PRUNED).scalar_one()


def _is_kept(pruned: int, entry: Any = AuditEntry) -> ColumnElement[bool]:
    """Not among those removed for their age: of these single ones may be left."""
    if not pruned:
        return true()
    return or_(entry.position.is_(None), entry.position > pruned)


def _about(model: type[Audited], pruned: int) -> tuple[Question, Question]:
    return _unlike_its_entry(model, pruned), _gone_unsaid(model, pruned)


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


def _unlike_its_entry(model: type[Audited], pruned: int) -> Question:
    """Rows whose last entry is missing, is a deletion, or shows another version."""
    told = func.json_extract(AuditEntry.data, "$.after.version")
    missing: ColumnElement[bool] = AuditEntry.id.is_(None)
    if pruned:
        # It may have been removed for its age, and then so was the one before it.
        entry = aliased(AuditEntry)
        before = exists().where(_entry_at(model, entry, model.version - 1), _is_kept(pruned, entry))
        missing = and_(missing, or_(before, _NEXT.id.is_not(None)))
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
                missing,
                AuditEntry.action == "delete",
                and_(AuditEntry.id.is_not(None), told.is_(None)),
                told != model.version,
                _NEXT.id.is_not(None),
            )
        )
    )


def _gone_unsaid(model: type[Audited], pruned: int) -> Question:
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
        _is_kept(pruned),
        ~exists().where(following),
        ~exists().where(_key(model) == AuditEntry.row_id),
    )


CHECKS = (
    Check("audit-positions", positions),
    Check("audit-sequences", sequences),
    Check("audit-rows", rows),
    Check("audit-seals", seals),
)
