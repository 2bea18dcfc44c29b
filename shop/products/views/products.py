"""The doors of products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flask import Response, url_for

from shop.db import db, read, transactional
from shop.errors import NotFound
from shop.products import operations, queries, sampling
from shop.products.categories import below
from shop.products.facets import facets_of
from shop.products.finding import Wanted, order_of
from shop.products.list_schemas import ProductPage, ProductQuery
from shop.products.models import STATUSES, Category, ProductRating
from shop.products.schemas import (
    ProductIn,
    ProductOut,
    ProductPatch,
    product_out,
    products_out,
    stored_product_out,
)
from shop.products.search import Search
from shop.web.answers import answer, check_version, moved_to
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, EVERYONE, current_caller
from shop.web.fields import LARGEST_ID, id_or_text
from shop.web.idempotency import keep_answer
from shop.web.pagination import Key, decode_cursor, page

products = Blueprint("products", __name__, description="The catalogue")

_BESIDE = f'beside="{"|".join(sorted(operations.ROUTES))}"'


@products.get("/products")
@products.allow(*EVERYONE)
@products.query(ProductQuery)
@products.response(200, ProductPage, headers=ETAG | LINK)
@products.conditional
@products.shared
def list_products(
    limit: int,
    cursor: str | None = None,
    sort: str | None = None,
    facets: str | None = None,
    **filters: Any,
) -> Response:
    """List products: filtered, searched, sorted, counted by facets.

    ---
    Everybody sees the active ones; staff sees all, or those of one `status`.
    """
    wanted = _wanted(**filters)
    sort = sort or ("newest" if wanted.search is None else "relevance")
    scope, kinds = f"products:{sort}", order_of(sort).kinds
    after = decode_cursor(scope, cursor, kinds) if cursor else None
    rows = _found(wanted, sort, after, limit + 1)
    counted = {}
    if facets is not None:
        counted["facets"] = facets_of(db.session(), wanted, set(facets.split(",")))
    return page(rows, limit, scope=scope, key=_key(len(kinds)), shape=_with_variants, more=counted)


def _wanted(
    *,
    q: str | None = None,
    category: int | None = None,
    in_stock: str | None = None,
    status: str | None = None,
    **others: Any,
) -> Wanted:
    if not current_caller().is_employee:
        status = "active"
    categories = None
    if category is not None:
        categories = tuple(sorted(below(read(queries.TREE), category)))
    return Wanted(
        statuses=STATUSES if status is None else (status,),
        categories=categories,
        in_stock=None if in_stock is None else in_stock == "true",
        search=Search(q) if q else None,
        **others,
    )


def _found(wanted: Wanted, sort: str, after: Sequence[Any] | None, limit: int) -> Sequence[Any]:
    if sort == "newest" and wanted == Wanted(statuses=wanted.statuses):
        # The list that is asked for most needs no listings.
        (before,) = after or (LARGEST_ID,)
        if wanted.statuses == STATUSES:
            return read(queries.NEWEST, before=before, limit=limit)
        (status,) = wanted.statuses
        return read(queries.NEWEST_OF_STATUS, before=before, limit=limit, status=status)
    return sampling.found(wanted, sort, after, limit)


def _key(width: int) -> Callable[[Any], Key]:
    return lambda row: (row[0],) if width == 1 else tuple(row[-width:])


def _category(category_id: int | None) -> Category | None:
    return None if category_id is None else db.session.get(Category, category_id)


def _with_variants(rows: Sequence[Any]) -> list[dict[str, Any]]:
    if not rows:
        return []
    shown = [row[: queries.PRODUCT_WIDTH] for row in rows]
    return products_out(shown, read(queries.VARIANTS_OF, ids=[row[0] for row in rows]))


@products.post("/products")
@products.allow(*EMPLOYEES, scope="products:write")
@products.body(ProductIn)
@products.response(201, ProductOut, headers=ETAG | LOCATION)
@products.refuses(409)
@products.idempotent()
@transactional
def create_product(data: dict[str, Any]) -> Response:
    """Create a product with its variants and their stock."""
    created = operations.create_product(db.session(), data)
    category = _category(created.product["category_id"])
    body = stored_product_out(created.product, created.variants, category)
    location = url_for("products.get_product", id=body["id"])
    return keep_answer(answer(body, 201, version=body["version"], location=location))


@products.get(f"/products/<name({_BESIDE}):id>")
@products.allow(*EVERYONE)
@products.response(200, ProductOut, headers=ETAG)
@products.conditional
@products.shared
@products.moves
@products.refuses(404)
def get_product(id: str) -> Response:
    """Read one product, by its id or its slug.

    ---
    A slug that it had before is answered with 301 and where it is now, as long as no other product
    has that slug.
    """
    key = id_or_text(id)
    rows = read(queries.SHOWN_BY_ID if isinstance(key, int) else queries.SHOWN_BY_SLUG, key=key)
    if not rows and isinstance(key, str):
        return _moved(key)
    if not rows or not _may_see(rows[0].status):
        raise NotFound("There is no such product.")
    product = rows[0][: queries.PRODUCT_WIDTH]
    variants = [row[queries.PRODUCT_WIDTH :] for row in rows]
    return answer(products_out([product], variants)[0], version=rows[0].version)


def _may_see(status: str) -> bool:
    return status == "active" or current_caller().is_employee


def _moved(slug: str) -> Response:
    """To the product that had this slug. Raises NotFound."""
    rows = read(queries.BY_FORMER_SLUG, key=slug)
    if not rows or not _may_see(rows[0].status):
        raise NotFound("There is no such product.")
    return moved_to(url_for("products.get_product", id=rows[0].slug))


@products.patch(f"/products/<id({_BESIDE}):id>")
@products.allow(*EMPLOYEES, scope="products:write")
@products.body(ProductPatch)
@products.response(200, ProductOut, headers=ETAG)
@products.versioned
@products.refuses(404, 409)
@transactional
def change_product(changes: dict[str, Any], id: int) -> Response:
    """Change a product's own fields. Needs `If-Match`."""
    product = operations.find_for_change(db.session(), id)
    check_version(product.version, required=True)
    operations.change_product(db.session(), product, changes)
    rating = db.session.get(ProductRating, product.id)
    shown = product_out(product, _category(product.category_id), rating)
    return answer(shown, version=product.version)


@products.delete(f"/products/<id({_BESIDE}):id>")
@products.allow(*EMPLOYEES, scope="products:write")
@products.response(204)
@products.versioned
@products.refuses(404, 409)
@transactional
def delete_product(id: int) -> Response:
    """Delete a product with its variants. Needs `If-Match`.

    ---
    One that has reviews or orders stays: archive it.
    """
    product = operations.find_for_change(db.session(), id)
    check_version(product.version, required=True)
    operations.delete_product(db.session(), product)
    return Response(status=204)
