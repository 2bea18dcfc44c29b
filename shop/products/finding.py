"""Questions of lists: filters, orders and facets in any combination.

The page is found in `product_listings` alone, whose indexes hold each order, and only then joined
to what is shown. Several states are asked one by one and merged, since an index gives the order
only within one state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, and_, case, func, select, union_all
from sqlalchemy.orm import aliased

from shop.keyset import Order
from shop.products.models import ListedAttribute, ProductListing
from shop.products.queries import shown_with
from shop.products.search import Search, matches

SORTS = ("newest", "price", "-price", "name", "rating", "relevance")
FACETS = ("category", "price", "rating", "attributes")
#: Lower bounds of the ranges of the facet of prices, in minor units.
PRICE_STEPS = (0, *(digit * 10**power for power in range(2, 9) for digit in (1, 2, 5)))
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

    def conditions(self) -> list[ColumnElement[bool]]:
        """All that a listing must fulfil but its status."""
        listing = ProductListing
        found: list[Any] = []
        if self.categories is not None:
            found.append(listing.category_id.in_(self.categories))
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
        # The whole name or a SKU, all words in the name, all words anywhere; newest first.
        ranks = [matches(listing.words, words) for words in (search.exactly, search.in_name)]
        return Order((*ranks, listing.product_id), (int, int, int))
    return {
        "newest": Order((listing.product_id,), (int,)),
        "price": Order((listing.price_from, listing.product_id), (int, int), falling=False),
        "-price": Order((listing.price_from, listing.product_id), (int, int)),
        "name": Order((listing.name, listing.product_id), (str, int), falling=False),
        "rating": Order((listing.rating, listing.product_id), (int, int)),
    }[sort]


def page_of(wanted: Wanted, order: Order, after: Sequence[Any] | None, limit: int) -> Select[Any]:
    """Rows of products (see `queries`), behind the key `after`; the key in columns `key_0` ..."""
    width = len(order.columns)
    branches = [
        _keys(wanted, order, after).where(ProductListing.status == status).limit(limit)
        for status in wanted.statuses
    ]
    page = branches[0].subquery("page") if len(branches) == 1 else _merged(branches)
    keys = tuple(page.c[f"key_{n}"] for n in range(width))
    shown = shown_with(page.c.product_id).add_columns(*keys)
    return shown.order_by(*replace(order, columns=keys).by()).limit(limit)


def _keys(wanted: Wanted, order: Order, after: Sequence[Any] | None) -> Select[Any]:
    keys = [column.label(f"key_{n}") for n, column in enumerate(order.columns)]
    found = select(ProductListing.product_id, *keys).where(*wanted.conditions())
    if after is not None:
        found = found.where(order.behind(after))
    return found.order_by(*order.by())


def _merged(branches: Sequence[Select[Any]]) -> Subquery:
    # SQLite takes an ordered part of a union only as a table of its own.
    return union_all(*(select(branch.subquery()) for branch in branches)).subquery("page")


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
    return and_(ProductListing.status.in_(wanted.statuses), *wanted.conditions())


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
