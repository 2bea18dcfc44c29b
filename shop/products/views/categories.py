"""The doors of the tree of categories."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from flask import Response, url_for

from shop.db import db, transactional
from shop.errors import NotFound
from shop.products import categories as tree
from shop.products import queries
from shop.products.category_schemas import (
    CategoryIn,
    CategoryOut,
    CategoryPatch,
    CategoryTree,
    category_out,
)
from shop.products.models import Category
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, EVERYONE
from shop.web.idempotency import keep_answer

categories = Blueprint("categories", __name__, description="The tree of categories")


@categories.get("/categories")
@categories.allow(*EVERYONE)
@categories.response(200, CategoryTree, headers=ETAG)
@categories.conditional
@categories.shared
def list_categories() -> Response:
    """The whole tree: parents before children, siblings by position and name."""
    found, counts = _counted()
    return answer({"items": [category_out(item, counts[item.id]) for item in _in_order(found)]})


def _in_order(found: Sequence[Category]) -> list[Category]:
    children: defaultdict[int | None, list[Category]] = defaultdict(list)
    for item in found:
        children[item.parent_id].append(item)

    def walk(parent_id: int | None) -> list[Category]:
        siblings = sorted(children[parent_id], key=lambda item: (item.position, item.name, item.id))
        return [found for item in siblings for found in (item, *walk(item.id))]

    return walk(None)


def _counted() -> tuple[list[Category], Counter[int]]:
    """All categories, and the number of active products in each and below it; one query."""
    rows = db.session.execute(queries.counted_categories()).all()
    found = [category for category, _ in rows]
    return found, tree.counted_below(found, ((category.id, count) for category, count in rows))


@categories.post("/categories")
@categories.allow(*EMPLOYEES, scope="products:write")
@categories.body(CategoryIn)
@categories.response(201, CategoryOut, headers=ETAG | LOCATION)
@categories.refuses(409)
@categories.idempotent()
@transactional
def create_category(data: dict[str, Any]) -> Response:
    """Create a category, at the top or below another one (ten levels at most)."""
    category = tree.create_category(db.session(), data)
    location = url_for("categories.get_category", id=category.id)
    return keep_answer(
        answer(category_out(category, 0), 201, version=category.version, location=location)
    )


@categories.get("/categories/<id:id>")
@categories.allow(*EVERYONE)
@categories.response(200, CategoryOut, headers=ETAG)
@categories.conditional
@categories.shared
@categories.refuses(404)
def get_category(id: int) -> Response:
    """One category."""
    found, counts = _counted()
    for category in found:
        if category.id == id:
            return answer(category_out(category, counts[id]), version=category.version)
    raise NotFound(f"There is no category {id}.")


@categories.patch("/categories/<id:id>")
@categories.allow(*EMPLOYEES, scope="products:write")
@categories.body(CategoryPatch)
@categories.response(200, CategoryOut, headers=ETAG)
@categories.versioned
@categories.refuses(404, 409)
@transactional
def change_category(changes: dict[str, Any], id: int) -> Response:
    """Change a category, or move it with all below it (`parent_id`). Needs `If-Match`."""
    category = tree.find_category(db.session(), id)
    check_version(category.version, required=True)
    tree.change_category(db.session(), category, changes)
    _, counts = _counted()
    return answer(category_out(category, counts[id]), version=category.version)


@categories.delete("/categories/<id:id>")
@categories.allow(*EMPLOYEES, scope="products:write")
@categories.response(204)
@categories.versioned
@categories.refuses(404, 409)
@transactional
def delete_category(id: int) -> Response:
    """Delete an empty category. Needs `If-Match`."""
    category = tree.find_category(db.session(), id)
    check_version(category.version, required=True)
    tree.delete_category(db.session(), category)
    return Response(status=204)
