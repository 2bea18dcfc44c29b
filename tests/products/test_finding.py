"""Lists: every filter and order in any combination, facets, pages."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event

from shop.products import facets
from shop.products.finding import FACETS
from tests import factories
from tests.web.checks import assert_problem

URL = "/api/v1/products"
Headers = dict[str, str]
Item = dict[str, Any]
SEED = 20261126
COLOURS, SIZES = ("red", "blue", "green, pale"), ("S", "M")


@pytest.fixture
def shelves(client: FlaskClient, staff: Headers) -> dict[str, int]:
    """Home with tables below it, and a garden."""
    made: dict[str, int] = {}
    for name, parent in (("home", None), ("tables", "home"), ("garden", None)):
        body = {"name": name, "parent_id": made.get(parent or "")}
        made[name] = client.post("/api/v1/categories", json=body, headers=staff).get_json()["id"]
    return made


@pytest.fixture
def catalogue(client: FlaskClient, staff: Headers, shelves: dict[str, int]) -> list[Item]:
    """Forty products, as their readers see them, that share words, prices, shelves and more."""
    chance = random.Random(SEED)
    made = []
    for number in range(40):
        variants = [
            factories.variant_body(
                sku=f"SKU-{number}-{size}",
                price={"amount": chance.choice((500, 1000, 1999, 4000)), "currency": "EUR"},
                stock=chance.choice((0, 0, 3)),
                attributes={"size": size},
            )
            for size in chance.sample(SIZES, chance.randint(1, 2))
        ]
        product = factories.create_product(
            client,
            staff,
            name=chance.choice(("Oak table", "oak chair", "Élan table", "Zebra chair")),
            description=chance.choice(("made of oak", "made of ash", "for a table")),
            status=chance.choice(("active", "active", "active", "draft", "archived")),
            category_id=chance.choice((None, *shelves.values())),
            attributes={"colour": chance.choice(COLOURS)},
            variants=variants,
        )
        made.append(product)
    _rate(client, staff, made, chance)
    return made


def _rate(client: FlaskClient, staff: Headers, made: list[Item], chance: random.Random) -> None:
    customers = [factories.sign_in(client.application, "customer") for _ in range(2)]
    for product in [item for item in made if item["status"] == "active"][::3]:
        for customer in customers:
            body = {"rating": chance.randint(1, 5)}
            url = f"{URL}/{product['id']}/reviews"
            where = client.post(url, json=body, headers=customer).headers["Location"]
            client.post(f"{where}/approve", headers=staff)
        product["rating"] = client.get(f"{URL}/{product['id']}").get_json()["rating"]


def everything(
    client: FlaskClient, query: str, headers: Headers | None = None, limit: int = 7
) -> list[Item]:
    """All pages of a list, joined."""
    found: list[Item] = []
    url: str | None = f"{URL}?limit={limit}&{query}"
    while url is not None:
        answer = client.get(url, headers=headers)
        assert answer.status_code == 200, answer.text
        found += answer.get_json()["items"]
        link = answer.headers.get("Link")
        url = None if link is None else link[1 : link.index(">")]
    return found


def ids(items: list[Item]) -> list[int]:
    return [item["id"] for item in items]


def price(item: Item) -> int:
    amount: int = item["price_from"]["amount"]
    return amount


def folded(item: Item) -> str:
    text: str = item["name"]
    return text.lower().replace("é", "e")


def rating(item: Item) -> float:
    return float(item["rating"]["average"] or 0)


SORT_KEYS: dict[str, Callable[[Item], Any]] = {
    "newest": lambda item: -item["id"],
    "price": lambda item: (price(item), item["id"]),
    "-price": lambda item: (-price(item), -item["id"]),
    "name": lambda item: (folded(item), item["id"]),
    "rating": lambda item: (-rating(item), -item["id"]),
}


def has_words(item: Item, *words: str) -> bool:
    text = f"{folded(item)} {item['description']}"
    return all(word in text for word in words)


def has_attribute(item: Item, code: str, *values: str) -> bool:
    owners = (item, *item["variants"])
    return any(owner["attributes"].get(code) in values for owner in owners)


def filters(shelves: dict[str, int]) -> list[tuple[str, Callable[[Item], bool]]]:
    """Parts of a query, each with what it says of an item."""
    home = {shelves["home"], shelves["tables"]}
    return [
        ("q=oak%20tab", lambda item: has_words(item, "oak", "tab")),
        (f"category={shelves['home']}", lambda item: (item["category"] or {}).get("id") in home),
        ("min_price=1000", lambda item: price(item) >= 1000),
        ("max_price=1999", lambda item: price(item) <= 1999),
        ("in_stock=true", lambda item: any(v["available"] > 0 for v in item["variants"])),
        (
            "attributes=colour:red,colour:green\\, pale,size:M",
            lambda item: (
                has_attribute(item, "colour", "red", "green, pale")
                and has_attribute(item, "size", "M")
            ),
        ),
    ]


def test_every_filter_and_order_in_any_combination_finds_what_a_person_would(
    client: FlaskClient, staff: Headers, catalogue: list[Item], shelves: dict[str, int]
) -> None:
    parts = filters(shelves)
    combinations = [c for n in range(len(parts) + 1) for c in itertools.combinations(parts, n)]
    found_some = 0
    for sort, chosen in itertools.product(SORT_KEYS, combinations):
        query = "&".join([f"sort={sort}", *(part for part, _ in chosen)])
        fitting = [item for item in catalogue if all(fits(item) for _, fits in chosen)]
        fitting.sort(key=SORT_KEYS[sort])

        public = [item for item in fitting if item["status"] == "active"]
        assert ids(everything(client, query)) == ids(public), query
        found_some += bool(public)
        if len(chosen) < 2:
            assert ids(everything(client, query, staff)) == ids(fitting), query
    assert found_some > len(SORT_KEYS) * len(combinations) // 2, "the filters hardly find anything"


def test_in_stock_false_finds_what_is_sold_out(client: FlaskClient, catalogue: list[Item]) -> None:
    gone = [
        item for item in catalogue
        if item["status"] == "active" and not any(v["available"] for v in item["variants"])
    ]  # fmt: skip
    assert gone
    assert ids(everything(client, "in_stock=false")) == ids(gone)[::-1]


def test_the_whole_name_comes_before_words_in_it_before_words_anywhere(
    client: FlaskClient, staff: Headers
) -> None:
    bodies = (
        {"name": "Oak table"},
        {"name": "Oak table lamp"},
        {"name": "Shelf", "description": "goes with an oak table"},
        {"name": "Oak table"},
        {"name": "Table of oak, large"},
    )
    made = [factories.create_product(client, staff, **body)["id"] for body in bodies]

    found = everything(client, "q=oak+table", limit=2)

    assert ids(found) == [made[3], made[0], made[4], made[1], made[2]]


def test_a_sku_finds_its_product_first(client: FlaskClient, staff: Headers) -> None:
    variant = factories.variant_body(sku="OAK-7.B")
    wanted = factories.create_product(client, staff, variants=[variant])
    factories.create_product(client, staff, name="OAK 7 B case")

    assert ids(everything(client, "q=oak-7.b"))[0] == wanted["id"]


def test_lists_follow_what_changes(client: FlaskClient, staff: Headers) -> None:
    product = factories.create_product(client, staff, name="Oak", attributes={"wood": "oak"})
    variant = product["variants"][0]["id"]
    headers = staff | {"If-Match": "*"}

    def found(query: str) -> bool:
        return ids(everything(client, query)) == [product["id"]]

    assert found("q=oak")
    assert found("attributes=wood:oak")
    client.patch(
        f"{URL}/{product['id']}", json={"name": "Ash", "attributes": {"wood": "ash"}},
        headers=headers,
    )  # fmt: skip
    assert not found("q=oak&attributes=wood:oak")
    assert found("q=ash&attributes=wood:ash")

    stock = f"/api/v1/variants/{variant}/stock"
    assert found("in_stock=true")
    client.post(stock, json={"delta": -7, "reason": "sold"}, headers=staff)
    assert found("in_stock=false")
    body = factories.variant_body(
        sku="NEW", price={"amount": 3, "currency": "EUR"}, attributes={"size": "XL"}
    )
    more = client.post(f"{URL}/{product['id']}/variants", json=body, headers=staff).get_json()
    assert found("in_stock=true&max_price=3&q=new&attributes=size:XL")
    client.post(stock, json={"delta": 1, "reason": "came"}, headers=staff)
    assert client.delete(f"/api/v1/variants/{more['id']}", headers=headers).status_code == 204
    assert found("in_stock=true&min_price=4")
    assert not found("q=new")
    price = {"price": {"amount": 5, "currency": "EUR"}}
    client.patch(f"/api/v1/variants/{variant}", json=price, headers=headers)
    assert found("min_price=5&max_price=5")
    assert client.delete(f"{URL}/{product['id']}", headers=headers).status_code == 204
    assert not found("")


def test_facets_count_what_was_found(
    client: FlaskClient, catalogue: list[Item], shelves: dict[str, int]
) -> None:
    public = [item for item in catalogue if item["status"] == "active"]
    query = "facets=category,price,rating,attributes&limit=1"

    found = client.get(f"{URL}?{query}").get_json()["facets"]

    by_shelf = {entry["slug"]: entry["count"] for entry in found["category"]}
    tables = sum((i["category"] or {}).get("slug") == "tables" for i in public)
    home = sum((i["category"] or {}).get("slug") == "home" for i in public)
    assert (by_shelf["tables"], by_shelf["home"]) == (tables, home + tables)
    assert (found["price"]["min"], found["price"]["max"]) == (500, 4000)
    for step in found["price"]["ranges"]:
        assert step["count"] == sum(step["from"] <= price(item) < step["to"] for item in public)
    assert sum(step["count"] for step in found["price"]["ranges"]) == len(public)
    assert found["rating"] == [
        {"stars": n, "count": count}
        for n in range(6)
        if (count := sum(int(rating(item)) == n for item in public))
    ]
    for code, values in (("colour", COLOURS), ("size", SIZES)):
        counted = {entry["value"]: entry["count"] for entry in found["attributes"][code]}
        assert counted == {
            value: sum(has_attribute(item, code, value) for item in public) for value in values
        }


def test_facets_of_one_state_count_no_other(
    client: FlaskClient, staff: Headers, catalogue: list[Item]
) -> None:
    """Counted in another way than facets of what is filtered by anything else."""
    for query in ("", "&status=draft", "&status=archived", "&status=active", "&min_price=0"):
        url = f"{URL}?facets=attributes&limit=1{query}"
        shown_all = client.get(url, headers=staff).get_json()["facets"]["attributes"]

        wanted = query.rpartition("status=")[2] if "status" in query else None
        found = [item for item in catalogue if wanted in (None, item["status"])]
        for code, values in (("colour", COLOURS), ("size", SIZES)):
            counts = {v: sum(has_attribute(item, code, v) for item in found) for v in values}
            shown = [(entry["value"], entry["count"]) for entry in shown_all[code]]
            assert shown == sorted(
                ((v, n) for v, n in counts.items() if n), key=lambda it: (-it[1], it[0])
            )


@pytest.mark.parametrize("most", [0, 10_000])
def test_facets_of_very_many_products_are_remembered_for_a_moment(
    client: FlaskClient, staff: Headers, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(facets, "_MANY", most)
    monkeypatch.setattr(facets, "_known", WeakKeyDictionary())
    monkeypatch.setattr(facets, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    names = set(FACETS)

    def counted(query: str = "") -> set[int]:
        url = f"{URL}?facets={','.join(names)}&limit=1{query}"
        found = client.get(url).get_json()["facets"]
        prices, ratings = found["price"]["ranges"], found["rating"]
        return {
            sum(part["count"] for part in prices), sum(part["count"] for part in ratings),
            *(entry["count"] for entry in found["category"]),
            *(entry["count"] for entry in found["attributes"]["colour"]),
        }  # fmt: skip

    shelf = client.post("/api/v1/categories", json={"name": "Home"}, headers=staff).get_json()
    body = {"category_id": shelf["id"], "attributes": {"colour": "red"}, "status": "active"}
    factories.create_product(client, staff, **body)
    assert counted() == {1}
    factories.create_product(client, staff, **body)

    assert counted() == ({1} if most == 0 else {2})
    # Another list is another one, and a search is never remembered.
    assert counted("&min_price=1") == {2}
    assert counted("&q=oak") == {2}
    factories.create_product(client, staff, **body)
    assert counted("&q=oak") == {3}
    clock[0] += 5.1
    assert counted() == {3}


def test_a_facet_shows_the_alternatives_to_its_own_filter(
    client: FlaskClient, catalogue: list[Item]
) -> None:
    chosen = "attributes=colour:red&max_price=999"
    found = client.get(f"{URL}?facets=attributes,price&{chosen}").get_json()["facets"]

    cheap = [i for i in catalogue if i["status"] == "active" and price(i) < 1000]
    colours = {entry["value"]: entry["count"] for entry in found["attributes"]["colour"]}
    assert colours["blue"] == sum(has_attribute(item, "colour", "blue") for item in cheap) > 0
    sizes = {entry["value"]: entry["count"] for entry in found["attributes"]["size"]}
    red = [item for item in cheap if has_attribute(item, "colour", "red")]
    assert sizes["S"] == sum(has_attribute(item, "size", "S") for item in red)
    assert found["price"]["max"] > 999


@pytest.mark.parametrize(
    "query",
    ["sort=cheapest", "sort=relevance", "in_stock=1", "min_price=-1", "min_price=1.5", "facets=all",
     "facets=price,", "attributes=colour", "attributes=Colour:red", "category=0",
     "max_price=10000000000000"],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"{URL}?{query}").status_code == 422


def test_a_cursor_belongs_to_its_order(client: FlaskClient, catalogue: list[Item]) -> None:
    cursor = client.get(f"{URL}?sort=price&limit=2").get_json()["next_cursor"]

    assert_problem(client.get(f"{URL}?sort=rating&cursor={cursor}"), "validation", "/cursor")


def test_a_list_asks_the_same_number_of_questions_whatever_its_length(
    app: Flask, client: FlaskClient, catalogue: list[Item], engine: Engine
) -> None:
    """DL-15. Counted for two lengths of each kind of list, facets included."""
    reader = app.extensions["shop"].reader

    def questions(query: str) -> int:
        asked: list[str] = []

        def count(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not statement.startswith("BEGIN"):
                asked.append(statement)

        for source in (engine, reader):
            event.listen(source, "before_cursor_execute", count)
        client.get(f"{URL}?{query}")
        for source in (engine, reader):
            event.remove(source, "before_cursor_execute", count)
        return len(asked)

    # What the shop knows of the words is asked once a minute.
    client.get(f"{URL}?q=oak")
    for query, most in (("", 2), ("sort=price", 2), ("q=oak", 2), ("facets=price,attributes", 4)):
        few, many = questions(f"limit=1&{query}"), questions(f"limit=30&{query}")
        assert few == many <= most, query
