"""Questions of facets: how many of what a list holds are where, and cost, and are rated how."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)

from shop.products.finding import Wanted, conditions, places, prices
from shop.products.models import ListedValue, ProductListing
from shop.products.search import matches

#: Lower bounds of the ranges of the facet of prices, in minor units.
PRICE_STEPS = (0, *(digit * 10**power for power in range(2, 9) for digit in (1, 2, 5)))
#: How many values of attributes are counted at all.
_MOST_VALUES = 1000


def among(wanted: Wanted, *, in_order: bool = False) -> ColumnElement[bool]:
    shape, listing = wanted.shape, ProductListing
    found: list[Any] = [
        or_(*places(shape, in_order=shape.words is None)), *conditions(shape, in_order=in_order)
    ]  # fmt: skip
    if shape.words is not None:
        found.append(matches(listing.words, bindparam("looked_up", type_=Text())))
    return and_(*found, *(_has_value(n) for n in range(len(shape.attributes))))


def _has_value(n: int) -> ColumnElement[bool]:
    listed = ListedValue
    having = select(listed.product_id).where(
        listed.code == bindparam(f"code_{n}"),
        listed.value.in_(bindparam(f"values_{n}", expanding=True)),
    )
    return ProductListing.product_id.in_(having)


def _values(wanted: Wanted) -> dict[str, Any]:
    search = wanted.search
    if search is None:
        return wanted.values
    return wanted.values | {"looked_up": search.looked_up(search.terms)}


def category_counts(wanted: Wanted) -> Select[int | None, int]:
    """Category and how many are right in it, whatever category is asked for."""
    category = ProductListing.category_id
    wanted = wanted.without("category")
    counted = select(category, func.count()).where(among(wanted), category.is_not(None))
    return counted.group_by(category).params(_values(wanted))


def price_counts(wanted: Wanted) -> Select[int, int, int, int]:
    """Lower bound of a range of prices, how many are in it, the lowest and the highest."""
    price = ProductListing.price_from
    steps = [(price < above, low) for low, above in pairwise(PRICE_STEPS)]
    low = case(*steps, else_=PRICE_STEPS[-1])
    wanted = wanted.without("price")
    counted = select(low, func.count(), func.min(price), func.max(price)).where(among(wanted))
    return counted.group_by(low).order_by(low).params(_values(wanted))


def rating_counts(wanted: Wanted, *, of_much: bool) -> Select[int, int]:
    """Whole stars of the average rating (0 without reviews) and how many products have so many."""
    rating = ProductListing.rating
    stars = case(*((rating < 100 * (n + 1), n) for n in range(5)), else_=5)
    counted = select(stars, func.count()).where(among(wanted, in_order=of_much))
    return counted.group_by(stars).order_by(stars).params(_values(wanted))


def attribute_counts(wanted: Wanted, *, of_much: bool) -> Select[str, str, int]:
    """Code, value and how many have it, of all attributes that are not filtered by."""
    others = ListedValue.code.not_in(list(wanted.attributes))
    return _commonest(_counted(wanted, others, of_much=of_much)).params(_values(wanted))


def alternative_counts(wanted: Wanted, code: str, *, of_much: bool) -> Select[str, str, int]:
    """The same of one attribute, whatever it is to be."""
    wanted, this = wanted.without_attribute(code), ListedValue.code == code
    return _commonest(_counted(wanted, this, of_much=of_much)).params(_values(wanted))


def _counted(wanted: Wanted, which: ColumnElement[bool], *, of_much: bool) -> Subquery:
    listed, shape = ListedValue, wanted.shape
    counted = select(listed.code, listed.value, func.count().label("number")).where(which)
    if is_of_values(wanted) and of_much:
        counted = counted.where(
            listed.status.in_(shape.statuses), *prices(shape, listed.price_from)
        )
    else:
        listing = ProductListing
        counted = counted.join(listing, listing.product_id == listed.product_id)
        counted = counted.where(among(wanted))
    return counted.group_by(listed.code, listed.value).subquery()


def is_of_values(wanted: Wanted) -> bool:
    """Whether values alone tell what has them and is wanted: by state and price."""
    return wanted == Wanted(
        statuses=wanted.statuses, min_price=wanted.min_price, max_price=wanted.max_price
    )


def _commonest(counts: Subquery) -> Select[Any]:
    code, value, number = counts.c.code, counts.c.value, counts.c.number
    found = select(code, value, number).order_by(number.desc(), code, value)
    return found.limit(_MOST_VALUES)
