"""The internal reader: what the audit log tells of is told to those whom it concerns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    ids = variants_in(changes)
    rows = session.execute(queries.variants(ids, low_stock)) if ids else ()
    variants = {row.id: row for row in rows}
    marks = {row.id: row.mark for row in variants.values()}
    if notices := news_of(changes, marks):
        operations.notify(session, [_named(notice, variants) for notice in notices])


def _named(notice: Notice, variants: Mapping[int, Any]) -> Notice:
    """Variants get the names that people know them by."""
    variant = variants.get(notice.data.get("variant_id", 0))
    if variant is None:
        return notice
    return replace(notice, data=notice.data | {"name": f"{variant.name} ({variant.sku})"})
