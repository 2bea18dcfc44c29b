"""Facets: how many of what was found are where, and cost, and are rated how.

To count very many takes long, and few of them change within seconds: such counts are remembered by
each process for a moment. All others are those of the moment in which they are asked for.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session

from shop.products import counts, queries, sampling
from shop.products.categories import counted_below
from shop.products.counts import PRICE_STEPS
from shop.products.finding import FACETS, Wanted

#: Counts above that are remembered for so long, and those of so many lists.
_MANY, _SECONDS, _MOST_LISTS = 10_000, 5.0, 100
#: How many values of an attribute are shown, the commonest ones.
_MOST_VALUES = 20
#: What is shown, and how many products were counted for it, of attributes those of one value.
Facet = tuple[Any, int]
#: By database, facet and filters: until when, and what is shown.
_known: WeakKeyDictionary[Any, dict[Hashable, tuple[float, Any]]] = WeakKeyDictionary()


def facets_of(session: Session, wanted: Wanted, names: set[str]) -> dict[str, Any]:
    """The facets with these names (see `schemas.Facets`)."""
    known = _known.setdefault(session.get_bind(), {})
    found = {}
    for name in FACETS:
        if name in names:
            found[name] = _facet(session, wanted, name, known)
    return found


def _facet(
    session: Session, wanted: Wanted, name: str, known: dict[Hashable, tuple[float, Any]]
) -> Any:
    key, now = (name, wanted.key), time.monotonic()
    until, facet = known.get(key, (0.0, None))
    if until > now:
        return facet
    facet, counted = _FACETS[name](session, wanted)
    if counted > _MANY and wanted.key is not None:
        if len(known) >= _MOST_LISTS:
            known.clear()
        known[key] = (now + _SECONDS, facet)
    return facet


def _category(session: Session, wanted: Wanted) -> Facet:
    tree = session.scalars(queries.all_categories()).all()
    rows = session.execute(counts.category_counts(wanted)).all()
    numbers = counted_below(tree, rows)
    shown = [
        {"id": item.id, "name": item.name, "slug": item.slug, "count": numbers[item.id]}
        for item in tree
        if numbers[item.id]
    ]
    return shown, sum(count for _, count in rows)


def _price(session: Session, wanted: Wanted) -> Facet:
    rows = session.execute(counts.price_counts(wanted)).all()
    above = dict(pairwise(PRICE_STEPS))
    shown = {
        "min": min((low for *_, low, _high in rows), default=None),
        "max": max((high for *_, high in rows), default=None),
        "ranges": [
            {"from": step, "to": above.get(step), "count": count} for step, count, *_ in rows
        ],
    }
    return shown, sum(count for _, count, *_ in rows)


def _rating(session: Session, wanted: Wanted) -> Facet:
    question = counts.rating_counts(wanted, of_much=_is_much(wanted))
    rows = session.execute(question).all()
    shown = [{"stars": stars, "count": count} for stars, count in rows]
    return shown, sum(count for _, count in rows)


def _is_much(wanted: Wanted) -> bool:
    """Whether it is best counted by looking at all: at each value, in the order of ratings."""
    if not counts.is_of_values(wanted):
        return False
    return (wanted.min_price, wanted.max_price) == (None, None) or sampling.is_much(wanted)


def _attributes(session: Session, wanted: Wanted) -> Facet:
    questions = [counts.attribute_counts(wanted, of_much=_is_much(wanted))]
    for code in wanted.attributes:
        much = _is_much(wanted.without_attribute(code))
        questions.append(counts.alternative_counts(wanted, code, of_much=much))
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    most = 0
    for question in questions:
        for code, value, count in session.execute(question):
            found[code].append({"value": value, "count": count})
            most = max(most, count)
    return {code: found[code][:_MOST_VALUES] for code in sorted(found)}, most


_FACETS: dict[str, Callable[[Session, Wanted], Facet]] = {
    "category": _category,
    "price": _price,
    "rating": _rating,
    "attributes": _attributes,
}
