"""The kinds of notifications: who gets them, and by which channel unless they say otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INBOX, EMAIL = "inbox", "email"


@dataclass(frozen=True, slots=True)
class Kind:
    """Whether it also goes by mail at first; `firm`: nobody can keep it out of the inbox."""

    mailed: bool = False
    firm: bool = False
    for_staff: bool = False

    def wanted(self, channel: str) -> bool:
        """Whether it comes by a channel to somebody who never chose."""
        return channel == INBOX or self.mailed


#: Money that moved, and what staff writes to somebody, is always in the inbox.
KINDS: Mapping[str, Kind] = {
    "order-placed": Kind(mailed=True),
    "order-paid": Kind(mailed=True, firm=True),
    "order-shipped": Kind(mailed=True),
    "order-delivered": Kind(),
    "order-refunded": Kind(mailed=True, firm=True),
    "order-cancelled": Kind(mailed=True),
    "review-approved": Kind(),
    "review-reply": Kind(mailed=True),
    "review-request": Kind(mailed=True),
    "message": Kind(firm=True),
    "low-stock": Kind(for_staff=True),
    "digest": Kind(mailed=True, for_staff=True),
}


def kinds_for(*, is_employee: bool) -> dict[str, Kind]:
    """The kinds that a caller may get."""
    return {name: kind for name, kind in KINDS.items() if is_employee or not kind.for_staff}
