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

from shop.products.finding import Wanted, conditions, places
from shop.products.models import STATUSES, ListedValue, ProductListing
from shop.products.search import matches

#: Lower bounds of the ranges of the facet of prices, in minor units.
PRICE_STEPS = (0, *(digit * 10**power for power in range(2, 9) for digit in (1, 2, 5)))
#: How many values of attributes are counted at all.
_MOST_VALUES = 1000


def among(wanted: Wanted) -> ColumnElement[bool]:
    shape, listing = wanted.shape, ProductListing
    found = [or_(*places(shape, in_order=shape.words is None)), *conditions(shape)]
    if shape.words is not None:
        found.append(matches(listing.words, bindparam("looked_up", type_=Text())) == 1)
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


def rating_counts(wanted: Wanted) -> Select[int, int]:
    """Whole stars of the average rating (0 without reviews) and how many products have so many."""
    rating = ProductListing.rating
    stars = case(*((rating < 100 * (n + 1), n) for n in range(5)), else_=5)
    counted = select(stars, func.count()).where(among(wanted))
    return counted.group_by(stars).order_by(stars).params(_values(wanted))


def attribute_counts(wanted: Wanted, code: str | None = None) -> Select[str, str, int]:
    """Code, value and how many have it: of one attribute whatever it is to be, or of all others."""
    if wanted == Wanted(statuses=wanted.statuses):
        return _attributes_of_all(wanted.statuses)
    attribute = ListedValue
    if code is not None:
        wanted, which = wanted.without_attribute(code), attribute.code == code
    else:
        which = attribute.code.not_in(list(wanted.attributes))
    return _commonest(_counted(which, among(wanted)).subquery()).params(_values(wanted))


def _attributes_of_all(statuses: tuple[str, ...]) -> Select[str, str, int]:
    """Counted are all that there are, in the order of an index, less the few of other states."""
    attribute = ListedValue
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
    attribute = ListedValue
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
