"""The derived rows that lists, filters and search look at, kept right by every change.

A product's listing is the last row that a change locks: nobody takes stock after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.orm import Session

from shop.audit.capture import AuditedWrites
from shop.inserts import insert_rows
from shop.products import search
from shop.products.models import ListedValue, Product, ProductListing, Variant

_LONGEST_NAME = 100


def open_listings(
    writes: AuditedWrites,
    products: Iterable[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]],
) -> None:
    """Write the listings of new products, each with its variants and their `on_hand`, as stored."""
    rows: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    for product, variants in products:
        stocked = sum(variant["on_hand"] > 0 for variant in variants)
        opened = {"product_id": product["id"], "rating": 0, "stocked_variants": stocked}
        listing = _derived(product, variants) | opened
        rows.append(listing)
        values += _value_rows(listing, _attributes(product, variants))
    writes.later(ProductListing.__table__, rows)
    writes.later(ListedValue.__table__, values)


def refresh(session: Session, product: Product, *, stocked: int = 0) -> None:
    """Make the listing of a changed product anew; the product must be locked.

    `stocked` says by how many its variants in stock are more or fewer: they are counted, never
    looked up, since a sale may change them at the same time.
    """
    rows = _rows(product)
    listing = _derived(*rows) | {"product_id": product.id}
    values = dict(listing)
    if stocked:
        values["stocked_variants"] = ProductListing.stocked_variants + stocked
    connection = session.connection()
    connection.execute(_change(product.id, values))
    _keep_values(connection, product.id, _value_rows(listing, _attributes(*rows)))


def close_listing(session: Session, product: Product) -> None:
    """Delete what is listed of a product that is about to go."""
    for model in (ListedValue, ProductListing):
        session.execute(delete(model).where(model.product_id == product.id))


def count_stocked(connection: Connection, variant_id: int, before: int, after: int) -> None:
    """Count a variant in when there is some of it again, and out when the last is gone."""
    if (before > 0) == (after > 0):
        return
    product_id = select(Variant.product_id).where(Variant.id == variant_id).scalar_subquery()
    change = ProductListing.stocked_variants + (1 if after > 0 else -1)
    connection.execute(_change(product_id, {"stocked_variants": change}))


def rate(connection: Connection, product_id: int, stars: Iterable[int]) -> None:
    """Set the rating of a product of which so many gave one to five stars."""
    counts = list(stars)
    points = sum(n * count for n, count in enumerate(counts, 1))
    average = round(100 * points / sum(counts)) if any(counts) else 0
    connection.execute(_change(product_id, {"rating": average}))


def _rows(product: Product) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A product and its variants by column names, read again where a rollback forgot them."""
    product_row, *variant_rows = (
        {column.key: getattr(it, column.key) for column in it.__table__.columns}
        for it in (product, *product.variants)
    )
    return product_row, variant_rows


def _derived(product: Mapping[str, Any], variants: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    variants = list(variants)
    texts = [product["name"], product["description"]]
    texts += [variant[field] for variant in variants for field in ("name", "sku")]
    texts += [value for _, value in _attributes(product, variants)]
    name = " ".join(search.split(product["name"]))[:_LONGEST_NAME]
    return {
        "status": product["status"],
        "category_id": product["category_id"],
        "name": name,
        "price_from": min(variant["price_amount"] for variant in variants),
        "words": search.words_of(texts, name),
        "words_version": search.VERSION,
    }


def _attributes(
    product: Mapping[str, Any], variants: Iterable[Mapping[str, Any]]
) -> set[tuple[str, str]]:
    found = (pair for owner in (product, *variants) for pair in owner["attributes"].items())
    return {(code, _text(value)) for code, value in found if value != ""}


def _text(value: Any) -> str:
    """A value of an attribute as it is looked for: `red`, `5`, `true`."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _keep_values(connection: Connection, product_id: int, wanted: list[dict[str, Any]]) -> None:
    listed = ListedValue.__table__
    of_it = ListedValue.product_id == product_id
    known = {tuple(row) for row in connection.execute(select(*listed.columns).where(of_it))}
    if known - {tuple(row.values()) for row in wanted}:
        connection.execute(delete(ListedValue).where(of_it))
        known = set()
    if new := [row for row in wanted if tuple(row.values()) not in known]:
        insert_rows(connection, listed, new)


def _value_rows(
    listing: Mapping[str, Any], attributes: Iterable[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Rows of `ListedValue`, their columns in its order."""
    owner = {name: listing[name] for name in ("status", "price_from", "product_id")}
    return [{"code": code, "value": value} | owner for code, value in sorted(attributes)]


def _change(product_id: Any, values: dict[str, Any]) -> Any:
    return update(ProductListing).where(ProductListing.product_id == product_id).values(values)
