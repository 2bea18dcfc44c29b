"""What the scheduler does with the catalogue."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from shop.products import queries

#: How many a run publishes at most: it holds SQLite's only write lock meanwhile.
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
    return {"published": len(drafts)}
