"""The doors of products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Response, url_for

from shop.db import db, read, transactional
from shop.errors import NotFound
from shop.products import operations, queries
from shop.products.categories import below
from shop.products.models import Category, ProductRating
from shop.products.schemas import (
    ProductIn,
    ProductOut,
    ProductPage,
    ProductPatch,
    ProductQuery,
    product_out,
    products_out,
    stored_product_out,
)
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, EVERYONE, current_caller
from shop.web.fields import LARGEST_ID, id_or_text
from shop.web.idempotency import keep_answer
from shop.web.pagination import decode_cursor, page

products = Blueprint("products", __name__, description="The catalogue")

_SCOPE = "products:newest"


@products.get("/products")
@products.allow(*EVERYONE)
@products.query(ProductQuery)
@products.response(200, ProductPage, headers=ETAG | LINK)
@products.conditional
def list_products(
    limit: int,
    cursor: str | None = None,
    status: str | None = None,
    category: int | None = None,
) -> Response:
    """List products, newest first.

    ---
    Everybody sees the active ones; staff sees all, or those of one `status`.
    """
    if not current_caller().is_employee:
        status = "active"
    (before,) = decode_cursor(_SCOPE, cursor, [int]) if cursor else (LARGEST_ID,)
    values: dict[str, Any] = {"before": before, "limit": limit + 1}
    if status is not None:
        values["status"] = status
    if category is not None:
        tree = db.session.scalars(queries.all_categories()).all()
        values["categories"] = sorted(below(tree, category))
        question = queries.IN_CATEGORIES if status is None else queries.IN_CATEGORIES_OF_STATUS
    else:
        question = queries.NEWEST if status is None else queries.NEWEST_OF_STATUS
    rows = read(question, **values)
    return page(rows, limit, scope=_SCOPE, key=lambda row: (row.id,), shape=_with_variants)


def _category(category_id: int | None) -> Category | None:
    return None if category_id is None else db.session.get(Category, category_id)


def _with_variants(rows: Sequence[Any]) -> list[dict[str, Any]]:
    if not rows:
        return []
    return products_out(rows, read(queries.VARIANTS_OF, ids=[row.id for row in rows]))


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


@products.get("/products/<id>")
@products.allow(*EVERYONE)
@products.response(200, ProductOut, headers=ETAG)
@products.conditional
@products.refuses(404)
def get_product(id: str) -> Response:
    """Read one product, by its id or its slug."""
    key = id_or_text(id)
    rows = read(queries.SHOWN_BY_ID if isinstance(key, int) else queries.SHOWN_BY_SLUG, key=key)
    if not rows or not (rows[0].status == "active" or current_caller().is_employee):
        raise NotFound("There is no such product.")
    product = rows[0][: queries.PRODUCT_WIDTH]
    variants = [row[queries.PRODUCT_WIDTH :] for row in rows]
    return answer(products_out([product], variants)[0], version=rows[0].version)


@products.patch("/products/<id:id>")
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


@products.delete("/products/<id:id>")
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
