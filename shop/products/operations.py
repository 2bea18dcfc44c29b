"""What happens to the catalogue."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from slugify import slugify
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop.audit.capture import AuditedInserts, Row
from shop.db import is_duplicate
from shop.errors import Conflict, NotFound
from shop.products import queries
from shop.products.models import Product, StockLevel, Variant

_LONGEST_SLUG = 200


class SkuTaken(Conflict):
    """A SKU names one variant in the whole shop."""


class SlugTaken(Conflict):
    """A slug names one product."""


@dataclass(frozen=True, slots=True)
class Created:
    """The rows of a new product, as they are stored; a variant's with its `on_hand`."""

    product: Row
    variants: list[Row]


def create_product(session: Session, data: dict[str, Any]) -> Created:
    """Create a product with its variants and their stock.

    `data` is a loaded `ProductIn`. Without a slug it gets one from its name.

    Raises:
        SkuTaken, SlugTaken: another one has it.
    """
    skus = [variant["sku"] for variant in data["variants"]]
    if len(set(skus)) < len(skus):
        raise SkuTaken("Two variants of the request have the same SKU.")
    with _unique_names(), AuditedInserts(session) as inserts:
        return insert_product(inserts, data)


def insert_product(inserts: AuditedInserts, data: dict[str, Any]) -> Created:
    """Insert the rows of a product; see `create_product`."""
    fields = ("name", "description", "status", "attributes")
    values = {field: data[field] for field in fields}
    if "slug" in data:
        product = inserts.add(Product, **values, slug=data["slug"])
    else:
        product = _insert_with_free_slug(inserts, values)
    variants = [_insert_variant(inserts, product["id"], variant) for variant in data["variants"]]
    return Created(product, variants)


def _insert_variant(inserts: AuditedInserts, product_id: int, data: dict[str, Any]) -> Row:
    variant = inserts.add(
        Variant,
        product_id=product_id,
        sku=data["sku"],
        name=data["name"],
        price_amount=data["price"]["amount"],
        currency=data["price"]["currency"],
        attributes=data["attributes"],
    )
    inserts.add(StockLevel, variant_id=variant["id"], on_hand=data["stock"])
    return variant | {"on_hand": data["stock"]}


def _insert_with_free_slug(inserts: AuditedInserts, values: dict[str, Any]) -> Row:
    slug = slugify(values["name"], max_length=_LONGEST_SLUG, word_boundary=True)
    if slug.isdecimal():
        slug = f"product-{slug}"
    try:
        if slug:
            return inserts.add(Product, **values, slug=slug)
    except IntegrityError as error:
        # Tried, not asked first: that is a query less, and nobody can come in between. The
        # failed statement leaves the transaction as it was.
        if not is_duplicate(error, "products", "slug"):
            raise
    # Chance, not a counter: two requests at once must not both find the same next number.
    return inserts.add(Product, **values, slug=f"{slug or 'product'}-{secrets.token_hex(4)}")


def change_product(session: Session, product: Product, changes: dict[str, Any]) -> None:
    """Change the product's own fields. Raises SlugTaken."""
    for field, value in changes.items():
        setattr(product, field, value)
    with _unique_names():
        session.flush()


def delete_product(session: Session, product: Product) -> None:
    """Delete a product and what it owns; its ids and SKUs' rows are never used again."""
    session.delete(product)
    session.flush()


def find_for_change(session: Session, product_id: int) -> Product:
    """The product under a lock. Raises NotFound."""
    product = session.execute(queries.for_change(product_id)).scalar_one_or_none()
    if product is None:
        raise NotFound(f"There is no product {product_id}.")
    return product


@contextmanager
def _unique_names() -> Iterator[None]:
    """Say which name is taken, instead of what the database says."""
    try:
        yield
    except IntegrityError as error:
        if is_duplicate(error, "variants", "sku"):
            raise SkuTaken("One of the SKUs is taken. A SKU names one variant.") from error
        if is_duplicate(error, "products", "slug"):
            raise SlugTaken("The slug is taken. Choose another one.") from error
        raise
