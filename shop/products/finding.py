"""What a list is to hold, and in what order: the conditions that its questions are made of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from shop.keyset import Order
from shop.products.models import ListedValue, Product, ProductListing, Variant
from shop.products.search import Search, in_name

SORTS = ("newest", "price", "-price", "name", "rating", "relevance")
FACETS = ("category", "price", "rating", "attributes")
#: Up to so many categories, or values of an attribute, are asked one by one.
_FEW = 16


class Shape(NamedTuple):
    """What a list is filtered by, without the values: each shape has one prepared question.

    `shelves` says how many categories are asked one by one, `attributes` how many values of each
    attribute are, 0 that they are many; `words` how many there are; None that there is no such
    filter.
    """

    statuses: tuple[str, ...]
    shelves: int | None
    min_price: bool
    max_price: bool
    in_stock: bool | None
    attributes: tuple[int, ...]
    words: int | None
    reference: bool


def _few(number: int) -> int:
    return number if number <= _FEW else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a list is to hold. Prices are those of the cheapest variant, in minor units.

    `attributes` are code to values, of which one must fit; `categories` are all that count.
    """

    statuses: tuple[str, ...]
    categories: tuple[int, ...] | None = None
    min_price: int | None = None
    max_price: int | None = None
    in_stock: bool | None = None
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    search: Search | None = None
    external_reference: str | None = None

    def without(self, facet: str) -> Wanted:
        """The same without the filter that a facet shows the alternatives of."""
        if facet == "category":
            return replace(self, categories=None)
        return replace(self, min_price=None, max_price=None)

    def without_attribute(self, code: str) -> Wanted:
        """The same without the filter by one attribute."""
        others = {key: values for key, values in self.attributes.items() if key != code}
        return replace(self, attributes=others)

    @property
    def key(self) -> Hashable:
        """The same for the same filters; None where there is a search."""
        if self.search is not None or self.external_reference is not None:
            return None
        attributes = tuple((code, tuple(values)) for code, values in self.attributes.items())
        bounds = (self.min_price, self.max_price, self.in_stock)
        return (self.statuses, self.categories, *bounds, attributes)

    @property
    def shape(self) -> Shape:
        """What it is filtered by."""
        shelves = None if self.categories is None else _few(len(self.categories))
        return Shape(
            self.statuses, shelves, self.min_price is not None, self.max_price is not None,
            self.in_stock, tuple(_few(len(it)) for it in self.attributes.values()),
            None if self.search is None else len(self.search.words),
            self.external_reference is not None,
        )  # fmt: skip

    @property
    def values(self) -> dict[str, Any]:
        """Values of the parameters of its shape."""
        values: dict[str, Any] = {}
        if self.categories is not None:
            values = {f"shelf_{n}": number for n, number in enumerate(self.categories[:_FEW])}
            values["shelves"] = self.categories
        for name in ("min_price", "max_price", "external_reference"):
            values[name] = getattr(self, name)
        for n, (code, wanted) in enumerate(self.attributes.items()):
            values |= {f"code_{n}": code, f"values_{n}": wanted}
            values |= {f"value_{n}_{m}": value for m, value in enumerate(wanted[:_FEW])}
        return values if self.search is None else values | self.search.values


class no_index(FunctionElement[Any]):  # noqa: N801 (used like SQLAlchemy's functions)
    """A column by which SQLite is not to look for rows: it takes any such index for a good one."""

    inherit_cache = True
    name = "no_index"

    def __init__(self, column: Any) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(no_index)
def _column(element: Any, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(next(iter(element.clauses)), **kw))


@compiles(no_index, "sqlite")
def _column_alone(element: Any, compiler: Any, **kw: Any) -> str:
    return f"+{_column(element, compiler, **kw)}"


def places(shape: Shape, *, in_order: bool = True) -> list[ColumnElement[bool]]:
    """Parts of the listings, each of which an index holds in order."""
    status: Any = ProductListing.status
    category: Any = ProductListing.category_id
    if not in_order:
        # Few fit, and they are found by something else.
        status, category = no_index(status), no_index(category)
    states = [status == it for it in shape.statuses]
    if shape.shelves is None:
        return list(states)
    if not shape.shelves:
        # Much is in so many: most of what an index of all categories holds fits.
        among = category.in_(bindparam("shelves", expanding=True))
        return [and_(state, among) for state in states]
    shelves = [category == bindparam(f"shelf_{n}") for n in range(shape.shelves)]
    return [and_(state, shelf) for state in states for shelf in shelves]


def conditions(shape: Shape, *, in_order: bool = False) -> list[ColumnElement[bool]]:
    """What a listing must fulfil besides being in a place, having words and attributes.

    `in_order`: SQLite is to stay in the order that is asked for.
    """
    listing = ProductListing
    price: Any = listing.price_from
    stocked: Any = listing.stocked_variants
    if in_order:
        price, stocked = no_index(price), no_index(stocked)
    found = prices(shape, price)
    if shape.in_stock is not None:
        found.append(stocked > 0 if shape.in_stock else stocked == 0)
    if shape.reference:
        found.append(listing.product_id == _referred())
    return found


def prices(shape: Shape, price: Any) -> list[ColumnElement[bool]]:
    """The bounds of a column of prices."""
    found: list[ColumnElement[bool]] = []
    if shape.min_price:
        found.append(price >= bindparam("min_price"))
    if shape.max_price:
        found.append(price <= bindparam("max_price"))
    return found


def has_value(n: int) -> ColumnElement[bool]:
    """Whether a listing has a value that is asked for, looked up for each by itself."""
    listed, listing = ListedValue, ProductListing
    # Not EXISTS: MariaDB would begin by all that have it. The primary key leads to the one.
    there = select(func.count()).where(
        listed.code == bindparam(f"code_{n}"),
        listed.value.in_(bindparam(f"values_{n}", expanding=True)),
        listed.status == listing.status,
        listed.price_from == listing.price_from,
        listed.product_id == listing.product_id,
    )
    return there.correlate(listing).scalar_subquery() > 0


def _referred() -> ScalarSelect[int]:
    """The product with an external reference."""
    is_it = Product.external_reference == bindparam("external_reference")
    return select(Product.id).where(is_it).scalar_subquery()


@lru_cache(maxsize=128)
def order_of(sort: str, words: int | None = None) -> Order:
    """The order of a list; `relevance` is that of a search of so many words."""
    listing = ProductListing
    if sort == "relevance":
        return Order((_rank(words or 0), listing.product_id), (int, int))
    return {
        "newest": Order((listing.product_id,), (int,)),
        "price": Order((listing.price_from, listing.product_id), (int, int), falling=False),
        "-price": Order((listing.price_from, listing.product_id), (int, int)),
        "name": Order((listing.name, listing.product_id), (str, int), falling=False),
        "rating": Order((listing.rating, listing.product_id), (int, int)),
    }[sort]


def _rank(words: int) -> ColumnElement[int]:
    """How well a listing fits: the whole name or a SKU, all words in the name, or anywhere."""
    return case((is_exact(), 2), (in_name(ProductListing.name, words), 1), else_=0)


def is_exact() -> ColumnElement[bool]:
    """Whether what is looked for is a listing's whole name, or a SKU."""
    return or_(ProductListing.name == bindparam("whole"), has_sku())


def has_sku() -> ColumnElement[bool]:
    """Whether a listing's product has a SKU that is looked for."""
    # Each SKU by itself: such a question is asked once, and one for several for every hit.
    # There is no product 0, and what is compared with nothing is neither equal nor unequal.
    skus = (
        func.coalesce(
            select(Variant.product_id).where(Variant.sku == bindparam(sku)).scalar_subquery(), 0
        )
        for sku in ("sku", "upper_sku")
    )
    return ProductListing.product_id.in_(list(skus))
