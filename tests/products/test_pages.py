"""A page is the same whichever way it is found, so that each page may be found in another way."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, insert

from shop import clock
from shop.db import read, writing
from shop.products.finding import Wanted, order_of
from shop.products.models import ListedValue, Product, ProductListing, StockLevel, Variant
from shop.products.pages import Way, page_of
from shop.products.search import VERSION, Search, words_of

SEED = 20261126
EVERY = ("draft", "active", "archived")
COLOURS = ("red", "blue", "green")
NAMES = ("oak table", "oak chair", "élan table", "oak", "table lamp")
SORTS = ("newest", "price", "-price", "name", "rating")
#: A search by relevance: all at once, or in two questions, each found by an order or by words.
IN_TWO = [
    (Way(first, ranks=(2, 1)), Way(second, ranks=(0,)))
    for first in ("order", "names")
    for second in ("order", "words")
]


@pytest.fixture
def catalogue(app: Flask, engine: Engine) -> Iterator[None]:
    """Two hundred products that share names, words, prices, colours and more."""
    chance = random.Random(SEED)
    moment = clock.now()
    times = {"created_at": moment, "updated_at": moment, "version": 1}
    listings = [_listing(chance, n) for n in range(1, 201)]
    levels = [{"variant_id": n, "on_hand": 1, "version": 1} for n in range(1, 201)]
    with writing(engine) as connection:
        connection.execute(insert(Product), [_product(it) | times for it in listings])
        connection.execute(insert(Variant), [_variant(n) for n in range(1, 201)])
        connection.execute(insert(StockLevel), levels)
        connection.execute(insert(ProductListing), listings)
        values = [value for it in listings for value in _values(chance, it)]
        connection.execute(insert(ListedValue), values)
    with app.app_context():
        yield


def _product(listing: dict[str, Any]) -> dict[str, Any]:
    n = listing["product_id"]
    own = {"id": n, "slug": f"p-{n}", "description": "", "attributes": {}}
    return own | {name: listing[name] for name in ("name", "status")}


def _listing(chance: random.Random, n: int) -> dict[str, Any]:
    name = " ".join(words_in(chance.choice(NAMES)))
    texts = [name, chance.choice(("made of oak", "goes with a table", "oak for a table", "ash"))]
    return {
        "product_id": n, "status": chance.choice((*EVERY, "active", "active")), "name": name,
        "category_id": chance.choice((None, 1, 2)), "price_from": chance.choice((500, 900, 1000)),
        "rating": chance.choice((0, 300, 450)), "stocked_variants": chance.choice((0, 1)),
        "words": words_of([*texts, _sku(n)], name), "words_version": VERSION,
    }  # fmt: skip


def words_in(name: str) -> list[str]:
    return Search(name).words


def _sku(n: int) -> str:
    return "OAK" if n == 7 else f"SKU-{n}"


def _variant(n: int) -> dict[str, Any]:
    return {
        "id": n, "product_id": n, "sku": _sku(n), "name": "",
        "price_amount": 1, "currency": "EUR", "attributes": {}, "version": 1,
    }  # fmt: skip


def _values(chance: random.Random, listing: dict[str, Any]) -> list[dict[str, Any]]:
    owner = {name: listing[name] for name in ("status", "price_from", "product_id")}
    colours = chance.sample(COLOURS, chance.randint(1, 2))
    values = [("colour", colour) for colour in colours] + [("size", chance.choice("SM"))]
    return [{"code": code, "value": value} | owner for code, value in values]


FILTERS: dict[str, dict[str, Any]] = {
    "": {},
    "price": {"min_price": 600, "max_price": 950},
    "stock": {"in_stock": True},
    "category": {"categories": (1,)},
    "categories": {"categories": tuple(range(1, 20))},
}
ATTRIBUTES: dict[str, dict[str, list[str]]] = {
    "": {},
    "red": {"colour": ["red"]},
    "red or blue": {"colour": ["red", "blue"]},
    "red and small": {"colour": ["red"], "size": ["S"]},
    "many": {"colour": [*COLOURS, *(f"shade {n}" for n in range(20))]},
}


def ways_to(wanted: Wanted, sort: str) -> list[Sequence[Way]]:
    """Every way to a list."""
    found: list[Sequence[Way]] = [(Way("values", n),) for n in range(len(wanted.attributes))]
    if wanted.search is not None:
        found += [(Way("words"),), (Way("words", terms=(len(wanted.search.words) - 1,)),)]
    return found + (list(IN_TWO) if sort == "relevance" else [(Way(),)])


def page(
    wanted: Wanted, sort: str, after: Sequence[Any] | None, limit: int, ways: Sequence[Way]
) -> list[Any]:
    rows: list[Any] = []
    for way in ways:
        if after and way.ranks and min(way.ranks) > after[0]:
            continue
        question, values = page_of(wanted, sort, after, limit - len(rows), way)
        rows += read(question, **values)
        if len(rows) >= limit:
            break
    return rows


def whole(wanted: Wanted, sort: str, chance: random.Random) -> list[int]:
    """Ids of a list, each page found in a way that chance decides."""
    width = len(order_of(sort, 1).columns)
    found: list[int] = []
    after = None
    while True:
        rows = page(wanted, sort, after, 20, chance.choice(ways_to(wanted, sort)))
        found += [row[0] for row in rows]
        if len(rows) < 20:
            return found
        after = tuple(rows[-1][-width:])


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("text", [None, "oak", "oak tab", "sku-12"])
def test_every_way_finds_the_same_page_after_page(text: str | None) -> None:
    chance = random.Random(f"{SEED}{text}")
    lists = 0
    for attributes in ATTRIBUTES:
        if text is None and not attributes:
            continue
        filters = chance.choice(list(FILTERS))
        for sort in (
            chance.sample(SORTS, 3) if text is None else (chance.choice(SORTS), "relevance")
        ):
            wanted = Wanted(
                statuses=chance.choice((("active",), EVERY)),
                search=None if text is None else Search(text),
                attributes=ATTRIBUTES[attributes], **FILTERS[filters],
            )  # fmt: skip
            pages = [page(wanted, sort, None, 250, ways) for ways in ways_to(wanted, sort)]
            ids = [[row[0] for row in rows] for rows in pages]
            what = f"{filters} {attributes} by {sort} of {len(wanted.statuses)}"
            for ways, found in zip(ways_to(wanted, sort), ids, strict=True):
                assert found == ids[0], f"{what} {ways}"
            assert whole(wanted, sort, chance) == ids[0], what
            lists += bool(ids[0])
    assert lists > 2, "the filters hardly find anything"


@pytest.mark.usefixtures("catalogue")
def test_ranks_are_the_same_in_one_question_and_in_two() -> None:
    wanted = Wanted(statuses=EVERY, search=Search("oak"))
    (once,) = {tuple(row[-2:] for row in page(wanted, "relevance", None, 250, (Way("words"),)))}

    assert {rank for rank, _ in once} == {0, 1, 2}
    assert (2, 7) in once, "its SKU is looked for"
    for ways in IN_TWO:
        assert tuple(row[-2:] for row in page(wanted, "relevance", None, 250, ways)) == once
