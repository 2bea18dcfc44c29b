"""Facets: how many of what was found are where, and cost, and are rated how."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from sqlalchemy.orm import Session

from shop.products import finding, queries
from shop.products.categories import counted_below
from shop.products.finding import PRICE_STEPS, Wanted

#: How many values of an attribute are shown, the commonest ones.
_MOST_VALUES = 20


def facets_of(session: Session, wanted: Wanted, names: set[str]) -> dict[str, Any]:
    """The facets with these names (see `schemas.Facets`)."""
    return {name: _FACETS[name](session, wanted) for name in finding.FACETS if name in names}


def _category(session: Session, wanted: Wanted) -> list[dict[str, Any]]:
    tree = session.scalars(queries.all_categories()).all()
    counts = counted_below(tree, session.execute(finding.category_counts(wanted)).all())
    return [
        {"id": item.id, "name": item.name, "slug": item.slug, "count": counts[item.id]}
        for item in tree
        if counts[item.id]
    ]


def _price(session: Session, wanted: Wanted) -> dict[str, Any]:
    rows = session.execute(finding.price_counts(wanted)).all()
    above = dict(pairwise(PRICE_STEPS))
    return {
        "min": min((low for *_, low, _high in rows), default=None),
        "max": max((high for *_, high in rows), default=None),
        "ranges": [
            {"from": step, "to": above.get(step), "count": count} for step, count, *_ in rows
        ],
    }


def _rating(session: Session, wanted: Wanted) -> list[dict[str, int]]:
    rows = session.execute(finding.rating_counts(wanted))
    return [{"stars": stars, "count": count} for stars, count in rows]


def _attributes(session: Session, wanted: Wanted) -> dict[str, list[dict[str, Any]]]:
    questions = [finding.attribute_counts(wanted)]
    questions += [finding.attribute_counts(wanted, code) for code in wanted.attributes]
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for question in questions:
        for code, value, count in session.execute(question):
            found[code].append({"value": value, "count": count})
    return {code: found[code][:_MOST_VALUES] for code in sorted(found)}


_FACETS: dict[str, Callable[[Session, Wanted], Any]] = {
    "category": _category,
    "price": _price,
    "rating": _rating,
    "attributes": _attributes,
}
