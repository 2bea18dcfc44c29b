"""The door of many changes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Response

from shop.db import db, transactional
from shop.errors import Conflict, Fault, Invalid
from shop.products.bulk import Outcome, Row, write_rows
from shop.products.rows import ALL_OR_NOTHING, BulkIn, BulkOut, load_row, outcomes_out
from shop.web.answers import answer
from shop.web.api import Blueprint
from shop.web.callers import EMPLOYEES

bulk = Blueprint("bulk", __name__, description="Many changes of the catalogue at once")


@bulk.post("/products/bulk")
@bulk.allow(*EMPLOYEES, scope="products:write")
@bulk.body(BulkIn)
@bulk.response(200, BulkOut)
@bulk.refuses(409)
def write_products(data: dict[str, Any]) -> Response:
    """Create and change up to 250 products and variants at once.

    ---
    With the policy `all_or_nothing` one bad row means that nothing is changed: the problem's
    `errors` name each. With `skip_bad_rows` the answer is 200 whatever became of the rows, and says
    it of each. Stock is not changed here.
    """
    # Read before the transaction begins: on SQLite it holds the only write lock.
    rows = [load_row(raw) for raw in data["rows"]]
    return _write(rows, all_or_nothing=data["policy"] == ALL_OR_NOTHING)


@transactional
def _write(rows: Sequence[Row], *, all_or_nothing: bool) -> Response:
    outcomes = write_rows(db.session(), rows)
    if all_or_nothing:
        _refuse_bad(outcomes)
    return answer({"rows": outcomes_out(outcomes)})


def _refuse_bad(outcomes: Sequence[Outcome]) -> None:
    """Raises Invalid or Conflict when there is a bad row; its faults name all of them."""
    bad = {n: it.refusal for n, it in enumerate(outcomes) if it.refusal is not None}
    faults = [
        Fault(f"/rows/{n}{fault.pointer}", fault.message)
        for n, refusal in bad.items()
        for fault in refusal.faults or (Fault("", refusal.detail),)
    ]
    if bad:
        invalid = any(isinstance(refusal, Invalid) for refusal in bad.values())
        kind = Invalid if invalid else Conflict
        raise kind(f"Nothing was changed: {len(bad)} rows are bad.", faults=tuple(faults))
