"""Many changes of the catalogue at once, of which some may fail.

The good ones are written together, with few statements. Only when one of them loses against
somebody who came in between are they written one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from shop.audit.capture import AuditedWrites
from shop.errors import Fault, NotFound, Refusal, VersionConflict
from shop.products import attributes, listings, operations, queries
from shop.products.models import Product, Variant
from shop.products.operations import Created, NoSuchCategory, SkuTaken, SlugTaken
from shop.savepoints import savepoint

CREATED, UPDATED, FAILED = "created", "updated", "failed"


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to create; `data` is a loaded `ProductIn`."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProductChange:
    """Changes of the product `id`, a loaded `ProductPatch`; no `version` means any."""

    id: int
    version: int | None
    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VariantChange:
    """Changes of the variant with this SKU, a loaded `VariantPatch`; no `version` means any."""

    sku: str
    version: int | None
    changes: dict[str, Any]


#: What was asked for, or why it was refused before it got here.
Row = NewProduct | ProductChange | VariantChange | Refusal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: `created` and `updated` have the id and version of what it is now."""

    status: str
    id: int | None = None
    version: int | None = None
    refusal: Refusal | None = None


def write_rows(session: Session, rows: Sequence[Row]) -> list[Outcome]:
    """Do what the rows say, in their order; an outcome for each. A bad row undoes no other."""
    checks = _Checks(session, rows)
    outcomes = {n: Outcome(FAILED, refusal=why) for n, why in checks.refused.items()}
    good = {n: row for n, row in enumerate(rows) if n not in outcomes}
    try:
        with savepoint(session):
            written = _write(session, checks, good)
    except Refusal:
        # One of them: tried each by itself, it shows which.
        written = _Written()
        for n, row in good.items():
            written.add(_write_alone(session, checks, n, row))
    written.list_them(session)
    outcomes |= written.outcomes
    return [outcomes[n] for n in sorted(outcomes)]


@dataclass(slots=True)
class _Written:
    """What has become of rows, and what has to be listed for that.

    Listings are written last, outside of savepoints: MariaDB 10.11 falls over an assertion when the
    words of a full-text index are changed, rolled back to a savepoint and changed again.
    """

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    created: list[Created] = field(default_factory=list)
    changed: dict[int, Product] = field(default_factory=dict)

    def add(self, other: _Written) -> None:
        """Add what became of others."""
        self.outcomes |= other.outcomes
        self.created += other.created
        self.changed |= other.changed

    def list_them(self, session: Session) -> None:
        """Write the listings of all that was created and changed."""
        if self.created:
            new = [(it.product, it.variants) for it in self.created]
            with AuditedWrites(session) as writes:
                listings.open_listings(writes, new)
        for _, product in sorted(self.changed.items()):
            listings.refresh(session, product)


def check_rows(session: Session, rows: Sequence[Row]) -> list[Refusal | None]:
    """Why each row would fail as things are now; None for those that would not."""
    refused = _Checks(session, rows).refused
    return [refused.get(n) for n in range(len(rows))]


class _Checks:
    """What can be known of rows before they are written, by one question a kind of thing.

    The products that change are locked, in the order of their ids.
    """

    def __init__(self, session: Session, rows: Sequence[Row]) -> None:
        self.refused = {n: row for n, row in enumerate(rows) if isinstance(row, Refusal)}
        self._lock(session, rows)
        self._check_changes(rows)
        new = {n: row.data for n, row in enumerate(rows) if isinstance(row, NewProduct)}
        if new:
            self._check_new(session, new)

    def _lock(self, session: Session, rows: Sequence[Row]) -> None:
        ids = {row.id for row in rows if isinstance(row, ProductChange)}
        if skus := [row.sku for row in rows if isinstance(row, VariantChange)]:
            ids |= set(session.scalars(queries.products_of_skus(skus)))
        locked = queries.several_for_change(sorted(ids))
        products = session.scalars(locked).all() if ids else []
        self._products = {product.id: product for product in products}
        self._variants = {v.sku: v for product in products for v in product.variants}

    def _check_changes(self, rows: Sequence[Row]) -> None:
        met = set[int | str]()
        for n, row in enumerate(rows):
            if isinstance(row, ProductChange | VariantChange):
                name = row.id if isinstance(row, ProductChange) else row.sku
                if name in met:
                    # The first change of it in this request will raise its version.
                    continue
                met.add(name)
                try:
                    self.find(row)
                except Refusal as refusal:
                    self.refused[n] = refusal

    def _check_new(self, session: Session, new: dict[int, dict[str, Any]]) -> None:
        skus = [variant["sku"] for data in new.values() for variant in data["variants"]]
        slugs = [data["slug"] for data in new.values() if "slug" in data]
        wanted = {it for data in new.values() if (it := data.get("category_id")) is not None}
        taken_skus = set(session.scalars(queries.skus_among(skus)))
        taken_slugs = set(session.scalars(queries.slugs_among(slugs))) if slugs else set()
        taken_slugs |= operations.ROUTES
        there = set(session.scalars(queries.categories_among(sorted(wanted)))) if wanted else set()
        parts = [part for data in new.values() for part in operations.attributes_in(data)]
        definitions = attributes.definitions_of(session, parts)
        for n, data in new.items():
            own = [variant["sku"] for variant in data["variants"]]
            try:
                _check_names(own, data.get("slug"), taken_skus, taken_slugs)
                _check_category(data.get("category_id"), there)
                operations.check_publication(data)
                attributes.judge(operations.attributes_in(data), definitions)
            except Refusal as refusal:
                self.refused[n] = refusal
            else:
                # Those after it in the same request meet it as if it were there.
                taken_skus.update(own)
                taken_slugs.add(data.get("slug", ""))

    def find(self, change: ProductChange | VariantChange) -> Product | Variant:
        """What is to be changed. Raises NotFound, VersionConflict."""
        found: Product | Variant | None
        if isinstance(change, ProductChange):
            found, name = self._products.get(change.id), f"product {change.id}"
        else:
            found, name = self._variants.get(change.sku), f"variant {change.sku}"
            if found is not None and found.sku != change.sku:
                # An earlier row has given it another one.
                found = None
        if found is None:
            raise NotFound(f"There is no {name}.")
        if change.version is not None and change.version != found.version:
            raise VersionConflict(f"The present version of {name} is {found.version}.")
        return found


def _check_names(
    skus: list[str], slug: str | None, taken_skus: set[str], taken_slugs: set[str]
) -> None:
    if len(set(skus)) < len(skus):
        raise SkuTaken("Two variants of the product have the same SKU.")
    for place, sku in enumerate(skus):
        if sku in taken_skus:
            fault = Fault(f"/variants/{place}/sku", "Taken.")
            raise SkuTaken("One of the SKUs is taken. A SKU names one variant.", faults=(fault,))
    if slug is not None and slug in taken_slugs:
        raise SlugTaken(
            "The slug is taken. Choose another one.", faults=(Fault("/slug", "Taken."),)
        )


def _check_category(category_id: int | None, there: set[int]) -> None:
    if category_id is not None and category_id not in there:
        fault = Fault("/category_id", "There is no such category.")
        raise NoSuchCategory("There is no such category.", faults=(fault,))


def _write(session: Session, checks: _Checks, rows: Mapping[int, Row]) -> _Written:
    """Raises what the first row that cannot be written is refused for."""
    new = {n: row.data for n, row in rows.items() if isinstance(row, NewProduct)}
    written = _Written()
    if new:
        with operations.unique_names(), AuditedWrites(session) as writes:
            written.created = operations.insert_products(writes, list(new.values()))
        for n, it in zip(new, written.created, strict=True):
            written.outcomes[n] = Outcome(CREATED, it.product["id"], it.product["version"])
    for n, row in rows.items():
        if isinstance(row, ProductChange | VariantChange):
            found = checks.find(row)
            _EDIT[type(row)](session, found, row.changes)
            written.outcomes[n] = Outcome(UPDATED, found.id, found.version)
            product = found if isinstance(found, Product) else found.product
            written.changed[product.id] = product
    return written


_EDIT: dict[type, Callable[[Session, Any, dict[str, Any]], None]] = {
    ProductChange: operations.edit_product,
    VariantChange: operations.edit_variant,
}


def _write_alone(session: Session, checks: _Checks, n: int, row: Row) -> _Written:
    try:
        with savepoint(session):
            return _write(session, checks, {n: row})
    except Refusal as refusal:
        return _Written({n: Outcome(FAILED, refusal=refusal)})
