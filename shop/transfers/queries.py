"""Questions about files that come in and go out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, func, or_, select

from shop.db import database_ms
from shop.products.models import Product, StockLevel, Variant
from shop.transfers.models import OPEN, ImportFault, ProductExport, ProductImport

#: An import or an export.
T = TypeVar("T", ProductImport, ProductExport)


def due(model: type[T]) -> Select[int, str]:
    """Ids and files of what is open and nobody's, the oldest first."""
    return (
        select(model.id, model.file)
        .where(model.status.in_(OPEN), model.due_ms <= database_ms())
        .order_by(model.id)
    )


def held(model: type[T], transfer_id: int, claim: str) -> Select[T]:
    """What is still held by this claim, under a lock."""
    return (
        select(model)
        .where(model.id == transfer_id, model.claim == claim, model.status.in_(OPEN))
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def newest(model: type[T], before: int, limit: int) -> Select[T]:
    """Those before the id `before`, newest first."""
    return select(model).where(model.id < before).order_by(model.id.desc()).limit(limit)


def unfinished(digest: str, policy: str, *, dry_run: bool) -> Select[ProductImport]:
    """Imports of the same file in the same way that have not ended, newest first."""
    return (
        select(ProductImport)
        .where(
            ProductImport.digest == digest,
            ProductImport.policy == policy,
            ProductImport.dry_run == dry_run,
            ProductImport.status.in_(OPEN),
        )
        .order_by(ProductImport.id.desc())
    )


def faults_of(import_id: int, after: int, limit: int) -> Select[ImportFault]:
    """What is wrong in a file, in the order of its lines, after the id `after`."""
    return (
        select(ImportFault)
        .where(ImportFault.import_id == import_id, ImportFault.id > after)
        .order_by(ImportFault.id)
        .limit(limit)
    )


def products_after(
    columns: Sequence[Any], after: int, limit: int, status: str | None, categories: set[int] | None
) -> Select[Any]:
    """Id and columns of products after the id `after`, by id."""
    found = select(Product.id, *columns).where(Product.id > after, *_chosen(status, categories))
    return found.order_by(Product.id).limit(limit)


def product_count(status: str | None, categories: set[int] | None) -> Select[int]:
    """How many products there are of this kind."""
    return select(func.count()).select_from(Product).where(*_chosen(status, categories))


def _chosen(status: str | None, categories: set[int] | None) -> list[Any]:
    found: list[Any] = [] if status is None else [Product.status == status]
    if categories is not None:
        found.append(Product.category_id.in_(sorted(categories)))
    return found


def variants_of(columns: Sequence[Any], product_ids: Sequence[int]) -> Select[Any]:
    """Product id and columns of the variants of these products, in the order of their making."""
    return (
        select(Variant.product_id, *columns)
        .join(StockLevel, StockLevel.variant_id == Variant.id)
        .where(Variant.product_id.in_(product_ids))
        .order_by(Variant.id)
    )


def old(model: type[T], before: datetime, limit: int) -> Select[int]:
    """Ids of those from before that instant that nobody works on."""
    idle = or_(model.status.not_in(OPEN), model.due_ms.is_(None), model.due_ms <= database_ms())
    return select(model.id).where(model.created_at < before, idle).order_by(model.id).limit(limit)


def faults_among(import_ids: Sequence[int], limit: int) -> Select[int]:
    """Ids of faults of these imports."""
    return select(ImportFault.id).where(ImportFault.import_id.in_(import_ids)).limit(limit)


def files(model: type[T]) -> Select[str]:
    """The names of all files."""
    return select(model.file)
