"""Shapes of lists of products: what may be asked for, and what is answered."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from marshmallow import ValidationError, fields, validates_schema

from shop.products.finding import FACETS, SORTS
from shop.products.models import STATUSES
from shop.products.schemas import REFERENCE, CategoryLink, ProductOut
from shop.web.fields import (
    LARGEST_AMOUNT,
    LARGEST_ID,
    Choice,
    Code,
    QueryInteger,
    StrictSchema,
    Text,
)
from shop.web.pagination import PageQuery


class AttributeFilter(Code):
    """Attributes and the values that will do: `code:value` by commas."""

    _PAIR = r"[a-z][a-z0-9_]*:(?:[^,\\\x00-\x1f]|\\[,\\])+"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(rf"^(?:{self._PAIR},)*{self._PAIR}$", 500, **kwargs)

    def deserialize(self, *args: Any, **kwargs: Any) -> Any:
        text = super().deserialize(*args, **kwargs)
        if not isinstance(text, str):
            return text
        wanted: defaultdict[str, list[str]] = defaultdict(list)
        for pair in re.findall(self._PAIR, text):
            code, _, value = pair.partition(":")
            wanted[code].append(re.sub(r"\\(.)", r"\1", value))
        return dict(wanted)


class ProductQuery(PageQuery):
    """Filters and order of the list of products. Prices are those of the cheapest variant."""

    q = Text(
        500,
        metadata={
            "description": "Products with all these words, the last one perhaps only begun. Case"
            " and accents do not matter."
        },
    )
    category = QueryInteger(
        1, LARGEST_ID, metadata={"description": "Those in this category and below it."}
    )
    min_price = QueryInteger(0, LARGEST_AMOUNT, metadata={"description": "In minor units."})
    max_price = QueryInteger(0, LARGEST_AMOUNT, metadata={"description": "In minor units."})
    in_stock = Choice(
        ("true", "false"), metadata={"description": "Whether some variant of it is there."}
    )
    attributes = AttributeFilter(
        metadata={
            "description": "`colour:red,colour:blue,size:M`: red or blue, and of size M. `\\,` is"
            " a comma in a value.",
            "example": "colour:red,size:M",
        }
    )
    external_reference = Code(REFERENCE, 100, metadata={"description": "The one with it, if any."})
    status = Choice(
        STATUSES, metadata={"description": "Staff may ask for any; all others see `active`."}
    )
    sort = Choice(
        SORTS, metadata={"description": "`newest`; with `q`, and only then, `relevance`."}
    )
    facets = Code(
        rf"^(?:{'|'.join(FACETS)})(?:,(?:{'|'.join(FACETS)}))*$",
        60,
        metadata={
            "description": "What to count, by commas. Counts of more than 10,000 products may be"
            " five seconds old.",
            "example": "category,price",
        },
    )

    @validates_schema
    def _check_sort(self, data: dict[str, Any], **_kwargs: Any) -> None:
        if data.get("sort") == "relevance" and not data.get("q"):
            raise ValidationError("Only a search (`q`) has an order by relevance.", "sort")


class CategoryCount(CategoryLink):
    """How many of what was found are in a category or below it."""

    count = fields.Integer(required=True)


class PriceCount(StrictSchema):
    """How many cost so much: from `from` up to, but not including, `to`, in minor units."""

    from_ = fields.Integer(required=True, data_key="from")
    to = fields.Integer(required=True, allow_none=True)
    count = fields.Integer(required=True)


class PriceFacet(StrictSchema):
    """The prices of what was found, in minor units."""

    min = fields.Integer(required=True, allow_none=True)
    max = fields.Integer(required=True, allow_none=True)
    ranges = fields.List(fields.Nested(PriceCount), required=True)


class RatingCount(StrictSchema):
    """How many have so many whole stars on average; 0 is for those without reviews."""

    stars = fields.Integer(required=True)
    count = fields.Integer(required=True)


class ValueCount(StrictSchema):
    """How many have a value of an attribute."""

    value = fields.String(required=True)
    count = fields.Integer(required=True)


class Facets(StrictSchema):
    """Counts of what was found, each without the filter that it shows the alternatives of."""

    category = fields.List(fields.Nested(CategoryCount))
    price = fields.Nested(PriceFacet)
    rating = fields.List(fields.Nested(RatingCount))
    attributes = fields.Dict(
        keys=fields.String(), values=fields.List(fields.Nested(ValueCount)),
        metadata={"description": "The commonest values of each attribute."},
    )  # fmt: skip


class ProductPage(StrictSchema):
    """A page of products; `facets` when they were asked for."""

    items = fields.List(fields.Nested(ProductOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
    facets = fields.Nested(Facets)
