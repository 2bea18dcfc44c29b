"""How the engines find lists in a large catalogue: by indexes, never by reading everything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Select, func, insert, select, text

from shop import clock
from shop.db import writing
from shop.products import sampling
from shop.products.finding import SORTS, Wanted, order_of
from shop.products.models import Category, ListedValue, Product, ProductListing
from shop.products.pages import page_of
from shop.products.search import VERSION, Search, words_of
from tests.conftest import create_shop
from tests.plans import rows_read
from tests.servers import MariaDB

_BATCH = 5000


@pytest.fixture
def own(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The engine of a shop of this test's own: emptying a large one takes longer than making it."""
    url = ""
    if engine_name == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        url = server.create_database("plans")
    shop = create_shop(tmp_path, database_url=url)
    with shop.app_context():
        yield shop.extensions["shop"].engine
    if engine_name == "mariadb":
        server.drop_database("plans")


@pytest.fixture(params=[20_000, pytest.param(100_000, marks=pytest.mark.full)])
def catalogue(request: pytest.FixtureRequest, own: Engine) -> Engine:
    """So many products on ten shelves. Only what lists look at is there."""
    moment = clock.now()
    times = {"created_at": moment, "updated_at": moment, "version": 1}
    with writing(own) as connection:
        shelves = [
            {"id": n, "name": f"Shelf {n}", "slug": f"shelf-{n}", "position": n, **times}
            for n in range(1, 11)
        ]
        connection.execute(insert(Category), shelves)
        for first in range(1, request.param + 1, _BATCH):
            numbers = range(first, first + _BATCH)
            products = [_product(n) | times for n in numbers]
            connection.execute(insert(Product), products)
            connection.execute(insert(ProductListing), [_listing(n) for n in numbers])
            connection.execute(insert(ListedValue), [_attribute(n) for n in numbers])
    with writing(own) as connection:
        if own.dialect.name == "sqlite":
            connection.execute(text("ANALYZE"))
        else:
            names = ", ".join(m.__tablename__ for m in (Product, ProductListing, ListedValue))
            connection.execute(text(f"ANALYZE TABLE {names}")).all()
    return own


def _product(n: int) -> dict[str, Any]:
    return {
        "id": n, "name": f"Lamp {n}", "slug": f"lamp-{n}", "description": "", "attributes": {},
        "status": _status(n), "category_id": n % 10 + 1,
    }  # fmt: skip


def _status(n: int) -> str:
    return "draft" if n % 50 == 0 else "active"


def _listing(n: int) -> dict[str, Any]:
    return {
        "product_id": n, "status": _status(n), "category_id": n % 10 + 1, "name": f"lamp {n}",
        "price_from": n * 7919 % 50_000, "rating": 0 if n % 3 else n % 500,
        "stocked_variants": int(n % 20 > 0), "words_version": VERSION,
        "words": words_of([f"Lamp {n}", "brass" if n % 100 == 0 else "steel"], f"lamp {n}"),
    }  # fmt: skip


def _attribute(n: int) -> dict[str, Any]:
    listing = _listing(n)
    owner = {name: listing[name] for name in ("status", "price_from", "product_id")}
    return {"code": "colour", "value": f"colour {n % 200}"} | owner


FILTERS: dict[str, dict[str, Any]] = {
    "category": {"categories": (3,)},
    "subtree": {"categories": (1, 2, 3)},
    "price": {"min_price": 1000, "max_price": 2000},
    "in stock": {"in_stock": True},
    "sold out": {"in_stock": False},
    "attribute": {"attributes": {"colour": ["colour 7", "colour 8"]}},
    "search": {"search": Search("lamp bra")},
    "common words": {"search": Search("lamp ste")},
}


def lists() -> list[tuple[str, Wanted, str, int]]:
    """Every filter, and every two of them, in every order, for everybody and for staff.

    Each with its name, what is wanted, the order, and how many filters there are.
    """
    found = []
    pairs = (c for n in range(3) for c in itertools.combinations(FILTERS, n))
    searches = {"search", "common words"}
    for names, sort in itertools.product(pairs, SORTS):
        if searches <= set(names) or (sort == "relevance" and not searches & set(names)):
            continue
        filters = {key: value for name in names for key, value in FILTERS[name].items()}
        for statuses in (("active",), ("draft", "active", "archived")):
            wanted = Wanted(statuses=statuses, **filters)
            what = f"{names} by {sort} of {len(statuses)}"
            found.append((what, wanted, sort, len(names)))
    return found


def read_whole(engine: Engine, question: Select[Any]) -> list[str]:
    """Steps of the engine's plan that read a whole table of the catalogue."""
    sql = str(question.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}").all()
            return [
                row.detail
                for row in plan
                if row.detail.startswith(("SCAN product", "SCAN listed"))
                and "VIRTUAL" not in row.detail
            ]
        plan = connection.exec_driver_sql(f"EXPLAIN {sql.replace('%', '%%')}").all()
    small = ("categories", "product_ratings")
    return [
        str(step)
        for step in plan
        if step.type == "ALL"
        and step.table not in small
        and not (step.table or "<").startswith("<")
    ]


def size(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count(ProductListing.product_id))).scalar_one()


def test_no_list_reads_the_whole_catalogue(catalogue: Engine) -> None:
    """DL-16. First pages and pages behind a key, of every filter, pair of filters and order."""
    most = size(catalogue) // 6
    for what, wanted, sort, filters in lists():
        key = [300 if kind is int else "lamp 300" for kind in order_of(sort).kinds]
        if sort == "relevance":
            key[0] = 1
        for behind in (None, key):
            questions = [
                page_of(wanted, sort, behind, 21, way)
                for way in sampling.ways(wanted, sort, behind, 21)
            ]
            for prepared, values in questions:
                assert read_whole(catalogue, prepared.params(values)) == [], what
            # The second one is asked only where the first finds less than a page.
            prepared, values = questions[0]
            if filters < 2 and catalogue.dialect.name != "sqlite":
                assert rows_read(catalogue, prepared.params(values)) < most, what
