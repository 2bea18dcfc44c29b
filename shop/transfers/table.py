"""The flat format: a row a variant, and the columns of its product in each of them.

One table says where the value of each column stands in a `ProductIn`, and which column of the
database it comes from: CSV and JSON Lines, import and export are all made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from shop.errors import Fault, Invalid, Malformed
from shop.products.models import Product, StockLevel, Variant
from shop.web.bodies import read_json

TEXT, WHOLE, JSON = "text", "whole number", "JSON"
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
# What a spreadsheet takes for a formula, and what has a quote before it for that reason.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r"'+[=+\-@\t\r]")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file: where its value stands in the product or variant, and its source."""

    name: str
    source: Any
    path: tuple[str, ...]
    kind: str = TEXT


PRODUCT_COLUMNS: tuple[Column, ...] = (
    Column("slug", Product.slug, ("slug",)),
    Column("name", Product.name, ("name",)),
    Column("description", Product.description, ("description",)),
    Column("status", Product.status, ("status",)),
    Column("category_id", Product.category_id, ("category_id",), WHOLE),
    Column("attributes", Product.attributes, ("attributes",), JSON),
    Column("publish_at", Product.publish_at, ("publish_at",)),
    Column("external_reference", Product.external_reference, ("external_reference",)),
    Column("metadata", Product.public_metadata, ("metadata",), JSON),
)
VARIANT_COLUMNS: tuple[Column, ...] = (
    Column("sku", Variant.sku, ("sku",)),
    Column("variant_name", Variant.name, ("name",)),
    Column("price_amount", Variant.price_amount, ("price", "amount"), WHOLE),
    Column("price_currency", Variant.currency, ("price", "currency")),
    Column("stock", StockLevel.on_hand, ("stock",), WHOLE),
    Column("variant_attributes", Variant.attributes, ("attributes",), JSON),
    Column("low_stock_threshold", Variant.low_stock_threshold, ("low_stock_threshold",), WHOLE),
    Column("variant_reference", Variant.external_reference, ("external_reference",)),
    Column("variant_metadata", Variant.public_metadata, ("metadata",), JSON),
)
COLUMNS = {column.name: column for column in (*PRODUCT_COLUMNS, *VARIANT_COLUMNS)}
_OF_PRODUCT = {column.name for column in PRODUCT_COLUMNS}
#: In a pointer: the row of a variant says something else of its product.
_ABOVE = ".."
#: Without them no row could be one.
_REQUIRED = ("name", "sku", "price_amount", "price_currency", "stock")


def read_header(cells: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns. Raises Invalid: they are not those of products."""
    names = tuple(cell.strip() for cell in cells)
    if len(names) > len(COLUMNS):
        raise Invalid(f"The header has {len(names)} columns; there are {len(COLUMNS)} at most.")
    faults = [
        Fault(f"/{n}", f"There is no column {name[:60]!r}.")
        for n, name in enumerate(names)
        if name not in COLUMNS
    ]
    faults += [
        Fault(f"/{n}", f"The column {name!r} is there twice.")
        for n, name in enumerate(names)
        if name in names[:n] and name in COLUMNS
    ]
    faults += [
        Fault("", f"The column {name!r} is missing.") for name in _REQUIRED if name not in names
    ]
    if faults:
        raise Invalid("The header is not that of products.", faults=tuple(faults))
    return names


def slug_in(header: Sequence[str], cells: Sequence[str]) -> str:
    """What says to which product a row belongs; empty when it is a product of its own."""
    place = header.index("slug") if "slug" in header else len(cells)
    return cells[place] if place < len(cells) else ""


def read_product(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The `ProductIn` in the rows of one product. Raises Invalid; pointers lead into it."""
    product: dict[str, Any] = {"variants": []}
    faults: list[Fault] = []
    for n, cells in enumerate(rows):
        if len(cells) != len(header):
            why = f"{len(cells)} cells, and the header has {len(header)}."
            raise Invalid("The row is not as long as the header.",
                          faults=(Fault(f"/variants/{n}", why),))  # fmt: skip
        named = dict(zip(header, cells, strict=True))
        product["variants"].append({})
        for name, cell in named.items():
            column = COLUMNS[name]
            try:
                if name not in _OF_PRODUCT:
                    _put(product["variants"][n], column, cell)
                elif n == 0:
                    _put(product, column, cell)
                elif cell and cell != rows[0][header.index(name)]:
                    place = "/".join((f"/variants/{n}/{_ABOVE}", *column.path))
                    faults.append(Fault(place, "Not as in the product's first row."))
            except ValueError as error:
                place = "" if name in _OF_PRODUCT else f"/variants/{n}"
                faults.append(Fault("/".join((place, *column.path)), str(error)))
    if faults:
        raise Invalid("Some cells are not allowed.", faults=tuple(faults))
    return product


def _put(target: dict[str, Any], column: Column, cell: str) -> None:
    """Raises ValueError: the cell has nothing that could stand in the column."""
    if not cell:
        return
    *above, last = column.path
    for name in above:
        target = target.setdefault(name, {})
    target[last] = _value(column.kind, cell)


def _value(kind: str, cell: str) -> Any:
    if kind == TEXT:
        return cell[1:] if _QUOTED.match(cell) else cell
    if kind == WHOLE:
        if not _WHOLE.fullmatch(cell):
            raise ValueError("Not a whole number.")
        return int(cell)
    try:
        return read_json(cell.encode())
    except Malformed as error:
        raise ValueError("Not JSON.") from error


def place_of(pointer: str) -> tuple[int, str]:
    """Which row of its product a pointer into a `ProductIn` means, and which column there."""
    parts = pointer.split("/")[1:]
    columns, row = PRODUCT_COLUMNS, 0
    if parts[:1] == ["variants"]:
        columns, parts = VARIANT_COLUMNS, parts[1:]
        row = int(parts.pop(0)) if parts and parts[0].isdecimal() else 0
        if parts[:1] == [_ABOVE]:
            columns, parts = PRODUCT_COLUMNS, parts[1:]
    # The longest common way: what is wrong within a value is wrong with its cell.
    for column in columns:
        if parts and tuple(parts[: len(column.path)]) == column.path:
            return row, f"/{column.name}"
    return row, pointer


def product_body(product: Sequence[Any], variants: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """The `ProductIn` that would make a product again, of values in the order of the columns."""
    body = _body(PRODUCT_COLUMNS, product)
    body["variants"] = [_body(VARIANT_COLUMNS, variant) for variant in variants]
    return body


def _body(columns: Sequence[Column], values: Sequence[Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for column, value in zip(columns, values, strict=True):
        if value is not None:
            target = body
            *above, last = column.path
            for name in above:
                target = target.setdefault(name, {})
            target[last] = value
            if isinstance(value, datetime):
                target[last] = value.isoformat().replace("+00:00", "Z")
    return body


def write_rows(body: Mapping[str, Any]) -> list[list[str]]:
    """The rows of a product, in the order of `COLUMNS`."""
    product = [_cell(column, body) for column in PRODUCT_COLUMNS]
    return [
        product + [_cell(column, variant) for column in VARIANT_COLUMNS]
        for variant in body["variants"]
    ]


def _cell(column: Column, body: Mapping[str, Any]) -> str:
    value: Any = body
    for name in column.path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None or value == {}:
        return ""
    if column.kind == JSON:
        return orjson.dumps(value).decode()
    text = str(value)
    # A spreadsheet would run it; reading takes the quote away again.
    return f"'{text}" if column.kind == TEXT and _FORMULA.match(text) else text
