"""Shapes of rows that come many at once, from a request or a file, and of what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

from marshmallow import Schema, ValidationError, fields, validate

from shop.errors import Invalid, Refusal
from shop.products.bulk import (
    CREATED,
    FAILED,
    UPDATED,
    NewProduct,
    Outcome,
    ProductChange,
    Row,
    VariantChange,
)
from shop.products.schemas import ProductIn, ProductPatch, VariantPatch
from shop.web.api import FaultShape
from shop.web.fields import LARGEST_ID, Choice, Integer, StrictSchema
from shop.web.plain import Reader, loading
from shop.web.problems import faults_of

#: What happens to the good rows when some are bad.
ALL_OR_NOTHING, SKIP_BAD_ROWS = "all_or_nothing", "skip_bad_rows"
MOST_ROWS = 250
#: A row can be wrong in many places; whoever sent it reads the first ones.
MOST_FAULTS = 20


class Version(Integer):
    """The version that is to be changed, or `*`: whatever it is, as in `If-Match`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(1, LARGEST_ID, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        # Larger than any: `load_row` makes None of it.
        return LARGEST_ID if value == "*" else super()._deserialize(value, attr, data, **kwargs)


class ProductChangeIn(ProductPatch):
    """Changes of the product `id`."""

    id = Integer(1, LARGEST_ID, required=True)
    version = Version(required=True)


class VariantChangeIn(VariantPatch):
    """Changes of the variant that has this SKU."""

    version = Version(required=True)


class BulkIn(StrictSchema):
    """Rows that are written together."""

    policy = Choice(
        (ALL_OR_NOTHING, SKIP_BAD_ROWS), load_default=ALL_OR_NOTHING,
        metadata={"description": "What happens to the good rows when some are bad."},
    )  # fmt: skip
    rows = fields.List(
        fields.Dict(keys=fields.String()), required=True, validate=validate.Length(1, MOST_ROWS),
        metadata={
            "description": "Each a `ProductIn` to create; or the fields of a `ProductPatch` with"
            " `id` and `version`; or those of a `VariantPatch` with `sku` and `version`."
            ' A `version` of `"*"` means any.'
        },
    )  # fmt: skip


class RowProblem(StrictSchema):
    """Why a row failed; `slug` is that of `/problems/<slug>`, pointers lead into the row."""

    slug = fields.String(required=True)
    detail = fields.String(required=True)
    errors = fields.List(fields.Nested(FaultShape), required=True)


class RowOut(StrictSchema):
    """What became of a row; `id` and `version` are those of the product, or of the variant."""

    index = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf((CREATED, UPDATED, FAILED)))
    id = fields.Integer()
    version = fields.Integer()
    problem = fields.Nested(RowProblem)


class BulkOut(StrictSchema):
    """What became of each row, in their order."""

    rows = fields.List(fields.Nested(RowOut), required=True)


@cache
def _loading(shape: type[Schema]) -> Reader:
    # Making one costs as much as loading many rows.
    return loading(shape())


def _load(shape: type[Schema], raw: dict[str, Any]) -> dict[str, Any]:
    return cast(dict[str, Any], _loading(shape)(raw))


def load_row(raw: dict[str, Any]) -> Row:
    """The row that is meant; for one that is not allowed, the refusal that says why."""
    kind = "id" if "id" in raw else "sku" if "sku" in raw else "name"
    try:
        return _KINDS[kind](raw)
    except ValidationError as error:
        return Invalid("Some values are not allowed.", faults=faults_of(error, MOST_FAULTS))


def _product_change(raw: dict[str, Any]) -> Row:
    changes = _load(ProductChangeIn, raw)
    return ProductChange(changes.pop("id"), _version(changes), changes)


def _variant_change(raw: dict[str, Any]) -> Row:
    changes = _load(VariantChangeIn, raw)
    if "sku" not in changes:
        raise ValidationError({"sku": ["Missing data for required field."]})
    return VariantChange(changes.pop("sku"), _version(changes), changes)


def _version(changes: dict[str, Any]) -> int | None:
    version: int = changes.pop("version")
    return None if version == LARGEST_ID else version


_KINDS: dict[str, Callable[[dict[str, Any]], Row]] = {
    "id": _product_change,
    "sku": _variant_change,
    "name": lambda raw: NewProduct(_load(ProductIn, raw)),
}


def outcomes_out(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """`RowOut` of each outcome, ready for JSON."""
    return [_outcome_out(n, outcome) for n, outcome in enumerate(outcomes)]


def _outcome_out(n: int, outcome: Outcome) -> dict[str, Any]:
    shown: dict[str, Any] = {"index": n, "status": outcome.status}
    if outcome.refusal is not None:
        return shown | {"problem": problem_out(outcome.refusal)}
    return shown | {"id": outcome.id, "version": outcome.version}


def problem_out(refusal: Refusal) -> dict[str, Any]:
    """`RowProblem`, ready for JSON."""
    errors = [{"pointer": f.pointer, "message": f.message} for f in refusal.faults]
    return {"slug": refusal.slug, "detail": refusal.detail, "errors": errors}
