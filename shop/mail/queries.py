"""Questions to the outbox."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Integer, Select, and_, bindparam, or_, select

from shop.db import database_ms
from shop.mail.models import OutgoingMail

#: The mails that may be tried now, longest due first, at most `limit`. Asked each second.
DUE = (
    select(OutgoingMail.__table__)
    .where(OutgoingMail.due_ms <= database_ms())
    .order_by(OutgoingMail.due_ms, OutgoingMail.id)
    .limit(bindparam("limit", type_=Integer()))
)


def stale(given_up_before: datetime, unsent_before: datetime, limit: int) -> Select[int]:
    """Ids of mails made before these times, oldest first, that nobody needs any more."""
    given_up = OutgoingMail.due_ms.is_(None)
    return (
        select(OutgoingMail.id)
        .where(
            OutgoingMail.created_at < max(given_up_before, unsent_before),
            or_(
                and_(given_up, OutgoingMail.created_at < given_up_before),
                and_(~given_up, OutgoingMail.created_at < unsent_before),
            ),
        )
        .order_by(OutgoingMail.created_at)
        .limit(limit)
    )
