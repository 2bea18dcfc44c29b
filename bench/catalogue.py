"""Lists of a large catalogue: what filters, orders, searches and deep pages cost.

Each kind of list is asked for in turns with the first page of the plain list, one request at a
time, so that the ratio of the two holds whatever else the machine does.
"""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass, field
from statistics import median
from urllib.parse import quote

import orjson

from bench.stage import call

FIRST = "limit=20"
_FACETS = "facets=category,price,rating,attributes"
#: What a list may cost, as a multiple of the first page.
TARGET = 2.0


@dataclass
class Kind:
    """One kind of list, and its times in milliseconds beside those of the first page.

    `{n}` in its query is another number each time.
    """

    name: str
    query: str
    times: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Its median to that of the first page."""
        return median(self.times) / median(self.first)


def kinds(port: int) -> list[Kind]:
    """The lists that are measured, with cursors of this catalogue."""
    shelves = call(port, "GET", "/api/v1/categories")["items"]
    shelf = max(shelves, key=lambda item: item["product_count"])["id"]
    found = [
        Kind("a category", f"category={shelf}"),
        Kind("a category, by price", f"category={shelf}&sort=price"),
        Kind("prices from 20 to 25", "min_price=2000&max_price=2500"),
        Kind("prices from 20 to 25, by rating", "min_price=2000&max_price=2500&sort=rating"),
        Kind("sold out, by name", "in_stock=false&sort=name"),
        Kind("an attribute, by price", "attributes=brand:Nordvik&sort=price"),
        Kind("category, price and stock", f"category={shelf}&min_price=5000&in_stock=true"),
        Kind("by price, falling", "sort=-price"),
        Kind("search: three words", f"q={quote('walnut side tab')}"),
        Kind("search: a SKU", f"q={quote(_some_sku(port))}"),
        Kind("search: a word of one in 25", "q=linen"),
        Kind("all facets of everything", f"{_FACETS}&limit=20"),
        Kind("all facets, none remembered", f"{_FACETS}&limit=20&min_price={{n}}"),
    ]
    for sort in ("newest", "price"):
        deep, last = _cursors(port, sort)
        found.append(Kind(f"by {sort}: after nine tenths", f"sort={sort}&cursor={deep}"))
        found.append(Kind(f"by {sort}: the last page", f"sort={sort}&cursor={last}"))
    return found


def _some_sku(port: int) -> str:
    (item,) = call(port, "GET", "/api/v1/products?limit=1")["items"]
    return str(item["variants"][0]["sku"])


def _cursors(port: int, sort: str) -> tuple[str, str]:
    """Cursors after nine tenths of the list, and before its last twenty or so."""
    cursors: list[str] = []
    following: str | None = ""
    while following is not None:
        cursor = f"&cursor={following}" if following else ""
        answer = call(port, "GET", f"/api/v1/products?limit=100&sort={sort}{cursor}")
        following = answer["next_cursor"]
        cursors += [following] if following else []
    return cursors[len(cursors) * 9 // 10], cursors[-1]


def measure(port: int, rounds: int) -> list[Kind]:
    """Ask for each kind and for the first page in turns."""
    found = kinds(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for kind in found:
        # What is new each time counts for half a second.
        for number in range((min(rounds, 20) if "{n}" in kind.query else rounds) + 3):
            query = kind.query.replace("{n}", str(number))
            first, own = _seconds(connection, FIRST), _seconds(connection, query)
            if number >= 3:
                kind.first.append(first * 1000)
                kind.times.append(own * 1000)
    connection.close()
    return found


def _seconds(connection: http.client.HTTPConnection, query: str) -> float:
    began = time.perf_counter()
    connection.request("GET", f"/api/v1/products?{query}")
    answer = connection.getresponse()
    body = answer.read()
    taken = time.perf_counter() - began
    if answer.status != 200:
        raise RuntimeError(f"{query}: {answer.status} {orjson.loads(body)}")
    return taken
