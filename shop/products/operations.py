"""What happens to the catalogue."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from slugify import slugify
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from shop.audit.capture import AuditedWrites, Row
from shop.db import is_duplicate, is_missing_reference
from shop.errors import Conflict, Fault, Invalid, NotFound
from shop.products import listings, queries, stock
from shop.products.models import Product, ProductRating, Variant

_LONGEST_SLUG = 200
MOST_VARIANTS = 100


class SkuTaken(Conflict):
    """A SKU names one variant in the whole shop."""


class SlugTaken(Conflict):
    """A slug names one product."""


class ProductInUse(Conflict):
    """Reviews or orders refer to the product."""


class VariantInUse(Conflict):
    """Somebody has ordered the variant."""


class LastVariant(Conflict):
    """A product cannot be without variants."""


class TooManyVariants(Conflict):
    """A product has as many variants as it can have."""


class NoSuchCategory(Invalid):
    """The category that was named is not there."""


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
        NoSuchCategory: there is none with that id.
    """
    skus = [variant["sku"] for variant in data["variants"]]
    if len(set(skus)) < len(skus):
        raise SkuTaken("Two variants of the request have the same SKU.")
    with _unique_names(), AuditedWrites(session) as writes:
        return insert_product(writes, data)


def insert_product(writes: AuditedWrites, data: dict[str, Any]) -> Created:
    """Insert the rows of a product; see `create_product`."""
    fields = ("name", "description", "status", "attributes")
    values = {field: data[field] for field in fields} | {"category_id": data.get("category_id")}
    if "slug" in data:
        product = writes.insert(Product, **values, slug=data["slug"])
    else:
        product = _insert_with_free_slug(writes, values)
    variants = [_insert_variant(writes, product["id"], variant) for variant in data["variants"]]
    listings.open_listing(writes.connection, product, variants)
    return Created(product, variants)


def _insert_variant(writes: AuditedWrites, product_id: int, data: dict[str, Any]) -> Row:
    variant = writes.insert(
        Variant,
        product_id=product_id,
        sku=data["sku"],
        name=data["name"],
        price_amount=data["price"]["amount"],
        currency=data["price"]["currency"],
        attributes=data["attributes"],
        low_stock_threshold=data.get("low_stock_threshold"),
    )
    stock.open_stock(writes, variant["id"], data["stock"])
    return variant | {"on_hand": data["stock"]}


def _insert_with_free_slug(writes: AuditedWrites, values: dict[str, Any]) -> Row:
    slug = slugify(values["name"], max_length=_LONGEST_SLUG, word_boundary=True)
    if slug.isdecimal():
        slug = f"product-{slug}"
    try:
        if slug:
            return writes.insert(Product, **values, slug=slug)
    except IntegrityError as error:
        # Tried, not asked first: that is a query less, and nobody can come in between. The
        # failed statement leaves the transaction as it was.
        if not is_duplicate(error, "products", "slug"):
            raise
    # Chance, not a counter: two requests at once must not both find the same next number.
    return writes.insert(Product, **values, slug=f"{slug or 'product'}-{secrets.token_hex(4)}")


def change_product(session: Session, product: Product, changes: dict[str, Any]) -> None:
    """Change the product's own fields. Raises SlugTaken, NoSuchCategory."""
    for field, value in changes.items():
        setattr(product, field, value)
    with _unique_names():
        session.flush()
    listings.refresh(session, product)


def delete_product(session: Session, product: Product) -> None:
    """Delete a product and what it owns; its ids are never used again. Raises ProductInUse."""
    session.execute(delete(ProductRating).where(ProductRating.product_id == product.id))
    listings.close_listing(session, product)
    session.delete(product)
    try:
        session.flush()
    except StaleDataError as error:
        raise ProductInUse("The product was sold at this moment. Look again.") from error
    except IntegrityError as error:
        raise ProductInUse("Something refers to this product: archive it instead.") from error


def add_variant(session: Session, product: Product, data: dict[str, Any]) -> Row:
    """Add a variant with its stock to a product, which must be locked; answers the row.

    Raises:
        SkuTaken: another variant has the SKU.
        TooManyVariants: the product has as many as it can have.
    """
    if len(product.variants) >= MOST_VARIANTS:
        raise TooManyVariants(f"A product has {MOST_VARIANTS} variants at most.")
    with _unique_names(), AuditedWrites(session) as writes:
        variant = _insert_variant(writes, product.id, data)
    session.refresh(product, ["variants"])
    listings.refresh(session, product, stocked=int(variant["on_hand"] > 0))
    return variant


def find_variant_for_change(session: Session, variant_id: int) -> Variant:
    """The variant with its product under a lock. Raises NotFound."""
    product_id = session.execute(queries.product_of(variant_id)).scalar_one_or_none()
    if product_id is not None:
        # The product first: so whoever adds or deletes one of its variants waits in one line.
        product = find_for_change(session, product_id)
        for variant in product.variants:
            if variant.id == variant_id:
                return variant
    raise NotFound(f"There is no variant {variant_id}.")


def change_variant(session: Session, variant: Variant, changes: dict[str, Any]) -> None:
    """Change a variant's own fields, not its stock. Raises SkuTaken."""
    price = changes.get("price")
    if price is not None:
        variant.price_amount, variant.currency = price["amount"], price["currency"]
    for field in ("sku", "name", "attributes", "low_stock_threshold"):
        if field in changes:
            setattr(variant, field, changes[field])
    with _unique_names():
        session.flush()
    listings.refresh(session, variant.product)


def delete_variant(session: Session, variant: Variant) -> None:
    """Delete a variant with its stock. Raises LastVariant, VariantInUse."""
    if len(variant.product.variants) == 1:
        raise LastVariant("A product has one variant at least: delete the product, or archive it.")
    product, stocked = variant.product, variant.stock.on_hand > 0
    product.variants.remove(variant)
    try:
        session.flush()
    except IntegrityError as error:
        raise VariantInUse("Somebody has ordered this variant: set its stock to 0.") from error
    except StaleDataError as error:
        # Its version is not the one that was counted.
        raise VariantInUse("The variant was sold at this moment. Look again.") from error
    listings.refresh(session, product, stocked=-int(stocked))


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
        if is_missing_reference(error):
            # The only reference that a client names is the category.
            fault = Fault("/category_id", "There is no such category.")
            raise NoSuchCategory("There is no such category.", faults=(fault,)) from error
        raise
