"""What visitors say, by chance: every field, and texts that engines like to find equal."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from shop.products.finding import FACETS, SORTS
from tests.transfers.checks import CSV, JSONL, csv_file

Sku = Callable[[], str]

#: Case, accents, compatible letters, emoji, letters beyond 16 bits, joiners, trailing space.
NAMES = (
    "Oak table", "oak table", "OAK TABLE", "Öak täble", "Oak table ", "Oak  table", "Stuhl groß",
    "STUHL GROSS", "stuhl gross", "İstanbul lamp", "ılık lamp", "Café 😀", "Cafe\u0301 😀",
    "Cafe 😎", "😀", "😎", "東京の机", "机", "ﬁne oak", "O'Brien\"; DROP TABLE products --",
    "100% wool_blend\\", "a\u200db", "𝔘nicode", "Ωmega", "ωmega", "Æsop", "aesop", "Sofa", "sofá",
    "Zebra", "zebra", "Łamp", "lamp", "x" * 200, "ß", "ss", "𝕆ak", "１２３ table", "123 table",
)  # fmt: skip
SEARCHES = (
    "oak", "OAK", "öak", "oak tab", "table oak", "gross", "groß", "😀", "😎", "東", "机", "the",
    "a", "+oak -table", '"oak table"', "oak*", "%", "_", "o'b", "ωm", "123", "lamp z", "aaa", "zzz",
    "oak\\", "ﬁne", "cafe", "Oak-1", "oak-1",
)  # fmt: skip
SLUGS = ("oak-table", "oak-table-", "sofa", "zebra", "new", "oak--table", "a1", "1-a", "bulk")
CODES = ("colour", "weight", "outdoor", "material", "note")


def name(chance: random.Random) -> str:
    """One of `NAMES`, or one that nothing else has."""
    text = chance.choice(NAMES)
    return text if chance.random() < 0.6 else f"{text[:180]} {chance.randrange(1000)}"


def slug(chance: random.Random) -> str:
    """A slug, which may be taken or none at all."""
    return chance.choice(SLUGS) if chance.random() < 0.4 else f"slug-{chance.randrange(400)}"


def some_of(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Some members of a body."""
    return {key: value for key, value in body.items() if chance.random() < 0.5}


def definition(chance: random.Random) -> dict[str, Any]:
    """A definition of an attribute, whose code may be taken."""
    kind = chance.choice(("text", "integer", "boolean", "choice"))
    code = chance.choice((*CODES, f"code_{chance.randrange(50)}"))
    options = chance.sample(("red", "Red", "grün", "gruen", "😀", "😎"), 3)
    body: dict[str, Any] = {"code": code, "name": name(chance), "kind": kind}
    if kind == "choice" or chance.random() < 0.1:
        body["options"] = options
    return body | ({"unit": "g"} if kind == "integer" else {})


def attributes(chance: random.Random) -> dict[str, Any]:
    """Values, which may not fit their definitions."""
    values = (
        "red",
        "Red",
        "grün",
        "😀",
        "😎",
        "oak ",
        7,
        -(2**53) + 1,
        True,
        False,
        "a,b",
        "7",
        "",
    )
    codes = chance.sample(CODES, chance.choice((0, 0, 1, 2)))
    return {code: chance.choice(values) for code in codes}


def variant(chance: random.Random, sku: Sku) -> dict[str, Any]:
    """A variant."""
    amount = chance.choice((0, 1, 99, 100, 1999, 19900, 10**12, chance.randrange(50_000)))
    body = {
        "sku": sku(), "price": {"amount": amount, "currency": "EUR"},
        "stock": chance.choice((0, 0, 1, 7, 10**9)),
    }  # fmt: skip
    more = {
        "name": name(chance), "attributes": attributes(chance),
        "low_stock_threshold": chance.choice((None, 1, 5)),
        "external_reference": f"erp:{chance.randrange(60)}",
        "metadata": {"Erp.x": name(chance), "n": chance.choice((1, True, -5, 2**53 - 1))},
    }  # fmt: skip
    return body | some_of(some_of(more, chance), chance)


def product(chance: random.Random, sku: Sku) -> dict[str, Any]:
    """A product, with a few of the fields that it may have."""
    variants = [variant(chance, sku) for _ in range(chance.choice((1, 1, 2, 3)))]
    body = {"name": name(chance), "variants": variants}
    more = {
        "slug": slug(chance), "description": f"{name(chance)}\n\t{name(chance)}" * 3,
        "status": chance.choice(("draft", "active", "active", "archived")),
        "attributes": attributes(chance), "metadata": {"Erp.id": name(chance), "b": False},
        "external_reference": chance.choice(("ERP:", "erp:")) + str(chance.randrange(60)),
    }  # fmt: skip
    if chance.random() < 0.15:
        times = ("2026-11-22T09:10:00Z", "2027-01-01T00:00:00.000001+01:00", "2026-11-23T10:00:00Z")
        return body | {"status": "draft", "publish_at": chance.choice(times)}
    return body | some_of(some_of(more, chance), chance)


def query(chance: random.Random) -> dict[str, Any]:
    """Filters, an order and facets in any combination."""
    attribute = f"{chance.choice(CODES)}:{chance.choice(('red', 'Red', '😀', '7', 'true', 'oak '))}"
    every = {
        "q": chance.choice(SEARCHES), "min_price": chance.choice((0, 1, 100, 1999)),
        "max_price": chance.choice((0, 99, 1999, 19900, 10**12)),
        "in_stock": chance.choice(("true", "false")), "attributes": attribute,
        "external_reference": f"erp:{chance.randrange(60)}",
        "status": chance.choice(("active", "draft", "archived")),
    }  # fmt: skip
    found = {key: value for key, value in every.items() if chance.random() < 0.22}
    if chance.random() < 0.7:
        sorts = SORTS if "q" in found else SORTS[:-1]
        found["sort"] = chance.choice(sorts)
    if chance.random() < 0.5:
        found["facets"] = ",".join(chance.sample(FACETS, chance.randint(1, len(FACETS))))
    return found


def review(chance: random.Random) -> dict[str, Any]:
    """A review."""
    body = {"rating": chance.randint(1, 5), "title": name(chance), "text": name(chance) * 2}
    return {"rating": body["rating"]} | some_of(body, chance)


def address(chance: random.Random) -> dict[str, Any]:
    """An address."""
    body = {
        "name": name(chance), "line1": "Elm Street 1", "city": name(chance)[:100],
        "postal_code": "75310", "country": "SE",
    }  # fmt: skip
    more = {
        "line2": name(chance), "region": None, "phone": "+46 18 1",
        "default_shipping": chance.random() < 0.5, "default_billing": True,
    }  # fmt: skip
    return body | some_of(more, chance)


def file(chance: random.Random, sku: Sku) -> tuple[str, bytes]:
    """A file of products and its media type; some of its rows are bad."""
    if chance.random() < 0.5:
        rows = [product(chance, sku) for _ in range(4)]
        if chance.random() < 0.6:
            rows.insert(2, {"name": "", "variants": []})
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        return JSONL, "\n".join(lines).encode() + chance.choice((b"", b"\n", b"\n{broken\n"))
    cells = []
    for number in range(4):
        price = chance.choice(("100", "007", "1.5", "1999"))
        cells.append(
            {"slug": f"file-{chance.randrange(30)}-{number}", "name": name(chance), "sku": sku(),
             "price_amount": price, "price_currency": "EUR", "stock": chance.choice((0, 7, -1))}
        )  # fmt: skip
    return CSV, csv_file(*cells)
