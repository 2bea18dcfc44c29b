"""Questions for the pages of lists: every filter with every order, found in one of several ways.

A page is found in the narrow tables of `listings` alone and only then joined to what is shown. In
its order: an index gives it only within one state and one category, and behind a key only among its
ties or beyond them, so such parts are asked one by one, each for a page at most, and merged. Or by
what few have: words, or a value of an attribute. Which is best says `sampling`; each way finds the
same, so a list may be found in another way on its next page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    literal_column,
    not_,
    or_,
    select,
    true,
    union,
    union_all,
)

from shop.keyset import Order
from shop.products.finding import (
    Shape,
    Wanted,
    conditions,
    has_sku,
    has_value,
    is_exact,
    no_index,
    order_of,
    places,
    prices,
)
from shop.products.models import ListedValue, ProductListing
from shop.products.queries import shown_with
from shop.products.search import in_name, in_words, matches

#: A search of more words than that is never tested row by row.
MOST_TESTED = 8
#: Indexes of the orders; each has two, see `models`.
_COLUMNS = {
    "newest": "product_id", "price": "price_from", "-price": "price_from", "name": "name",
    "rating": "rating", "relevance": "product_id",
}  # fmt: skip
_MARIADB = ("mysql", "mariadb")


class Way(NamedTuple):
    """A way to find a list: in its `order`, by its `words`, by those in `names`, or by `values`.

    `attribute` is the number of the one whose values it begins with. A search by relevance may be
    asked for some `ranks` at a time, best first. `terms` are the numbers of the words that are
    looked up, all if it is empty; the others are tested.
    """

    by: str = "order"
    attribute: int = 0
    ranks: tuple[int, ...] = ()
    terms: tuple[int, ...] = ()


def page_of(
    wanted: Wanted, sort: str, after: Sequence[Any] | None, limit: int, way: Way
) -> tuple[Select[Any], dict[str, Any]]:
    """The question for a page behind the key `after`, and the values of its parameters.

    It answers rows of products (see `queries`) with the key in columns `key_0` ...
    """
    values = wanted.values | {f"after_{n}": part for n, part in enumerate(after or ())}
    if (search := wanted.search) is not None:
        terms = search.named_terms if way.by == "names" else search.terms
        values["looked_up"] = search.looked_up(terms, way.terms)
    at = None if not after else after[0] if way.ranks else 0
    return _page(wanted.shape, sort, at, way._replace(terms=())), values | {"limit": limit}


@lru_cache(maxsize=1024)
def _page(shape: Shape, sort: str, at: int | None, way: Way) -> Select[Any]:
    # Kept, since to make such a question takes longer than to ask it.
    order = order_of(sort, shape.words)
    if way.ranks:
        parts = _of_ranks(shape, at, way)
    elif way.by == "values":
        parts = _by_values(shape, sort, at is not None, way)
    else:
        parts = _of_listings(shape, sort, at is not None, way)
    page = parts[0].subquery("page") if len(parts) == 1 else _merged(parts, way)
    keys = tuple(page.c[f"key_{n}"] for n in range(len(order.columns)))
    shown = shown_with(page.c.product_id).add_columns(*keys)
    return shown.order_by(*replace(order, columns=keys).by()).limit(_limit())


def _limit() -> Any:
    return bindparam("limit", type_=Integer())


def _merged(parts: Sequence[Select[Any]], way: Way) -> Subquery:
    # What has two of the values that are asked for is found twice.
    united = union if way.by == "values" else union_all
    # SQLite takes an ordered part of a union only as a table of its own.
    return united(*(select(part.subquery()) for part in parts)).subquery("page")


def _after(order: Order) -> list[Any]:
    return [bindparam(f"after_{n}") for n in range(len(order.columns))]


def _labelled(*keys: Any) -> tuple[Any, ...]:
    return tuple(key.label(f"key_{n}") for n, key in enumerate(keys))


def _keyed(product_id: Any, keys: Iterable[Any]) -> Select[Any]:
    return select(product_id.label("product_id"), *keys)


def _of_listings(shape: Shape, sort: str, is_behind: bool, way: Way) -> list[Select[Any]]:
    """Parts whose first rows are the page once they are merged."""
    order = order_of(sort, shape.words)
    keys = _labelled(*order.columns)
    found = _keyed(ProductListing.product_id, keys).where(*_filters(shape, way))
    found = found.order_by(*replace(order, columns=keys).by()).limit(_limit())
    if way.by == "words":
        behind = order.behind(_after(order)) if is_behind else true()
        return [found.where(or_(*places(shape, in_order=False)), behind)]
    found = _walked(found, shape, sort)
    parts = order.parts_behind(_after(order)) if is_behind else [true()]
    return [found.where(place, part) for place in places(shape) for part in parts]


def _walked(found: Select[Any], shape: Shape, sort: str) -> Select[Any]:
    """The same, in the order of the index and of nothing else, where much has to be tested."""
    if shape.words is None and not shape.attributes:
        return found
    place = "category" if shape.shelves else "all"
    hint = f"FORCE INDEX (ix_product_listings_{place}_{_COLUMNS[sort]})"
    for dialect in _MARIADB:
        found = found.with_hint(ProductListing, hint, dialect)
    return found


def _filters(shape: Shape, way: Way) -> list[ColumnElement[bool]]:
    """All that is asked of a listing but where it is."""
    listing = ProductListing
    is_tested = way.by == "order" and (shape.words is not None or bool(shape.attributes))
    found: list[Any] = conditions(shape, in_order=is_tested)
    if way.by in ("words", "names"):
        found.append(matches(listing.words, bindparam("looked_up", type_=Text())))
    if shape.words is not None and shape.words <= MOST_TESTED:
        found.append(in_words(listing.words, shape.words))
    numbers = range(len(shape.attributes))
    return found + [has_value(n) for n in numbers if way.by != "values" or n != way.attribute]


def _of_ranks(shape: Shape, at: int | None, way: Way) -> list[Select[Any]]:
    """Parts of a search by relevance, newest first in each rank; `at` is the rank of the key."""
    walk = Way()
    found: list[Select[Any]] = []
    for rank in way.ranks:
        if at is not None and rank > at:
            continue
        newer = ProductListing.product_id < bindparam("after_1") if rank == at else true()
        found += [part.where(newer) for part in _OF_RANK[rank](shape, way if rank < 2 else walk)]
    return found


def _ranked(shape: Shape, way: Way, rank: int, *which: ColumnElement[bool]) -> Select[Any]:
    listing = ProductListing
    keys = _labelled(literal_column(str(rank), Integer()), listing.product_id)
    found = _keyed(listing.product_id, keys).where(*which, *_filters(shape, way))
    return found.order_by(listing.product_id.desc()).limit(_limit())


def _exact(shape: Shape, way: Way) -> list[Select[Any]]:
    whole = ProductListing.name == bindparam("whole")
    named = [_ranked(shape, way, 2, place, whole) for place in places(shape)]
    anywhere = or_(*places(shape, in_order=False))
    return [*named, _ranked(shape, way, 2, anywhere, has_sku(), not_(whole))]


def _named(shape: Shape, way: Way) -> list[Select[Any]]:
    return _lower(shape, way, 1, in_name(ProductListing.name, shape.words or 0))


def _others(shape: Shape, way: Way) -> list[Select[Any]]:
    return _lower(shape, way, 0, not_(in_name(ProductListing.name, shape.words or 0)))


def _lower(shape: Shape, way: Way, rank: int, which: ColumnElement[bool]) -> list[Select[Any]]:
    which = and_(which, not_(is_exact()))
    if way.by != "order":
        return [_ranked(shape, way, rank, or_(*places(shape, in_order=False)), which)]
    return [
        _walked(_ranked(shape, way, rank, place, which), shape, "newest") for place in places(shape)
    ]


_OF_RANK = {2: _exact, 1: _named, 0: _others}


def _by_values(shape: Shape, sort: str, is_behind: bool, way: Way) -> list[Select[Any]]:
    """What has a value of an attribute: in the order of prices, or all of it put in order."""
    listed, number = ListedValue, way.attribute
    order = _order_of_values(sort, shape.words)
    found = _keyed(listed.product_id, _labelled(*order.columns)).limit(_limit())
    found = found.where(listed.code == bindparam(f"code_{number}"))
    found = found.where(*_filters_of_values(shape, sort, way))
    found = found.prefix_with("STRAIGHT_JOIN", dialect="mysql")
    found = found.prefix_with("STRAIGHT_JOIN", dialect="mariadb")
    after = _after(order)
    width = shape.attributes[number]
    if sort in ("price", "-price") and 0 < width * len(shape.statuses) <= 16:
        found = found.order_by(*order.by())
        behind = order.parts_behind(after) if is_behind else [true()]
        ends = [listed.value == bindparam(f"value_{number}_{m}") for m in range(width)]
        states = [listed.status == status for status in shape.statuses]
        return [found.where(*it) for it in _combined(ends, states, behind)]
    every = listed.value.in_(bindparam(f"values_{number}", expanding=True))
    found = found.where(every, listed.status.in_(shape.statuses))
    if width != 1:
        found = found.distinct()
    # SQLite is to begin with the values, not with an order of the listings.
    free = replace(order, columns=tuple(no_index(column) for column in order.columns))
    return [found.where(order.behind(after) if is_behind else true()).order_by(*free.by())]


def _combined(*parts: Sequence[Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [()]
    for choices in parts:
        found = [(*before, choice) for before in found for choice in choices]
    return found


def _order_of_values(sort: str, words: int | None) -> Order:
    order = order_of(sort, words)
    narrow = {
        ProductListing.product_id: ListedValue.product_id,
        ProductListing.price_from: ListedValue.price_from,
    }
    return replace(order, columns=tuple(narrow.get(column, column) for column in order.columns))


def _filters_of_values(shape: Shape, sort: str, way: Way) -> list[ColumnElement[bool]]:
    listed, listing = ListedValue, ProductListing
    found = prices(shape, listed.price_from)
    if not _is_narrow(shape, sort):
        rest = shape._replace(min_price=False, max_price=False)
        found += [listing.product_id == listed.product_id, *_filters(rest, way)]
        found.append(or_(*places(shape, in_order=False)))
    return found


def _is_narrow(shape: Shape, sort: str) -> bool:
    """Whether nothing is asked that values alone do not tell."""
    free = (shape.shelves, shape.in_stock, shape.words) == (None, None, None)
    plain = free and not shape.reference and len(shape.attributes) == 1
    return plain and sort in ("newest", "price", "-price")
