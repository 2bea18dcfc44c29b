"""What the scheduler does with the catalogue."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from shop.products import listings, queries, search

#: How many products a run changes at most: it holds SQLite's only write lock meanwhile.
BATCH = 100


def publish(session: Session, moment: datetime) -> dict[str, Any]:
    """Make drafts active whose `publish_at` has come, at most 100, those that waited longest first.

    The next run goes on. Answers how many it were.
    """
    ids = session.scalars(queries.due_drafts(moment, BATCH)).all()
    # Locked in the order in which everybody locks products, and looked at again under the lock:
    # somebody may have changed his mind meanwhile.
    drafts = session.scalars(queries.drafts_for_change(ids, moment)).all() if ids else []
    for product in drafts:
        product.status, product.publish_at = "active", None
    session.flush()
    for product in drafts:
        listings.refresh(session, product)
    return {"published": len(drafts)}


def refresh_stale(session: Session, _slot: datetime) -> dict[str, Any]:
    """Make listings anew whose words an earlier version made, at most 100. Answers how many."""
    ids = session.scalars(queries.listed_by_others_than(search.VERSION).limit(BATCH)).all()
    for product_id in ids:
        product = session.execute(queries.for_change(product_id)).scalar_one_or_none()
        if product is not None:
            listings.refresh(session, product)
    return {"refreshed": len(ids)}
