"""What happens to the catalogue."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from slugify import slugify
from sqlalchemy import Connection, delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop.audit.capture import AuditedWrites, Row
from shop.db import is_duplicate, is_missing_reference
from shop.errors import Conflict, Fault, Invalid, NotFound
from shop.products import queries, stock
from shop.products.models import Product, ProductRating, Variant

_LONGEST_SLUG = 200
#: Slugs that would be hidden by a route.
ROUTES = frozenset({"bulk", "exports", "imports"})
MOST_VARIANTS = 100


class SkuTaken(Conflict):
    """A SKU names one variant in the whole shop."""


class SlugTaken(Conflict):
    """A slug names one product."""


class ProductInUse(Conflict):
    """Reviews or orders refer to the product."""


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
    with unique_names(), AuditedWrites(session) as writes:
        return insert_product(writes, data)


def insert_product(writes: AuditedWrites, data: dict[str, Any]) -> Created:
    """Insert the rows of a product; see `create_product`."""
    (created,) = insert_products(writes, [data])
    return created


def insert_products(writes: AuditedWrites, several: Sequence[dict[str, Any]]) -> list[Created]:
    """Insert the rows of products, with a few statements for all of them; see `create_product`."""
    if len(several) == 1 and "slug" not in several[0]:
        products = [_insert_with_free_slug(writes, several[0])]
    else:
        rows = [_product_values(data) for data in _with_slugs(writes.connection, several)]
        products = writes.insert_many(Product, rows, by="slug")
    pairs = [
        (product["id"], variant)
        for product, data in zip(products, several, strict=True)
        for variant in data["variants"]
    ]
    variants = iter(_insert_variants(writes, pairs))
    return [
        Created(product, list(islice(variants, len(data["variants"]))))
        for product, data in zip(products, several, strict=True)
    ]


def _product_values(data: dict[str, Any]) -> Row:
    _check_slug(data["slug"])
    fields = ("name", "slug", "description", "status", "attributes")
    return {field: data[field] for field in fields} | {"category_id": data.get("category_id")}


def _insert_variants(
    writes: AuditedWrites, pairs: Sequence[tuple[int, dict[str, Any]]]
) -> list[Row]:
    """Insert variants, each with the id of its product, and their stock."""
    rows = [
        {
            "product_id": product_id,
            "sku": data["sku"],
            "name": data["name"],
            "price_amount": data["price"]["amount"],
            "currency": data["price"]["currency"],
            "attributes": data["attributes"],
            "low_stock_threshold": data.get("low_stock_threshold"),
        }
        for product_id, data in pairs
    ]
    variants = writes.insert_many(Variant, rows, by="sku")
    on_hand = [data["stock"] for _, data in pairs]
    stock.open_stock(writes, [(v["id"], n) for v, n in zip(variants, on_hand, strict=True)])
    return [variant | {"on_hand": n} for variant, n in zip(variants, on_hand, strict=True)]


def _check_slug(slug: str | None) -> None:
    if slug in ROUTES:
        raise SlugTaken(f"The slug {slug} would be hidden by a route. Choose another one.")


def _slug_of(name: str) -> str:
    slug = slugify(name, max_length=_LONGEST_SLUG, word_boundary=True)
    # Without a letter it might be taken for an id, and `ProductIn` would not have it.
    lettered = any(character.isalpha() for character in slug)
    return f"product-{slug}" if slug and (not lettered or slug in ROUTES) else slug


def _slug_by_chance(slug: str) -> str:
    # Chance, not a counter: two requests at once must not both find the same next number.
    return f"{slug or 'product'}-{secrets.token_hex(4)}"


def _insert_with_free_slug(writes: AuditedWrites, data: dict[str, Any]) -> Row:
    slug = _slug_of(data["name"])
    try:
        if slug:
            return writes.insert(Product, **_product_values(data | {"slug": slug}))
    except IntegrityError as error:
        # Tried, not asked first: that is a query less, and nobody can come in between. The
        # failed statement leaves the transaction as it was.
        if not is_duplicate(error, "products", "slug"):
            raise
    return writes.insert(Product, **_product_values(data | {"slug": _slug_by_chance(slug)}))


def _with_slugs(connection: Connection, several: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with a slug each, which nobody else has."""
    wanted = [None if "slug" in data else _slug_of(data["name"]) for data in several]
    if not any(wanted):
        taken = set[str]()
    else:
        taken = set(connection.scalars(queries.slugs_among([slug for slug in wanted if slug])))
    taken |= {data["slug"] for data in several if "slug" in data}
    whole = []
    for data, slug in zip(several, wanted, strict=True):
        if slug is None:
            whole.append(data)
            continue
        free = slug if slug and slug not in taken else _slug_by_chance(slug)
        taken.add(free)
        whole.append(data | {"slug": free})
    return whole


def change_product(session: Session, product: Product, changes: dict[str, Any]) -> None:
    """Change the product's own fields. Raises SlugTaken, NoSuchCategory."""
    _check_slug(changes.get("slug"))
    for field, value in changes.items():
        setattr(product, field, value)
    with unique_names():
        session.flush()


def delete_product(session: Session, product: Product) -> None:
    """Delete a product and what it owns; its ids are never used again. Raises ProductInUse."""
    session.execute(delete(ProductRating).where(ProductRating.product_id == product.id))
    session.delete(product)
    try:
        session.flush()
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
    with unique_names(), AuditedWrites(session) as writes:
        (variant,) = _insert_variants(writes, [(product.id, data)])
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
    with unique_names():
        session.flush()


def delete_variant(session: Session, variant: Variant) -> None:
    """Delete a variant with its stock. Raises LastVariant."""
    if len(variant.product.variants) == 1:
        raise LastVariant("A product has one variant at least: delete the product, or archive it.")
    variant.product.variants.remove(variant)
    session.flush()


def find_for_change(session: Session, product_id: int) -> Product:
    """The product under a lock. Raises NotFound."""
    product = session.execute(queries.for_change(product_id)).scalar_one_or_none()
    if product is None:
        raise NotFound(f"There is no product {product_id}.")
    return product


@contextmanager
def unique_names() -> Iterator[None]:
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
