"""The internal reader: what the audit log tells of is told to those whom it concerns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from shop.audit.events import Event
from shop.audit.readers import Reader
from shop.notifications import operations, queries
from shop.notifications.news import TABLES, Notice, changes_of, news_of, variants_in


def reader(low_stock: int) -> Reader:
    """The reader of a shop; stock of variants without a threshold is low at this mark."""
    return Reader(queries.READER, TABLES, partial(_tell, low_stock))


def _tell(low_stock: int, session: Session, events: Sequence[Event]) -> None:
    changes = changes_of(events)
    variants = _variants(session, variants_in(changes))
    marks = {it.id: _mark(it, low_stock) for it in variants.values()}
    if notices := news_of(changes, marks):
        operations.notify(session, [_named(notice, variants) for notice in notices])


def _variants(session: Session, ids: Collection[int]) -> dict[int, Any]:
    return {it.id: it for it in session.execute(queries.variants(ids))} if ids else {}


def _mark(variant: Any, low_stock: int) -> int:
    # Of a variant with a threshold less than that is too little.
    threshold = variant.low_stock_threshold
    return low_stock if threshold is None else int(threshold) - 1


def _named(notice: Notice, variants: Mapping[int, Any]) -> Notice:
    """Variants get the names that people know them by."""
    variant = variants.get(notice.data.get("variant_id", 0))
    if variant is None:
        return notice
    return replace(notice, data=notice.data | {"name": f"{variant.name} ({variant.sku})"})
