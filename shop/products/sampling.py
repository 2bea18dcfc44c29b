"""Which way to a list is the shortest, by a sample of the catalogue.

What is common is soon met in the order that is asked for; what is rare is looked up and put in
order. A database knows too little of words and values to tell one from the other, so each process
looks at a thousand listings, spread over all, every ten minutes. They decide how something is
found, and nothing else: when they are out of date a list takes longer.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from random import randrange
from typing import Any
from weakref import WeakKeyDictionary

from shop.db import READER, db, read
from shop.products import queries
from shop.products.finding import Wanted
from shop.products.pages import MOST_TESTED, Way, page_of
from shop.products.search import VERSION

_SIZE, _SECONDS = 1000, 600.0
#: A small catalogue is cheaply looked at, and may be just being filled.
_SOON = 60.0
#: Of so many beginnings of words it is remembered who has them.
_MOST_BEGUN = 500
#: What it takes, in microseconds or so: to test a row in the order of ids, and in any other; of a
#: full-text index to count a product among those that have a word, and to fetch it; to read a value
#: of an attribute, and the listing that it belongs to; to ask another question.
_NEXT, _TEST, _COUNT, _FETCH, _READ, _LOOK, _ASK = 2.0, 5.0, 0.5, 6.0, 0.5, 2.5, 500.0
#: What the order of a list puts first is the smallest of these.
_KEYS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "newest": lambda it: (-it.product_id,),
    "price": lambda it: (it.price_from, it.product_id),
    "-price": lambda it: (-it.price_from, -it.product_id),
    "name": lambda it: (it.name, it.product_id),
    "rating": lambda it: (-it.rating, -it.product_id),
}
_FALLING = ("newest", "-price", "rating")
_ALONE = (Way(),)


class Sample:
    """Some listings, each of which stands for `each` of the catalogue."""

    def __init__(
        self,
        listings: Sequence[Any],
        values: Iterable[Any],
        each: float,
        *,
        is_current: bool = True,
    ) -> None:
        self.listings, self.each = listings, each
        #: Whether all listings have the words of their names by themselves.
        self.is_current = is_current
        self._words: defaultdict[str, set[int]] = defaultdict(set)
        self._values: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        numbers = {it.product_id: n for n, it in enumerate(listings)}
        for n, it in enumerate(listings):
            for word in it.words.split():
                self._words[word].add(n)
        for code, value, product_id in values:
            self._values[code, value].add(numbers[product_id])
        self._sorted_words = sorted(self._words)
        self._begun: dict[str, set[int]] = {}
        self._keys: dict[str, list[tuple[Any, ...]]] = {}
        self._places: dict[str, dict[int, int]] = {}
        for sort, key in _KEYS.items():
            keyed = sorted((key(it), n) for n, it in enumerate(listings))
            self._keys[sort] = [it for it, _ in keyed]
            self._places[sort] = {n: place for place, (_, n) in enumerate(keyed)}

    def with_word(self, word: str, *, begun: bool) -> set[int]:
        """Numbers of those that have a stored word, or one that begins so."""
        if not begun:
            return self._words.get(word, set())
        if word not in self._begun:
            if len(self._begun) >= _MOST_BEGUN:
                self._begun.clear()
            first = bisect_left(self._sorted_words, word)
            last = bisect_left(self._sorted_words, word + "~", first)
            words = self._sorted_words[first:last]
            self._begun[word] = set[int]().union(*(self._words[it] for it in words))
        return self._begun[word]

    def with_words(self, words: Sequence[str]) -> list[set[int]]:
        """The same for each word of a search, of which the last one may be only begun."""
        return [self.with_word(it, begun=n == len(words) - 1) for n, it in enumerate(words)]

    def with_value(self, code: str, values: Iterable[str]) -> set[int]:
        """Numbers of those that have one of some values."""
        return set[int]().union(*(self._values.get((code, value), ()) for value in values))

    def fitting(self, wanted: Wanted) -> set[int]:
        """Numbers of those that are wanted."""
        sets = [self.with_value(code, values) for code, values in wanted.attributes.items()]
        if wanted.search is not None:
            sets += self.with_words(wanted.search.terms)
        numbers = set.intersection(*sets) if sets else range(len(self.listings))
        return {n for n in numbers if _is_in(self.listings[n], wanted)}

    def walked(
        self, found: Iterable[int], sort: str, after: Sequence[Any] | None, limit: int
    ) -> float:
        """How many rows are looked at in an order until so many of what is found here have come.

        Infinite when it is too few to tell.
        """
        start = 0 if not after else bisect_left(self._keys[sort], _key(sort, after))
        of = self._places[sort]
        places = [of[n] for n in found if of[n] >= start]
        if len(places) < 3 or len(places) * self.each < 2 * limit:
            return float("inf")
        first = nsmallest(8, places)
        gap = (first[-1] - first[0]) / (len(first) - 1)
        # They may begin late: the cheapest of what is dear. Its age has less to do with it.
        lead = max(0.0, first[0] - start - gap * (3 if sort == "newest" else 1))
        return lead * self.each + limit * gap


def _key(sort: str, after: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(-part for part in after) if sort in _FALLING else tuple(after)


def _is_in(listing: Any, wanted: Wanted) -> bool:
    price, categories = listing.price_from, wanted.categories
    return (
        listing.status in wanted.statuses
        and (categories is None or listing.category_id in categories)
        and (wanted.min_price is None or price >= wanted.min_price)
        and (wanted.max_price is None or price <= wanted.max_price)
        and wanted.in_stock in (None, listing.stocked_variants > 0)
    )


def found(wanted: Wanted, sort: str, after: Sequence[Any] | None, limit: int) -> Sequence[Any]:
    """Rows of a page behind the key `after`, found in the shortest way."""
    rows: list[Any] = []
    for way in ways(wanted, sort, after, limit):
        question, values = page_of(wanted, sort, after, limit - len(rows), way)
        rows += read(question, **values)
        if len(rows) >= limit:
            break
    return rows


def is_much(wanted: Wanted) -> bool:
    """Whether so much is wanted that it is best counted by looking at all."""
    sample = _sample()
    return len(sample.fitting(wanted)) > len(sample.listings) / 4


def ways(wanted: Wanted, sort: str, after: Sequence[Any] | None, limit: int) -> Sequence[Way]:
    """How to find a page: in each of these ways until it is full."""
    search = wanted.search
    if search is None and not wanted.attributes:
        return _ALONE
    if search is not None and not 0 < len(search.words) <= MOST_TESTED:
        return (Way("words"),)
    sample = _sample()
    fitting = sample.fitting(wanted)
    choices = [_by_words(sample, search.terms, "words")] if search is not None else []
    choices += _by_values(sample, wanted, sort, limit, len(fitting))
    if sort == "relevance":
        best = min(choices)
        in_parts = _by_ranks(sample, wanted, fitting, after, limit)
        return in_parts[1] if in_parts[0] < best[0] else (best[1],)
    walked = sample.walked(fitting, sort, after, limit) * _share(sample, wanted)
    return (min([*choices, (walked * (_NEXT if sort == "newest" else _TEST), Way())])[1],)


def _share(sample: Sample, wanted: Wanted) -> float:
    """How much of what lies in an order is walked: a page of each state, a category's own part."""
    if wanted.categories is None or not wanted.shape.shelves:
        return len(wanted.statuses)
    inside = sum(it.category_id in wanted.categories for it in sample.listings)
    return len(wanted.statuses) * max(inside, 1) / max(len(sample.listings), 1)


def _by_words(sample: Sample, terms: Sequence[str], by: str) -> tuple[float, Way]:
    """What it takes to look up the rarest words and to test what is found for the others."""
    having = sample.with_words(terms)
    rarest = sorted(range(len(terms)), key=lambda n: len(having[n]))
    best, counted, both = (float("inf"), Way(by)), 0.0, set(range(len(sample.listings)))
    for n, number in enumerate(rarest, 1):
        both = both & having[number]
        counted += max(len(having[number]), 0.5) * sample.each * _COUNT
        cost = counted + max(len(both), 0.5) * sample.each * _FETCH
        best = min(best, (cost, Way(by, terms=tuple(rarest[:n]))))
    return best


def _by_values(
    sample: Sample, wanted: Wanted, sort: str, limit: int, fitting: int
) -> list[tuple[float, Way]]:
    choices = []
    is_narrow = wanted.search is None and len(wanted.attributes) == 1
    for n, (code, values) in enumerate(wanted.attributes.items()):
        having = len(sample.with_value(code, values))
        rows = max(having, 0.5) * sample.each
        if sort in ("price", "-price"):
            # They lie in this order.
            rows = min(rows, limit * having / fitting if fitting else rows)
        choices.append((rows * (_READ if is_narrow else _READ + _LOOK), Way("values", n)))
    return choices


def _by_ranks(
    sample: Sample, wanted: Wanted, fitting: set[int], after: Sequence[Any] | None, limit: int
) -> tuple[float, Sequence[Way]]:
    """A search by relevance in two questions, the second one only if the first finds too little."""
    assert wanted.search is not None
    named = fitting.intersection(*sample.with_words(wanted.search.named_terms))
    cost, found = 0.0, []
    if not after or after[0] > 0:
        behind = after[1:] if after and after[0] == 1 else None
        first = _shortest(sample, wanted, named, "names", after=behind, limit=limit)
        cost, found = first[0], [first[1]._replace(ranks=(2, 1))]
        behind = None
    else:
        behind = after[1:]
    second = _shortest(sample, wanted, fitting - named, "words", after=behind, limit=limit)
    found.append(second[1]._replace(ranks=(0,)))
    if len(found) == 1 or len(named) * sample.each < 2 * limit:
        cost += second[0] + _ASK
    return cost, found


def _shortest(
    sample: Sample, wanted: Wanted, found: set[int], by: str, *, after: Any, limit: int
) -> tuple[float, Way]:
    assert wanted.search is not None
    walked = sample.walked(found, "newest", after, limit) * _share(sample, wanted) * _NEXT
    if by == "names" and not sample.is_current:
        return (walked, Way())
    terms = wanted.search.named_terms if by == "names" else wanted.search.terms
    return min((walked, Way()), _by_words(sample, terms, by))


#: By database: until when, and the sample.
_known: WeakKeyDictionary[Any, tuple[float, Sample]] = WeakKeyDictionary()


def _sample() -> Sample:
    engine, now = db.engines[READER], time.monotonic()
    until, sample = _known.get(engine, (0.0, None))
    if sample is not None:
        if until > now:
            return sample
        # Who comes while another is taken goes by this one.
        _known[engine] = (now + _SOON, sample)
    taken = _take()
    seconds = _SECONDS if taken.each > 1 else _SOON
    _known[engine] = (time.monotonic() + seconds, taken)
    return taken


def _take() -> Sample:
    low, high = tuple(read(queries.LISTED_FROM_TO)[0])
    if low is None:
        return Sample([], [], 1)
    step = -(-(high - low + 1) // _SIZE)
    # One of each stretch, anywhere in it: what recurs in a catalogue may recur with a step.
    ids = [first + randrange(step) for first in range(low, high + 1, step)]
    listings, values = (read(it, ids=ids) for it in (queries.LISTINGS_OF, queries.VALUES_OF))
    is_current = not read(queries.listed_by_others_than(VERSION).limit(1))
    return Sample(listings, values, step, is_current=is_current)
