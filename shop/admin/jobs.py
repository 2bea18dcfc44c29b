"""What the scheduler does for staff, looking at every feature."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from shop.admin.digest import ask_for_reviews, tell_staff
from shop.jobs.slots import Trigger

#: For so long after a delivery its buyer is asked, if that was not done; below what
#: notifications are kept at least, since they know who was asked.
_LATEST_REQUEST = timedelta(days=14)


def digest(
    trigger: Trigger, currency: str, low_stock: int, _session: Session, slot: datetime
) -> dict[str, Any]:
    """Tell staff of the day that ends with the slot, and ask customers for reviews.

    The day began with the slot before. Answers the figures that staff is told.
    """
    start = trigger.latest(slot - timedelta(microseconds=1))
    figures = tell_staff(start, slot, currency, low_stock)
    after: int | None = 0
    while after is not None:
        after = ask_for_reviews(slot - _LATEST_REQUEST, slot, after)
    return figures
