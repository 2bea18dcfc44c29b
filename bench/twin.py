"""The twin: the least code that answers the same requests from the same tables.

It is the honest limit of Flask on PyMySQL: no ORM, no audit, no sign-in, hardly any validation.
Nothing in it is slower than it has to be.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import orjson
import pymysql
from flask import Flask, Response, abort, request
from pymysql.connections import Connection
from pymysql.cursors import Cursor

_PRODUCT = (
    "p.id, p.name, p.slug, p.description, p.status, p.attributes, p.version, p.created_at,"
    " p.updated_at, p.publish_at, p.external_reference, p.public_metadata,"
    " c.id, c.name, c.slug, r.stars_1, r.stars_2, r.stars_3, r.stars_4, r.stars_5"
    " FROM products p LEFT JOIN categories c ON c.id = p.category_id"
    " LEFT JOIN product_ratings r ON r.product_id = p.id"
)
_VARIANT = (
    "v.product_id, v.id, v.sku, v.name, v.price_amount, v.currency, v.attributes, s.on_hand,"
    " v.version, v.prior_price_amount, v.external_reference, v.public_metadata"
    " FROM variants v JOIN stock_levels s ON s.variant_id = v.id"
)
_LINK = ("id", "name", "slug")
_STARS = ("1", "2", "3", "4", "5")
_NO_LINKS = (None,) * 11
_OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z

app = Flask("twin", static_folder=None)
_local = threading.local()


def _connection() -> Connection[Cursor]:
    """The one connection of this thread; reads commit by themselves."""
    if not hasattr(_local, "connection"):
        _local.connection = pymysql.connect(
            host="127.0.0.1",
            port=int(os.environ["TWIN_PORT"]),
            user="root",
            database=os.environ["TWIN_DATABASE"],
            charset="utf8mb4",
            autocommit=True,
        )
    found: Connection[Cursor] = _local.connection
    return found


def _rows(sql: str, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
    with _connection().cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body, option=_OPTIONS), status, mimetype="application/json")


def _shown(products: tuple[tuple[Any, ...], ...]) -> list[dict[str, Any]]:
    """The products with their variants, in the shape of the shop's answers."""
    ids = tuple(product[0] for product in products)
    marks = ", ".join(["%s"] * len(ids))
    owned: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    found = _rows(f"SELECT {_VARIANT} WHERE v.product_id IN ({marks}) ORDER BY v.id", ids)
    for product_id, id_, sku, name, amount, currency, attributes, on_hand, version, *more in found:
        prior, reference, metadata = more
        owned[product_id].append(
            {
                "id": id_,
                "sku": sku,
                "name": name,
                "price": {"amount": amount, "currency": currency},
                # The column holds JSON text, which goes out as it is.
                "attributes": orjson.Fragment(attributes),
                "available": on_hand,
                "version": version,
                "prior_price": None if prior is None else {"amount": prior, "currency": currency},
                "external_reference": reference,
                "metadata": orjson.Fragment(metadata or "{}"),
            }
        )
    return [_product(product, owned[product[0]]) for product in products]


def _product(product: tuple[Any, ...], variants: list[dict[str, Any]]) -> dict[str, Any]:
    id_, name, slug, description, status, attributes, version, created_at, updated_at = product[:9]
    publish_at, reference, metadata = product[9:12]
    category, counts = product[12:15], [count or 0 for count in product[15:]]
    total = sum(counts)
    average = sum(n * count for n, count in enumerate(counts, 1)) / total if total else None
    return {
        "id": id_,
        "name": name,
        "slug": slug,
        "description": description,
        "status": status,
        "publish_at": publish_at,
        "external_reference": reference,
        "metadata": orjson.Fragment(metadata or "{}"),
        "category": None if category[0] is None else dict(zip(_LINK, category, strict=True)),
        "rating": {
            "average": average,
            "count": total,
            "distribution": dict(zip(_STARS, counts, strict=True)),
        },
        "attributes": orjson.Fragment(attributes),
        "price_from": min((v["price"] for v in variants), key=lambda price: price["amount"]),
        "variants": variants,
        "version": version,
        "created_at": created_at,
        "updated_at": updated_at,
    }


@app.get("/api/v1/products")
def list_products() -> Response:
    """Active products, newest first, after the keyset `cursor`."""
    limit = int(request.args.get("limit", "20"))
    before = request.args.get("cursor")
    after = "" if before is None else "AND p.id < %s"
    values = (limit + 1,) if before is None else (int(before), limit + 1)
    rows = _rows(
        f"SELECT {_PRODUCT} WHERE p.status = 'active' {after} ORDER BY p.id DESC LIMIT %s",
        values,
    )
    shown = rows[:limit]
    following = str(shown[-1][0]) if len(rows) > limit else None
    return _json({"items": _shown(shown) if shown else [], "next_cursor": following})


@app.get("/api/v1/products/<int:product_id>")
def get_product(product_id: int) -> Response:
    """One product."""
    rows = _rows(f"SELECT {_PRODUCT} WHERE p.id = %s", (product_id,))
    if not rows or rows[0][4] != "active":
        abort(404)
    return _json(_shown(rows)[0])


@app.post("/api/v1/products")
def create_product() -> Response:
    """A product with one variant, its stock, price and listing, in one transaction."""
    data = orjson.loads(request.get_data())
    now = datetime.now(UTC).replace(tzinfo=None)
    (variant,) = data["variants"]
    slug = data["name"].lower().replace(" ", "-")
    attributes = orjson.dumps(data["attributes"]).decode()
    product = (data["name"], slug, data["description"], "active", attributes, 1, now, now)
    price, stock = variant["price"], variant["stock"]
    stored = (variant["sku"], variant["name"], price["amount"], price["currency"], "{}", 1)
    product_id, variant_id = _insert(product, stored, stock)
    shown = {
        "id": variant_id,
        "sku": variant["sku"],
        "name": variant["name"],
        "price": price,
        "attributes": {},
        "available": stock,
        "version": 1,
        "prior_price": None,
        "external_reference": None,
        "metadata": {},
    }
    return _json(_product((product_id, *product, *_NO_LINKS), [shown]), 201)


@app.post("/api/v1/orders")
def place_order() -> Response:
    """An order of two products: stock, order, lines, one audit row, in one transaction."""
    data = orjson.loads(request.get_data())
    now = datetime.now(UTC).replace(tzinfo=None)
    wanted = {item["sku"]: item["quantity"] for item in data["items"]}
    marks = ", ".join(["%s"] * len(wanted))
    offers = _rows(
        "SELECT v.id, v.sku, v.price_amount, v.currency, p.id, p.name FROM variants v"
        f" JOIN products p ON p.id = v.product_id WHERE v.sku IN ({marks}) ORDER BY v.id",
        tuple(wanted),
    )
    lines = [(*offer, wanted[offer[1]]) for offer in offers]
    total = sum(line[2] * line[-1] for line in lines)
    number = secrets.token_hex(8)
    order_id = _insert_order(data["shipping_address"], lines, total, number, now)
    items = [
        {"sku": sku, "name": name, "quantity": n, "unit_price": price, "total": n * price}
        for _, sku, price, _, _, name, n in lines
    ]
    return _json({"id": order_id, "number": number, "total": total, "items": items}, 201)


_ADDRESS = ("name", "line1", "city", "postal_code", "country")
_NEW_ORDER = (
    "INSERT INTO orders (number, user_id, email, status, payment_status, fulfilment_status,"
    " currency, subtotal, discount_total, shipping_total, tax_total, total, paid_total,"
    " refunding_total, refunded_total, shipping_name, shipping_line1, shipping_city,"
    " shipping_postal_code, shipping_country, created_at, updated_at, version)"
    " VALUES (%s, 1, '', 'placed', 'unpaid', 'unfulfilled', %s, %s, 0, 0, 0, %s, 0, 0, 0,"
    " %s, %s, %s, %s, %s, %s, %s, 1)"
)


def _insert_order(
    address: dict[str, Any], lines: list[Any], total: int, number: str, now: datetime
) -> int:
    connection = _connection()
    connection.begin()
    try:
        with connection.cursor() as cursor:
            for variant_id, *_, quantity in lines:
                taken = cursor.execute(
                    "UPDATE stock_levels SET on_hand = on_hand - %s, version = version + 1"
                    " WHERE variant_id = %s AND on_hand >= %s",
                    (quantity, variant_id, quantity),
                )
                if taken != 1:
                    abort(409)
            place = (address[name] for name in _ADDRESS)
            cursor.execute(_NEW_ORDER, (number, lines[0][3], total, total, *place, now, now))
            order_id = cursor.lastrowid
            cursor.executemany(
                "INSERT INTO order_items (order_id, product_id, variant_id, sku, name, quantity,"
                " unit_price, total, version) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 1)",
                [(order_id, line[4], line[0], line[1], line[5], line[6], line[2], line[2] * line[6])
                 for line in lines],
            )  # fmt: skip
            cursor.execute(
                "INSERT INTO audit_log (event_id, table_name, row_id, sequence, action, type, data,"
                " created_at) VALUES (%s, 'twin_orders', %s, 1, 'insert', 'twin', %s, %s)",
                (secrets.token_hex(13), order_id, orjson.dumps(address).decode(), now),
            )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return int(order_id)


def _insert(product: tuple[Any, ...], variant: tuple[Any, ...], stock: int) -> tuple[int, int]:
    connection = _connection()
    connection.begin()
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO products (name, slug, description, status, attributes, version,"
                " created_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                product,
            )
            product_id = cursor.lastrowid
            cursor.execute(
                "INSERT INTO variants (product_id, sku, name, price_amount, currency, attributes,"
                " version) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (product_id, *variant),
            )
            variant_id = cursor.lastrowid
            cursor.execute(
                "INSERT INTO stock_levels (variant_id, on_hand, version) VALUES (%s, %s, 1)",
                (variant_id, stock),
            )
            cursor.execute(
                "INSERT INTO stock_movements (variant_id, delta, on_hand, reason, created_at)"
                " VALUES (%s, %s, %s, 'initial', %s)",
                (variant_id, stock, stock, product[-1]),
            )
            cursor.execute(
                "INSERT INTO price_changes (variant_id, price_amount, currency, from_at)"
                " VALUES (%s, %s, %s, %s)",
                (variant_id, *variant[2:4], product[-1]),
            )
            _list(cursor, product_id, product, variant, stock)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return product_id, variant_id


def _list(
    cursor: Any, product_id: int, product: tuple[Any, ...], variant: tuple[Any, ...], stock: int
) -> None:
    name, _, description = product[:3]
    words = sorted(set(f"{name} {description} {variant[0]}".lower().split()))
    cursor.execute(
        "INSERT INTO product_listings (product_id, status, name, price_from, rating,"
        " stocked_variants, words, words_version)"
        " VALUES (%s, 'active', %s, %s, 0, %s, %s, 1)",
        (product_id, name.lower(), variant[2], int(stock > 0), " ".join(words)),
    )
    cursor.executemany(
        "INSERT INTO listed_values (code, value, status, price_from, product_id)"
        " VALUES (%s, %s, 'active', %s, %s)",
        [(*pair, variant[2], product_id) for pair in orjson.loads(product[4]).items()],
    )
