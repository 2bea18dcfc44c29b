"""Questions of lists: filters, orders and facets in any combination.

The page is found in `product_listings` alone, whose indexes hold each order with all that is
filtered by, and only then joined to what is shown. An index gives an order only within one state
and one category, and behind a key only among its ties or beyond them: such parts are asked one by
one, each for a page at most, and merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, and_, case, func, or_, select, union_all
from sqlalchemy.orm import aliased

from shop.keyset import Order
from shop.products.models import ListedAttribute, ProductListing, Variant
from shop.products.queries import shown_with
from shop.products.search import Search, matches

SORTS = ("newest", "price", "-price", "name", "rating", "relevance")
FACETS = ("category", "price", "rating", "attributes")
#: Lower bounds of the ranges of the facet of prices, in minor units.
PRICE_STEPS = (0, *(digit * 10**power for power in range(2, 9) for digit in (1, 2, 5)))
#: Up to so many categories are asked one by one.
_FEW = 16
#: How many values of attributes are counted at all.
_MOST_VALUES = 1000


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
    attributes: Mapping[str, Sequence[str]] | None = None
    search: Search | None = None

    def without(self, facet: str) -> Wanted:
        """The same without the filter that a facet shows the alternatives of."""
        if facet == "category":
            return replace(self, categories=None)
        return replace(self, min_price=None, max_price=None)

    def without_attribute(self, code: str) -> Wanted:
        """The same without the filter by one attribute."""
        others = {key: values for key, values in (self.attributes or {}).items() if key != code}
        return replace(self, attributes=others)

    def places(self) -> list[ColumnElement[bool]]:
        """Parts of the listings, each of which an index holds in order."""
        listing = ProductListing
        states = [listing.status == status for status in self.statuses]
        if self.categories is None:
            return list(states)
        if len(self.categories) > _FEW:
            # Much is in so many: most of what an index of all categories holds fits.
            among = listing.category_id.in_(self.categories)
            return [and_(state, among) for state in states]
        shelves = [listing.category_id == number for number in self.categories]
        return [and_(state, shelf) for state in states for shelf in shelves]

    def conditions(self) -> list[ColumnElement[bool]]:
        """All that a listing must fulfil besides being in one of the `places`."""
        listing = ProductListing
        found: list[Any] = []
        if self.min_price is not None:
            found.append(listing.price_from >= self.min_price)
        if self.max_price is not None:
            found.append(listing.price_from <= self.max_price)
        if self.in_stock is not None:
            stocked = listing.stocked_variants
            found.append(stocked > 0 if self.in_stock else stocked == 0)
        if self.search is not None:
            found.append(matches(listing.words, self.search.anywhere))
        found += [_has(code, values) for code, values in (self.attributes or {}).items()]
        return found


def order_of(sort: str, search: Search | None) -> Order:
    """The order of a list; `relevance` is one of a search."""
    listing = ProductListing
    if sort == "relevance":
        assert search is not None
        return Order((_rank(search), listing.product_id), (int, int))
    return {
        "newest": Order((listing.product_id,), (int,)),
        "price": Order((listing.price_from, listing.product_id), (int, int), falling=False),
        "-price": Order((listing.price_from, listing.product_id), (int, int)),
        "name": Order((listing.name, listing.product_id), (str, int), falling=False),
        "rating": Order((listing.rating, listing.product_id), (int, int)),
    }[sort]


def _rank(search: Search) -> ColumnElement[int]:
    """How well a listing fits: the whole name or a SKU, all words in the name, or anywhere."""
    name = ProductListing.name
    # SKUs have their case; people seldom type it.
    skus = (search.text, search.text.upper())
    of_sku = select(Variant.product_id).where(Variant.sku.in_(skus))
    exact = or_(name == " ".join(search.words), ProductListing.product_id.in_(of_sku))
    return case((exact, 2), (search.is_in(name), 1), else_=0)


def page_of(wanted: Wanted, order: Order, after: Sequence[Any] | None, limit: int) -> Select[Any]:
    """Rows of products (see `queries`), behind the key `after`; the key in columns `key_0` ..."""
    keys = [column.label(f"key_{n}") for n, column in enumerate(order.columns)]
    found = select(ProductListing.product_id, *keys).where(*wanted.conditions())
    found = found.order_by(*order.by()).limit(limit)
    parts = [found.where(part) for part in _parts(wanted, order, after)]
    page = parts[0].subquery("page") if len(parts) == 1 else _merged(parts)
    shown_keys = tuple(page.c[f"key_{n}"] for n in range(len(keys)))
    shown = shown_with(page.c.product_id).add_columns(*shown_keys)
    return shown.order_by(*replace(order, columns=shown_keys).by()).limit(limit)


def _parts(wanted: Wanted, order: Order, after: Sequence[Any] | None) -> list[ColumnElement[bool]]:
    """Where to look, in parts whose first rows are the page once they are merged."""
    if wanted.search is not None:
        # A search finds by its words, not by an order: one question for all.
        where = or_(*wanted.places())
        return [where if after is None else and_(where, order.behind(after))]
    if after is None:
        return wanted.places()
    return [and_(place, part) for place in wanted.places() for part in order.parts_behind(after)]


def _merged(parts: Sequence[Select[Any]]) -> Subquery:
    # SQLite takes an ordered part of a union only as a table of its own.
    return union_all(*(select(part.subquery()) for part in parts)).subquery("page")


def _has(code: str, values: Sequence[str]) -> ColumnElement[bool]:
    attribute = aliased(ListedAttribute)
    return (
        select(attribute.product_id)
        .where(
            attribute.code == code,
            attribute.value.in_(values),
            attribute.product_id == ProductListing.product_id,
        )
        .exists()
    )


def _among(wanted: Wanted) -> ColumnElement[bool]:
    listing = ProductListing
    where = [listing.status.in_(wanted.statuses), *wanted.conditions()]
    if wanted.categories is not None:
        where.append(listing.category_id.in_(wanted.categories))
    return and_(*where)


def category_counts(wanted: Wanted) -> Select[int | None, int]:
    """Category and how many are right in it, whatever category is asked for."""
    category = ProductListing.category_id
    among = _among(wanted.without("category"))
    return select(category, func.count()).where(among, category.is_not(None)).group_by(category)


def price_counts(wanted: Wanted) -> Select[int, int, int, int]:
    """Lower bound of a range of prices, how many are in it, the lowest and the highest."""
    price = ProductListing.price_from
    steps = [(price < above, low) for low, above in pairwise(PRICE_STEPS)]
    low = case(*steps, else_=PRICE_STEPS[-1])
    among = _among(wanted.without("price"))
    counted = select(low, func.count(), func.min(price), func.max(price)).where(among)
    return counted.group_by(low).order_by(low)


def rating_counts(wanted: Wanted) -> Select[int, int]:
    """Whole stars of the average rating (0 without reviews) and how many products have so many."""
    rating = ProductListing.rating
    stars = case(*((rating < 100 * (n + 1), n) for n in range(5)), else_=5)
    return select(stars, func.count()).where(_among(wanted)).group_by(stars).order_by(stars)


def attribute_counts(wanted: Wanted, code: str | None = None) -> Select[str, str, int]:
    """Code, value and how many have it: of one attribute whatever it is to be, or of all others."""
    attribute = ListedAttribute
    if code is not None:
        wanted, which = wanted.without_attribute(code), attribute.code == code
    else:
        which = attribute.code.not_in(list(wanted.attributes or {}))
    return (
        select(attribute.code, attribute.value, func.count())
        .join(ProductListing, ProductListing.product_id == attribute.product_id)
        .where(which, _among(wanted))
        .group_by(attribute.code, attribute.value)
        .order_by(func.count().desc(), attribute.code, attribute.value)
        .limit(_MOST_VALUES)
    )
