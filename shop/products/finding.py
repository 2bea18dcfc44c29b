"""Questions of lists: filters, orders and facets in any combination.

The page is found in `product_listings` alone, whose indexes hold each order with all that is
filtered by, and only then joined to what is shown. An index gives an order only within one state
and one category, and behind a key only among its ties or beyond them: such parts are asked one by
one, each for a page at most, and merged.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    ScalarSelect,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from shop.keyset import Order
from shop.products.models import (
    STATUSES,
    ListedAttribute,
    Product,
    ProductListing,
    Variant,
)
from shop.products.queries import shown_with
from shop.products.search import Search, in_name, matches

SORTS = ("newest", "price", "-price", "name", "rating", "relevance")
FACETS = ("category", "price", "rating", "attributes")
#: Lower bounds of the ranges of the facet of prices, in minor units.
PRICE_STEPS = (0, *(digit * 10**power for power in range(2, 9) for digit in (1, 2, 5)))
#: Orders by what every index of listings has.
_COVERED = frozenset({"newest", "price", "-price"})
#: Up to so many categories are asked one by one.
_FEW = 16
#: How many values of attributes are counted at all.
_MOST_VALUES = 1000


class Shape(NamedTuple):
    """What a list is filtered by, without the values: each shape has one prepared question.

    `shelves` says how many categories are asked one by one, 0 that they are many; `attributes` and
    `words` how many there are; None that there is no such filter.
    """

    statuses: tuple[str, ...]
    shelves: int | None
    min_price: bool
    max_price: bool
    in_stock: bool | None
    attributes: int
    words: int | None
    reference: bool


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
        shelves = None
        if self.categories is not None:
            shelves = len(self.categories) if len(self.categories) <= _FEW else 0
        return Shape(
            self.statuses, shelves, self.min_price is not None, self.max_price is not None,
            self.in_stock, len(self.attributes),
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


def _places(shape: Shape) -> list[ColumnElement[bool]]:
    """Parts of the listings, each of which an index holds in order."""
    status: Any = ProductListing.status
    category: Any = ProductListing.category_id
    if shape.words is not None:
        # Few fit: they are found by their words.
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


def _conditions(shape: Shape) -> list[ColumnElement[bool]]:
    """All that a listing must fulfil besides being in one of the places."""
    listing = ProductListing
    found: list[Any] = []
    if shape.min_price:
        found.append(listing.price_from >= bindparam("min_price"))
    if shape.max_price:
        found.append(listing.price_from <= bindparam("max_price"))
    if shape.in_stock is not None:
        stocked = listing.stocked_variants
        found.append(stocked > 0 if shape.in_stock else stocked == 0)
    if shape.words is not None:
        found.append(matches(listing.words, bindparam("anywhere", type_=Text())))
    if shape.reference:
        found.append(listing.product_id == _referred())
    return found + [_has_attribute(n) for n in range(shape.attributes)]


def _has_attribute(n: int) -> ColumnElement[bool]:
    attribute = ListedAttribute
    having = select(attribute.product_id).where(
        attribute.code == bindparam(f"code_{n}"),
        attribute.value.in_(bindparam(f"values_{n}", expanding=True)),
    )
    return ProductListing.product_id.in_(having)


def _referred() -> ScalarSelect[int]:
    """The product with an external reference."""
    is_it = Product.external_reference == bindparam("external_reference")
    return select(Product.id).where(is_it).scalar_subquery()


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
    listing = ProductListing
    # Each SKU by itself: such a question is asked once, and one for several for every hit.
    skus = (
        select(Variant.product_id).where(Variant.sku == bindparam(sku)).scalar_subquery()
        for sku in ("sku", "upper_sku")
    )
    exact = or_(listing.name == bindparam("whole"), *(listing.product_id == it for it in skus))
    return case((exact, 2), (in_name(listing.name, words), 1), else_=0)


def page_of(
    wanted: Wanted, sort: str, after: Sequence[Any] | None, limit: int
) -> tuple[Select[Any], dict[str, Any]]:
    """The question for a page behind the key `after`, and the values of its parameters.

    It answers rows of products (see `queries`) with the key in columns `key_0` ...
    """
    values = wanted.values | {f"after_{n}": part for n, part in enumerate(after or ())}
    return _page(wanted.shape, sort, after is not None), values | {"limit": limit}


@lru_cache(maxsize=512)
def _page(shape: Shape, sort: str, is_behind: bool) -> Select[Any]:
    # Kept, since to make such a question takes longer than to ask it.
    order = order_of(sort, shape.words)
    limit = bindparam("limit", type_=Integer())
    keys = [column.label(f"key_{n}") for n, column in enumerate(order.columns)]
    found = select(ProductListing.product_id, *keys).where(*_conditions(shape))
    found = found.order_by(*order.by()).limit(limit)
    if shape.attributes and shape.words is None and sort in _COVERED:
        # By the products that have the attribute: a narrow index has all else that is asked.
        for dialect in ("mysql", "mariadb"):
            found = found.with_hint(ProductListing, "IGNORE INDEX (PRIMARY)", dialect)
    parts = [found.where(part) for part in _parts(shape, order, is_behind)]
    page = parts[0].subquery("page") if len(parts) == 1 else _merged(parts)
    shown_keys = tuple(page.c[f"key_{n}"] for n in range(len(keys)))
    shown = shown_with(page.c.product_id).add_columns(*shown_keys)
    return shown.order_by(*replace(order, columns=shown_keys).by()).limit(limit)


def _parts(shape: Shape, order: Order, is_behind: bool) -> list[ColumnElement[bool]]:
    """Where to look, in parts whose first rows are the page once they are merged."""
    places = _places(shape)
    after: list[Any] = [bindparam(f"after_{n}") for n in range(len(order.columns))]
    if shape.words is not None:
        # A search finds by its words, not by an order: one question for all.
        return [and_(or_(*places), order.behind(after) if is_behind else true())]
    if not is_behind:
        return places
    return [and_(place, part) for place in places for part in order.parts_behind(after)]


def _merged(parts: Sequence[Select[Any]]) -> Subquery:
    # SQLite takes an ordered part of a union only as a table of its own.
    return union_all(*(select(part.subquery()) for part in parts)).subquery("page")


def _among(wanted: Wanted) -> ColumnElement[bool]:
    shape = wanted.shape
    return and_(or_(*_places(shape)), *_conditions(shape))


def category_counts(wanted: Wanted) -> Select[int | None, int]:
    """Category and how many are right in it, whatever category is asked for."""
    category = ProductListing.category_id
    wanted = wanted.without("category")
    counted = select(category, func.count()).where(_among(wanted), category.is_not(None))
    return counted.group_by(category).params(wanted.values)


def price_counts(wanted: Wanted) -> Select[int, int, int, int]:
    """Lower bound of a range of prices, how many are in it, the lowest and the highest."""
    price = ProductListing.price_from
    steps = [(price < above, low) for low, above in pairwise(PRICE_STEPS)]
    low = case(*steps, else_=PRICE_STEPS[-1])
    wanted = wanted.without("price")
    counted = select(low, func.count(), func.min(price), func.max(price)).where(_among(wanted))
    return counted.group_by(low).order_by(low).params(wanted.values)


def rating_counts(wanted: Wanted) -> Select[int, int]:
    """Whole stars of the average rating (0 without reviews) and how many products have so many."""
    rating = ProductListing.rating
    stars = case(*((rating < 100 * (n + 1), n) for n in range(5)), else_=5)
    counted = select(stars, func.count()).where(_among(wanted))
    return counted.group_by(stars).order_by(stars).params(wanted.values)


def attribute_counts(wanted: Wanted, code: str | None = None) -> Select[str, str, int]:
    """Code, value and how many have it: of one attribute whatever it is to be, or of all others."""
    if wanted == Wanted(statuses=wanted.statuses):
        return _attributes_of_all(wanted.statuses)
    attribute = ListedAttribute
    if code is not None:
        wanted, which = wanted.without_attribute(code), attribute.code == code
    else:
        which = attribute.code.not_in(list(wanted.attributes))
    return _commonest(_counted(which, _among(wanted)).subquery()).params(wanted.values)


def _attributes_of_all(statuses: tuple[str, ...]) -> Select[str, str, int]:
    """Counted are all that there are, in the order of an index, less the few of other states."""
    attribute = ListedAttribute
    every = select(attribute.code, attribute.value, func.count().label("number"))
    whole = every.group_by(attribute.code, attribute.value).subquery("whole")
    if set(statuses) == set(STATUSES):
        return _commonest(whole)
    elsewhere = ProductListing.status.in_([it for it in STATUSES if it not in statuses])
    less = _counted(elsewhere).subquery("less")
    number = (whole.c.number - func.coalesce(less.c.number, 0)).label("number")
    same = and_(less.c.code == whole.c.code, less.c.value == whole.c.value)
    left = select(whole.c.code, whole.c.value, number).outerjoin_from(whole, less, same)
    found = left.subquery("left_over")
    return _commonest(found).where(found.c.number > 0)


def _counted(*which: ColumnElement[bool]) -> Select[str, str, int]:
    attribute = ListedAttribute
    return (
        select(attribute.code, attribute.value, func.count().label("number"))
        .join(ProductListing, ProductListing.product_id == attribute.product_id)
        .where(*which)
        .group_by(attribute.code, attribute.value)
    )


def _commonest(counts: Subquery) -> Select[Any]:
    code, value, number = counts.c.code, counts.c.value, counts.c.number
    found = select(code, value, number).order_by(number.desc(), code, value)
    return found.limit(_MOST_VALUES)
