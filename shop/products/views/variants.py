"""The doors of variants and their stock."""

from __future__ import annotations

from typing import Any

from flask import Response, url_for

from shop.db import db, transactional
from shop.errors import NotFound
from shop.products import operations, queries, stock
from shop.products.models import Variant
from shop.products.schemas import VariantIn, VariantOut, VariantPatch, stored_variant_out
from shop.products.stock_schemas import (
    MovementPage,
    PricePage,
    StockChange,
    StockOut,
    movement_out,
    price_out,
    stock_out,
)
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES
from shop.web.fields import LARGEST_ID
from shop.web.idempotency import keep_answer
from shop.web.pagination import PageQuery, decode_cursor, page

variants = Blueprint("variants", __name__, description="Variants and their stock")

_SCOPE = "stock-movements:newest"
_PRICES = "prices:newest"


@variants.post("/products/<id:id>/variants")
@variants.allow(*EMPLOYEES, scope="products:write")
@variants.body(VariantIn)
@variants.response(201, VariantOut, headers=ETAG | LOCATION)
@variants.refuses(404, 409)
@variants.idempotent()
@transactional
def add_variant(data: dict[str, Any], id: int) -> Response:
    """Add a variant with its stock to a product."""
    product = operations.find_for_change(db.session(), id)
    variant = operations.add_variant(db.session(), product, data)
    location = url_for("products.get_product", id=id)
    shown = stored_variant_out(variant)
    return keep_answer(answer(shown, 201, version=variant["version"], location=location))


@variants.patch("/variants/<id:id>")
@variants.allow(*EMPLOYEES, scope="products:write")
@variants.body(VariantPatch)
@variants.response(200, VariantOut, headers=ETAG)
@variants.versioned
@variants.refuses(404, 409)
@transactional
def change_variant(changes: dict[str, Any], id: int) -> Response:
    """Change a variant's own fields, not its stock. Needs `If-Match`."""
    variant = operations.find_variant_for_change(db.session(), id)
    check_version(variant.version, required=True)
    operations.change_variant(db.session(), variant, changes)
    shown = stored_variant_out(vars(variant) | {"on_hand": variant.stock.on_hand})
    return answer(shown, version=variant.version)


@variants.delete("/variants/<id:id>")
@variants.allow(*EMPLOYEES, scope="products:write")
@variants.response(204)
@variants.versioned
@variants.refuses(404, 409)
@transactional
def delete_variant(id: int) -> Response:
    """Delete a variant with its stock; a product's last one stays. Needs `If-Match`."""
    variant = operations.find_variant_for_change(db.session(), id)
    check_version(variant.version, required=True)
    operations.delete_variant(db.session(), variant)
    return Response(status=204)


def _find(id: int) -> Variant:
    variant = db.session.get(Variant, id)
    if variant is None:
        raise NotFound(f"There is no variant {id}.")
    return variant


@variants.get("/variants/<id:id>/stock")
@variants.allow(*EMPLOYEES, scope="products:write")
@variants.response(200, StockOut, headers=ETAG)
@variants.conditional
@variants.refuses(404)
def get_stock(id: int) -> Response:
    """How many of a variant are there."""
    variant = _find(id)
    level = stock.level_of(db.session(), id)
    return answer(stock_out(level, variant), version=level.version)


@variants.post("/variants/<id:id>/stock")
@variants.allow(*EMPLOYEES, scope="products:write")
@variants.body(StockChange)
@variants.response(200, StockOut, headers=ETAG)
@variants.refuses(404, 409)
@variants.idempotent()
@transactional
def change_stock(change: dict[str, Any], id: int) -> Response:
    """Put to the stock or take from it (`delta`), or set it to what was counted.

    ---
    `set` counts only if `expected` is there: what is sold meanwhile is not overwritten. Stock never
    falls below 0: `out-of-stock` says how many are there.
    """
    variant = _find(id)
    if "delta" in change:
        level = stock.move(db.session(), id, change["delta"], change["reason"])
    else:
        counted, expected = change["set"], change["expected"]
        level = stock.set_to(db.session(), id, counted, expected, change["reason"])
    return keep_answer(answer(stock_out(level, variant), version=level.version))


@variants.get("/variants/<id:id>/stock/movements")
@variants.allow(*EMPLOYEES, scope="products:write")
@variants.query(PageQuery)
@variants.response(200, MovementPage, headers=ETAG | LINK)
@variants.conditional
@variants.refuses(404)
def list_movements(limit: int, id: int, cursor: str | None = None) -> Response:
    """Every change of a variant's stock, newest first; `on_hand` is their sum."""
    _find(id)
    before = decode_cursor(_SCOPE, cursor, [int])[0] if cursor else LARGEST_ID
    assert isinstance(before, int)
    rows = db.session.scalars(queries.movements_of(id, before, limit + 1)).all()
    return page(rows, limit, scope=_SCOPE, key=lambda row: (row.id,), shape=_shown)


def _shown(rows: Any) -> list[dict[str, Any]]:
    return [movement_out(row) for row in rows]


@variants.get("/variants/<id:id>/prices")
@variants.allow(*EMPLOYEES, scope="products:write")
@variants.query(PageQuery)
@variants.response(200, PricePage, headers=ETAG | LINK)
@variants.conditional
@variants.refuses(404)
def list_prices(limit: int, id: int, cursor: str | None = None) -> Response:
    """What a variant costs and did cost, newest first; each until the next one began."""
    _find(id)
    before = decode_cursor(_PRICES, cursor, [int])[0] if cursor else LARGEST_ID
    assert isinstance(before, int)
    rows = db.session.scalars(queries.prices_of(id, before, limit + 1)).all()
    return page(rows, limit, scope=_PRICES, key=lambda row: (row.id,), shape=_prices)


def _prices(rows: Any) -> list[dict[str, Any]]:
    return [price_out(row) for row in rows]
