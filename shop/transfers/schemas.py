"""Shapes of imports and exports."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from shop.products.models import STATUSES as PRODUCT_STATUSES
from shop.products.rows import RowProblem
from shop.transfers.models import (
    COMPLETED,
    FORMATS,
    POLICIES,
    SKIP_BAD_ROWS,
    STATUSES,
    ImportFault,
    ProductExport,
    ProductImport,
)
from shop.web.fields import LARGEST_ID, Choice, Integer, StrictSchema


class ImportQuery(StrictSchema):
    """How a file is imported."""

    policy = Choice(
        POLICIES, load_default=SKIP_BAD_ROWS,
        metadata={"description": "`check_first` writes nothing unless all of it could be."},
    )  # fmt: skip
    dry_run = Choice(
        ("true", "false"), load_default="false",
        metadata={"description": "Write nothing, and say what would happen."},
    )  # fmt: skip


class LineOut(StrictSchema):
    """What would become of a product of the file."""

    line = fields.Integer(required=True)
    status = fields.String(required=True)
    problem = fields.Nested(RowProblem)


class ImportOut(StrictSchema):
    """An import as it is shown; `created`, `updated` and `failed` count products, not rows."""

    id = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    format = fields.String(required=True, validate=validate.OneOf(FORMATS))
    policy = fields.String(required=True, validate=validate.OneOf(POLICIES))
    dry_run = fields.Boolean(required=True)
    size = fields.Integer(required=True, metadata={"description": "Bytes of the file."})
    rows_total = fields.Integer(required=True, allow_none=True)
    rows_done = fields.Integer(required=True)
    created = fields.Integer(required=True)
    updated = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    progress = fields.Float(required=True, metadata={"description": "From 0 to 1."})
    preview = fields.List(
        fields.Nested(LineOut), required=True,
        metadata={"description": "Of a dry run: the first products of the file."},
    )  # fmt: skip
    error = fields.String(
        required=True, allow_none=True, metadata={"description": "Why it failed as a whole."}
    )
    created_by = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    finished_at = fields.DateTime(required=True, allow_none=True)


class ImportPage(StrictSchema):
    """Imports, newest first."""

    items = fields.List(fields.Nested(ImportOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class FaultOut(StrictSchema):
    """Something wrong in a file; in CSV the pointer is `/` and the name of the column."""

    line = fields.Integer(required=True)
    pointer = fields.String(required=True)
    message = fields.String(required=True)


class FaultPage(StrictSchema):
    """What is wrong in a file, in its order."""

    items = fields.List(fields.Nested(FaultOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ExportIn(StrictSchema):
    """Which products are exported, and how."""

    format = Choice(FORMATS, required=True)
    status = Choice(PRODUCT_STATUSES, load_default=None, allow_none=True)
    category_id = Integer(
        1, LARGEST_ID, load_default=None, allow_none=True,
        metadata={"description": "Those in this category and below it."},
    )  # fmt: skip


class ExportOut(StrictSchema):
    """An export as it is shown; its file is there when it is `completed`."""

    id = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    format = fields.String(required=True, validate=validate.OneOf(FORMATS))
    product_status = fields.String(required=True, allow_none=True)
    category_id = fields.Integer(required=True, allow_none=True)
    size = fields.Integer(required=True, metadata={"description": "Bytes of the file as yet."})
    rows_total = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Products."}
    )
    rows_done = fields.Integer(required=True)
    progress = fields.Float(required=True, metadata={"description": "From 0 to 1."})
    error = fields.String(required=True, allow_none=True)
    created_by = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    finished_at = fields.DateTime(required=True, allow_none=True)


class ExportPage(StrictSchema):
    """Exports, newest first."""

    items = fields.List(fields.Nested(ExportOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


def import_out(found: ProductImport) -> dict[str, Any]:
    """`ImportOut`, ready for JSON."""
    # A file that is checked first is read twice.
    rounds = 2 if found.policy == "check_first" and not found.dry_run else 1
    done = found.position + (0 if found.checking or rounds == 1 else found.size)
    progress = _share(found.status, done, rounds * found.size)
    shown = {name: getattr(found, name, None) for name in ImportOut._declared_fields}
    return shown | {"progress": progress, "created_by": found.actor}


def fault_out(fault: ImportFault) -> dict[str, Any]:
    """`FaultOut`, ready for JSON."""
    return {name: getattr(fault, name) for name in FaultOut._declared_fields}


def export_out(found: ProductExport) -> dict[str, Any]:
    """`ExportOut`, ready for JSON."""
    shown = {name: getattr(found, name, None) for name in ExportOut._declared_fields}
    progress = _share(found.status, found.rows_done, found.rows_total or 0)
    return shown | {"progress": progress, "size": found.position, "created_by": found.actor}


def _share(status: str, done: int, total: int) -> float:
    if status == COMPLETED:
        return 1.0
    return round(min(done / total, 1.0), 4) if total else 0.0
