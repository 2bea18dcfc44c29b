"""Which events are news for whom: from an entry of the audit log to what people are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shop.audit.events import Event
from shop.inserts import Row

#: Before a payment; later ones become paid again when a second payment goes back.
_UNPAID = ("unpaid", "pending", "failed")
_MOVES = {"shipped": "order-shipped", "delivered": "order-delivered"}


#: Stock of a variant that is there so often, or less, is low; of variants that are gone it is not.
Marks = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a user, or all who work here (`user_id` is None), is to be told, once by `key`."""

    kind: str
    key: str
    data: Row
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a row: its values after it, and the old ones of those that changed."""

    event: Event
    before: Row
    after: Row

    def became(self, column: str) -> Any:
        """What a column is now, if it is another than before; else None."""
        changed = self.event.action == "insert" or column in self.before
        return self.after[column] if changed else None

    def notice(self, kind: str, user_id: int | None, **data: Any) -> Notice:
        """News that this change is."""
        key = f"{kind}:{self.event.row_id}:{self.event.sequence}"
        return Notice(kind, key, data, user_id)


def changes_of(events: Iterable[Event]) -> list[Change]:
    """The changes that events tell of, but for deletions."""
    told = [(event, orjson.loads(event.data)) for event in events]
    return [
        Change(event, data["before"] or {}, data["after"])
        for event, data in told
        if data["after"] is not None
    ]


def variants_in(changes: Iterable[Change]) -> set[int]:
    """The variants whose stock is changed."""
    return {it.after["variant_id"] for it in changes if it.event.table == "stock_levels"}


def news_of(changes: Iterable[Change], marks: Marks) -> list[Notice]:
    """What these changes are to be told."""
    return [notice for it in changes for notice in _TELLERS[it.event.table](it, marks)]


def _of_order(change: Change, _marks: Marks) -> Iterator[Notice]:
    order, user_id = change.after, change.after["user_id"]
    if user_id is None:
        return
    facts = {"order_id": order["id"], "number": order["number"]}
    total = {"amount": order["total"], "currency": order["currency"]}
    if change.event.action == "insert":
        yield change.notice("order-placed", user_id, **facts, total=total)
        return
    if change.became("payment_status") == "paid" and change.before["payment_status"] in _UNPAID:
        yield change.notice("order-paid", user_id, **facts, total=total)
    if (move := change.became("fulfilment_status")) in _MOVES:
        yield change.notice(_MOVES[move], user_id, **facts)
    if change.became("status") == "cancelled":
        yield change.notice("order-cancelled", user_id, **facts)
    if (refunded := change.became("refunded_total")) is not None:
        back = refunded - change.before["refunded_total"]
        amount = {"amount": back, "currency": order["currency"]}
        yield change.notice("order-refunded", user_id, **facts, amount=amount)


def _of_review(change: Change, _marks: Marks) -> Iterator[Notice]:
    review, user_id = change.after, change.after["user_id"]
    if user_id is None:
        return
    facts = {"review_id": review["id"], "product_id": review["product_id"]}
    if change.became("status") == "approved":
        yield change.notice("review-approved", user_id, **facts)
    if change.became("reply"):
        yield change.notice("review-reply", user_id, **facts)


def _of_stock(change: Change, marks: Marks) -> Iterator[Notice]:
    """Stock that fell to its mark or below it: once, and again only after it was above."""
    before, now = change.before.get("on_hand"), change.after["on_hand"]
    variant_id = change.after["variant_id"]
    mark = marks.get(variant_id)
    if mark is not None and before is not None and before > mark >= now:
        yield change.notice("low-stock", None, variant_id=variant_id, on_hand=now, threshold=mark)


_TELLERS: dict[str, Callable[[Change, Marks], Iterable[Notice]]] = {
    "orders": _of_order,
    "reviews": _of_review,
    "stock_levels": _of_stock,
}
#: Whose events are news.
TABLES = frozenset(_TELLERS)
