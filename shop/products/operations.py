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
from sqlalchemy.orm.exc import StaleDataError

from shop.audit.capture import AuditedWrites
from shop.db import is_duplicate, is_missing_reference
from shop.errors import Conflict, Fault, Invalid, NotFound
from shop.inserts import Row
from shop.products import attributes, listings, prices, queries, slugs, stock
from shop.products.models import Product, ProductRating, Variant

_LONGEST_SLUG = 200
#: Slugs that would be hidden by a route.
ROUTES = frozenset({"bulk", "exports", "imports"})
MOST_VARIANTS = 100
#: Fields whose column is called otherwise.
_COLUMNS = {"metadata": "public_metadata"}


class SkuTaken(Conflict):
    """A SKU names one variant in the whole shop."""


class SlugTaken(Conflict):
    """A slug names one product."""


class ReferenceTaken(Conflict):
    """An external reference names one product, and one variant."""


class NotADraft(Invalid):
    """Only a draft can be published at a time."""

    def __init__(self) -> None:
        why = "Only a draft can be published at a time: `status` must be draft."
        super().__init__(why, faults=(Fault("/publish_at", why),))


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
        SkuTaken, SlugTaken, ReferenceTaken: another one has it.
        NoSuchCategory: there is none with that id.
        NotADraft: it has a `publish_at` and another status.
        AttributeMisfit: an attribute is not as it is defined.
    """
    skus = [variant["sku"] for variant in data["variants"]]
    if len(set(skus)) < len(skus):
        raise SkuTaken("Two variants of the request have the same SKU.")
    check_publication(data)
    attributes.check(session, attributes_in(data))
    with unique_names(), AuditedWrites(session) as writes:
        return insert_product(writes, data)


def check_publication(data: dict[str, Any]) -> None:
    """Whether a new product may have a `publish_at`. Raises NotADraft."""
    if data.get("publish_at") is not None and data["status"] != "draft":
        raise NotADraft


def attributes_in(data: dict[str, Any]) -> attributes.Parts:
    """All attributes of a new product and its variants, each with the pointer to them."""
    own = [("/attributes", data["attributes"])]
    return own + [
        (f"/variants/{number}/attributes", variant["attributes"])
        for number, variant in enumerate(data["variants"])
    ]


def insert_product(writes: AuditedWrites, data: dict[str, Any]) -> Created:
    """Insert the rows of a product, whose attributes fit; see `create_product`."""
    (created,) = insert_products(writes, [data])
    listings.open_listings(writes, [(created.product, created.variants)])
    return created


def insert_products(writes: AuditedWrites, several: Sequence[dict[str, Any]]) -> list[Created]:
    """Insert the rows of products, with a few statements for all of them; see `create_product`.

    Their listings must be opened after it.
    """
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
    values = {field: data[field] for field in ("name", "slug", "description", "status")}
    values |= {field: data.get(field) for field in ("category_id", "publish_at")}
    return values | _described(data)


def _described(data: dict[str, Any]) -> Row:
    """What is said of a product or variant, and what others call it."""
    return {
        "attributes": data["attributes"],
        "external_reference": data.get("external_reference"),
        "public_metadata": data.get("metadata", {}),
    }


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
            "low_stock_threshold": data.get("low_stock_threshold"),
            "prior_price_amount": None,
            **_described(data),
        }
        for product_id, data in pairs
    ]
    variants = writes.insert_many(Variant, rows, by="sku")
    prices.open_history(writes, variants)
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
    """Change the own fields of a product, which must be locked, and its listing.

    Raises what `edit_product` does.
    """
    edit_product(session, product, changes)
    listings.refresh(session, product)


def edit_product(session: Session, product: Product, changes: dict[str, Any]) -> None:
    """Change the own fields of a product, which must be locked; its listing must follow.

    What becomes anything but a draft has no `publish_at` any more. A slug that it gives up leads
    to it from then on.

    Raises:
        SlugTaken, ReferenceTaken, NoSuchCategory, NotADraft, AttributeMisfit: see `create_product`.
    """
    if changes.get("status", product.status) != "draft":
        if changes.get("publish_at") is not None:
            raise NotADraft
        product.publish_at = None
    if "attributes" in changes:
        attributes.check(session, [("/attributes", changes["attributes"])], product.attributes)
    _check_slug(changes.get("slug"))
    former = product.slug
    for field, value in changes.items():
        setattr(product, _COLUMNS.get(field, field), value)
    with unique_names():
        if product.slug != former:
            slugs.remember(session, product, former)
        session.flush()


def delete_product(session: Session, product: Product) -> None:
    """Delete a product and what it owns; its ids are never used again. Raises ProductInUse."""
    session.execute(delete(ProductRating).where(ProductRating.product_id == product.id))
    listings.close_listing(session, product)
    slugs.forget(session, product)
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
        ReferenceTaken: another variant has the external reference.
        TooManyVariants: the product has as many as it can have.
        AttributeMisfit: an attribute is not as it is defined.
    """
    if len(product.variants) >= MOST_VARIANTS:
        raise TooManyVariants(f"A product has {MOST_VARIANTS} variants at most.")
    attributes.check(session, [("/attributes", data["attributes"])])
    with unique_names(), AuditedWrites(session) as writes:
        (variant,) = _insert_variants(writes, [(product.id, data)])
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
    """Change the own fields of a variant, which must be locked, and the listing of its product.

    Raises what `edit_variant` does.
    """
    edit_variant(session, variant, changes)
    listings.refresh(session, variant.product)


def edit_variant(session: Session, variant: Variant, changes: dict[str, Any]) -> None:
    """Change the own fields of a variant, not its stock; the product's listing must follow.

    Raises:
        SkuTaken, ReferenceTaken: another variant has it.
        AttributeMisfit: an attribute is not as it is defined.
    """
    if "attributes" in changes:
        attributes.check(session, [("/attributes", changes["attributes"])], variant.attributes)
    if "price" in changes:
        prices.set_price(session, variant, changes["price"])
    for field, value in changes.items():
        if field != "price":
            setattr(variant, _COLUMNS.get(field, field), value)
    with unique_names():
        session.flush()


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
def unique_names() -> Iterator[None]:
    """Say which name is taken, instead of what the database says."""
    try:
        yield
    except IntegrityError as error:
        if is_duplicate(error, "variants", "sku"):
            raise SkuTaken("One of the SKUs is taken. A SKU names one variant.") from error
        if is_duplicate(error, "products", "slug"):
            raise SlugTaken("The slug is taken. Choose another one.") from error
        for table in ("products", "variants"):
            if is_duplicate(error, table, "external_reference"):
                raise ReferenceTaken("The external reference is taken.") from error
        if is_missing_reference(error):
            # The only reference that a client names is the category.
            fault = Fault("/category_id", "There is no such category.")
            raise NoSuchCategory("There is no such category.", faults=(fault,)) from error
        raise
