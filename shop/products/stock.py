"""The stock of variants: counted by conditional updates, every change of it a movement.

Whoever changes several variants does so in the order of their ids, before anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Select, Update, bindparam, case, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from shop import clock, provenance
from shop.audit.capture import AuditedWrites
from shop.bundles import Answer, Bundle
from shop.errors import Conflict, NotFound
from shop.inserts import Row
from shop.products import listings, queries
from shop.products.models import StockLevel, StockMovement

_VARIANT: Any = bindparam("variant")
_COUNT: Any = bindparam("count")
_CHANGED = {"version": StockLevel.version + 1}
_PUT_BACK = (
    update(StockLevel)
    .where(StockLevel.variant_id == _VARIANT)
    .values(on_hand=StockLevel.on_hand + _COUNT, **_CHANGED)
)


class OutOfStock(Conflict):
    """Less is there than is wanted."""

    slug = "out-of-stock"


@dataclass(frozen=True, slots=True)
class Change:
    """What a variant's stock has become by a change of `delta`."""

    variant_id: int
    product_id: int
    delta: int
    on_hand: int
    version: int


class StockChanged(Conflict):
    """The stock is not what the caller takes it for."""


def open_stock(writes: AuditedWrites, levels: Sequence[tuple[int, int]]) -> None:
    """Begin the ledgers of new variants: the id of each, and how many are there."""
    rows = [{"variant_id": variant_id, "on_hand": on_hand} for variant_id, on_hand in levels]
    writes.insert_many(StockLevel, rows)
    movements = [
        _movement(variant_id, on_hand, on_hand, reason="initial") for variant_id, on_hand in levels
    ]
    writes.later(StockMovement.__table__, movements)


def move(
    session: Session, variant_id: int, delta: int, reason: str, *, order_id: int | None = None
) -> StockLevel:
    """Put so many to a variant's stock, or take them (`delta` below 0); answers the new level.

    Raises:
        OutOfStock: that many are not there.
        NotFound: there is no such variant.
    """
    changing = (
        update(StockLevel)
        .where(StockLevel.variant_id == variant_id, StockLevel.on_hand + delta >= 0)
        .values(on_hand=StockLevel.on_hand + delta, version=StockLevel.version + 1)
    )
    with AuditedWrites(session) as writes:
        if not _changed(writes, changing):
            left = level_of(session, variant_id).on_hand
            raise OutOfStock(f"Only {left} of variant {variant_id} are there.")
        return _moved(session, writes, variant_id, delta, reason=reason, order_id=order_id)


def set_to(
    session: Session, variant_id: int, on_hand: int, expected: int, reason: str
) -> StockLevel:
    """Set a variant's stock, if it is what the caller expects; answers the new level.

    Raises:
        StockChanged: it is something else.
        NotFound: there is no such variant.
    """
    changing = (
        update(StockLevel)
        .where(StockLevel.variant_id == variant_id, StockLevel.on_hand == expected)
        .values(on_hand=on_hand, version=StockLevel.version + 1)
    )
    with AuditedWrites(session) as writes:
        if not _changed(writes, changing):
            there = level_of(session, variant_id).on_hand
            raise StockChanged(f"{there} of variant {variant_id} are there, not {expected}.")
        return _moved(session, writes, variant_id, on_hand - expected, reason=reason)


@dataclass(frozen=True, slots=True)
class Taking:
    """Stock that is taken by a bundle: what of it is known once that was sent."""

    counts: Mapping[int, int]
    update: Answer
    levels: Answer

    @property
    def is_complete(self) -> bool:
        """Whether there was enough of all; if not, roll back what was taken of the others."""
        return self.update.rowcount == len(self.counts)

    def changes(self, products: Mapping[int, int]) -> list[Change]:
        """What became of each variant, whose product `products` tells."""
        return [
            Change(variant_id, products[variant_id], -self.counts[variant_id], on_hand, version)
            for variant_id, on_hand, version in self.levels.rows
        ]


def take(bundle: Bundle, counts: Mapping[int, int]) -> Taking:
    """Take so many of each variant, all or none; `record` must follow in the same transaction."""
    values: dict[str, int] = {}
    for number, variant_id in enumerate(sorted(counts)):
        values |= {f"variant_{number}": variant_id, f"count_{number}": counts[variant_id]}
    update_, levels = _taking(len(counts))
    ids = {name: value for name, value in values.items() if name.startswith("variant_")}
    return Taking(counts, bundle.ask(update_, values), bundle.ask(levels, ids))


@lru_cache
def _taking(variants: int) -> tuple[Update, Select[int, int, int]]:
    """One statement that takes from so many variants, and one that asks what is left.

    It locks them in the order of their ids: the primary key leads it there, and rows that it does
    not change it does not wait for.
    """
    ids: list[Any] = [bindparam(f"variant_{number}") for number in range(variants)]
    counts: list[Any] = [bindparam(f"count_{number}") for number in range(variants)]
    count = case(dict(zip(ids, counts, strict=True)), value=StockLevel.variant_id)
    among = StockLevel.variant_id.in_(ids)
    taking = (
        update(StockLevel)
        .where(among, StockLevel.on_hand >= count)
        .values(on_hand=StockLevel.on_hand - count, **_CHANGED)
    )
    level = StockLevel.variant_id, StockLevel.on_hand, StockLevel.version
    return taking, select(*level).where(among)


def put_back(
    writes: AuditedWrites, counts: Mapping[int, int], reason: str, *, order_id: int
) -> None:
    """Put so many of each variant back that an order had taken."""
    for variant_id in sorted(counts):
        writes.connection.execute(_PUT_BACK, {"variant": variant_id, "count": counts[variant_id]})
    rows = writes.connection.execute(queries.LEVELS, {"ids": sorted(counts)}).all()
    changes = [
        Change(row.variant_id, row.product_id, counts[row.variant_id], row.on_hand, row.version)
        for row in rows
    ]
    record(writes, changes, reason, order_id=order_id)


def record(writes: AuditedWrites, changes: Iterable[Change], reason: str, *, order_id: int) -> None:
    """Write the movements, audit entries and listings of changes that were made for an order."""
    # By product: listings are locked in one order too.
    changes = sorted(changes, key=lambda change: (change.product_id, change.variant_id))
    moment, actor = clock.now(), provenance.actor.get()
    movements = []
    for change in changes:
        before = change.on_hand - change.delta
        now = {
            "variant_id": change.variant_id, "on_hand": change.on_hand, "version": change.version,
        }  # fmt: skip
        writes.updated(StockLevel, {"on_hand": before}, now)
        movements.append(
            {
                "variant_id": change.variant_id, "delta": change.delta, "on_hand": change.on_hand,
                "reason": reason, "order_id": order_id, "actor": actor, "created_at": moment,
            }
        )  # fmt: skip
    writes.later(StockMovement.__table__, movements)
    for change in changes:
        before = change.on_hand - change.delta
        listings.count_stocked(writes.connection, change.variant_id, before, change.on_hand)


def level_of(session: Session, variant_id: int) -> StockLevel:
    """A variant's stock as it is now. Raises NotFound."""
    level = session.get(StockLevel, variant_id, populate_existing=True)
    if level is None:
        raise NotFound(f"There is no variant {variant_id}.")
    return level


def _changed(writes: AuditedWrites, statement: object) -> bool:
    result = writes.connection.execute(statement)  # type: ignore[call-overload]
    return cast("CursorResult[object]", result).rowcount == 1


def _moved(
    session: Session,
    writes: AuditedWrites,
    variant_id: int,
    delta: int,
    *,
    reason: str,
    order_id: int | None = None,
) -> StockLevel:
    # Ours until the commit: the update has locked the row.
    level = level_of(session, variant_id)
    listings.count_stocked(writes.connection, variant_id, level.on_hand - delta, level.on_hand)
    now = {"variant_id": variant_id, "on_hand": level.on_hand, "version": level.version}
    writes.updated(StockLevel, {"on_hand": level.on_hand - delta}, now)
    movement = _movement(variant_id, delta, level.on_hand, reason=reason, order_id=order_id)
    writes.later(StockMovement.__table__, [movement])
    return level


def _movement(
    variant_id: int, delta: int, on_hand: int, *, reason: str, order_id: int | None = None
) -> Row:
    return {
        "variant_id": variant_id, "delta": delta, "on_hand": on_hand, "reason": reason,
        "order_id": order_id, "actor": provenance.actor.get(), "created_at": clock.now(),
    }  # fmt: skip
