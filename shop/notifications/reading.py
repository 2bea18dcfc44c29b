"""The internal reader: what the audit log tells of is told to those whom it concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy.orm import Session

from shop.audit.events import Event
from shop.audit.readers import Reader
from shop.notifications import operations, queries
from shop.notifications.news import TABLES, Notice, news_of


def reader(low_stock: int) -> Reader:
    """The reader of a shop whose stock is low at or below the mark."""
    return Reader(queries.READER, TABLES, partial(_tell, low_stock))


def _tell(low_stock: int, session: Session, events: Sequence[Event]) -> None:
    if notices := news_of(events, low_stock):
        operations.notify(session, _with_names(session, notices))


def _with_names(session: Session, notices: Sequence[Notice]) -> list[Notice]:
    """Variants get the names that people know them by, if they are still there."""
    ids = {it.data["variant_id"] for it in notices if "variant_id" in it.data}
    rows = session.execute(queries.names_of(ids)).all() if ids else ()
    names = {row.id: f"{row.name} ({row.sku})" for row in rows}
    return [_named(notice, names) for notice in notices]


def _named(notice: Notice, names: dict[int, str]) -> Notice:
    variant_id = notice.data.get("variant_id")
    if variant_id is None:
        return notice
    return replace(notice, data=notice.data | {"name": names.get(variant_id, f"{variant_id}")})
