"""The short way to read a row answers what the schema answers, or leaves it to the schema."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from marshmallow import Schema, ValidationError

from shop.orders.schemas import OrderIn
from shop.products.rows import ProductChangeIn, VariantChangeIn
from shop.products.schemas import ProductIn
from shop.web.plain import NotPlain, Reader, reader

SEED = 20261126
PRICE = {"amount": 19900, "currency": "EUR"}
PLAIN: dict[type[Schema], list[dict[str, Any]]] = {
    ProductIn: [
        {"name": "Oak table", "variants": [{"sku": "OAK-1", "price": PRICE, "stock": 3}]},
        {
            "name": "  Zoë's table ", "slug": "oak-2", "description": " of\noak\t",
            "status": "draft",
            "publish_at": "2030-01-02T03:04:05+01:00", "category_id": 7,
            "attributes": {"wood": " oak ", "drawers": 3, "outdoor": False},
            "external_reference": "ERP-1", "metadata": {"Erp.Id": "x"},
            "variants": [
                {"sku": "A", "name": " S ", "price": PRICE, "stock": 0, "attributes": {"size": 1}},
                {"sku": "B", "price": {"amount": 0, "currency": "EUR"}, "stock": 10**9,
                 "low_stock_threshold": 5, "external_reference": None, "metadata": {}},
            ],
        },
        {"name": "x", "publish_at": None, "category_id": None, "external_reference": None,
         "variants": [{"sku": "A", "price": PRICE, "stock": 3, "low_stock_threshold": None}]},
    ],
    ProductChangeIn: [{"id": 5, "version": "*", "name": "Oak"}, {"id": 5, "version": 3}],
    VariantChangeIn: [{"sku": "OAK-1", "version": 2, "price": PRICE, "attributes": {"a": "b"}}],
    OrderIn: [
        {"items": [{"sku": "A", "quantity": 3}], "address_id": 7},
        {"items": [{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}],
         "shipping_address": {"name": " Ann ", "line1": "Elm Street 1", "city": "Uppsala",
                              "postal_code": "753 10", "country": "SE"},
         "expected_total": PRICE},
    ],
}  # fmt: skip
#: What is put in the place of something, or beside it.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**12 + 1, 2**53, 2**63, 1.0, "", " ", "a", "A b", "é", "\x00",
    "a\nb", "x" * 201, "USD", "EUR", "active", "2030-01-02T03:04:05Z", "2030-13-02T03:04:05Z", [],
    {},
    [None], [{}], {"a": None}, {"a": "b"}, {"A": 1}, {"a": 1.5}, {"a": 2**53}, {"a": "x" * 201},
)  # fmt: skip
#: Fields that are added where they may not be.
ADDED = ("colour", "name", "sku", "status", "address_id")


@pytest.fixture(autouse=True)
def context() -> Iterator[None]:
    app = Flask(__name__)
    app.config["CURRENCY"] = "EUR"
    with app.app_context():
        yield


def load(schema: Schema, raw: Any) -> Any:
    """What the schema says; None when it refuses."""
    try:
        return schema.load(copy.deepcopy(raw))
    except ValidationError:
        return None


def read(read_row: Reader, raw: Any) -> Any:
    """What the short way says; None when it leaves it to the schema."""
    try:
        return read_row(copy.deepcopy(raw))
    except (NotPlain, ValidationError):
        return None


def exact(value: Any) -> str:
    """Values with their types: to Python, True is 1."""
    return repr(sorted(value.items())) if isinstance(value, dict) else repr(value)


@pytest.mark.parametrize("shape", PLAIN)
def test_what_is_plainly_allowed_takes_the_short_way(shape: type[Schema]) -> None:
    for raw in PLAIN[shape]:
        found = reader(shape())(raw)

        assert found == shape().load(copy.deepcopy(raw))
        assert exact(found) == exact(shape().load(copy.deepcopy(raw)))


def places(raw: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a row, with each of its keys."""
    if isinstance(raw, dict | list):
        for key in list(raw) if isinstance(raw, dict) else range(len(raw)):
            yield raw, key
            yield from places(raw[key])


def spoilt(raw: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A row in which something is taken away, odd, or too much."""
    row = copy.deepcopy(raw)
    for _ in range(chance.choice((1, 1, 2))):
        found = list(places(row))
        if not found:
            break
        owner, key = chance.choice(found)
        kind = chance.random()
        if kind < 0.2:
            del owner[key]
        elif kind < 0.3 and isinstance(owner, dict):
            owner[chance.choice(ADDED)] = chance.choice(ODD)
        else:
            owner[key] = copy.deepcopy(chance.choice(ODD))
    return row


@pytest.mark.parametrize("shape", PLAIN)
def test_it_never_takes_what_the_schema_would_not(shape: type[Schema]) -> None:
    """Each row of many, most of them spoilt, is read as by the schema or not at all."""
    chance, schema = random.Random(SEED), shape()
    read_row, taken, refused = reader(schema), 0, 0
    for _ in range(1500):
        raw = spoilt(chance.choice(PLAIN[shape]), chance)
        expected, found = load(schema, raw), read(read_row, raw)
        if found is not None:
            taken += 1
            assert expected is not None, raw
            assert found == expected, raw
            assert exact(found) == exact(expected), raw
        refused += expected is None
    assert taken > 50
    assert refused > 300
