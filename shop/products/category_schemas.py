"""Shapes of categories."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from shop.products.models import Category
from shop.products.schemas import SLUG
from shop.web.fields import LARGEST_ID, Code, Integer, Line, StrictSchema


class CategoryIn(StrictSchema):
    """A new category."""

    name = Line(200, required=True)
    slug = Code(SLUG, 200, metadata={"description": "From the name when it is missing."})
    parent_id = Integer(1, LARGEST_ID, allow_none=True, load_default=None)
    position = Integer(0, 10**6, load_default=0, metadata={"description": "Among its siblings."})


class CategoryPatch(StrictSchema):
    """Changes of a category; another `parent_id` moves it with all below it."""

    name = Line(200)
    slug = Code(SLUG, 200)
    parent_id = Integer(1, LARGEST_ID, allow_none=True)
    position = Integer(0, 10**6)


class CategoryOut(StrictSchema):
    """A category as it is shown."""

    id = fields.Integer(required=True)
    parent_id = fields.Integer(required=True, allow_none=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)
    position = fields.Integer(required=True)
    product_count = fields.Integer(
        required=True, metadata={"description": "Active products in it and below it."}
    )
    version = fields.Integer(required=True)


class CategoryTree(StrictSchema):
    """Every category, parents before children, siblings by position and name."""

    items = fields.List(fields.Nested(CategoryOut), required=True)


def category_out(category: Category, product_count: int) -> dict[str, Any]:
    """`CategoryOut`, ready for JSON."""
    names = ("id", "parent_id", "name", "slug", "position", "version")
    shown = {name: getattr(category, name) for name in names}
    return shown | {"product_count": product_count}
