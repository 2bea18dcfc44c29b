"""What the scheduler does with the outbox."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from shop import logs
from shop.mail import queries
from shop.mail.models import OutgoingMail

log = logs.get(__name__)

_GIVEN_UP_DAYS = 30
_UNSENT_DAYS = 3
#: How many rows a run deletes at most: it holds SQLite's only write lock meanwhile.
_BATCH = 1000


def forget_mail(session: Session, moment: datetime) -> dict[str, Any]:
    """Delete mail that was given up and is older than 30 days, and unsent mail older than 3 days.

    At most 1,000 of them, the oldest first; the next run goes on. Answers how many it were.
    """
    given_up_before = moment - timedelta(days=_GIVEN_UP_DAYS)
    unsent_before = moment - timedelta(days=_UNSENT_DAYS)
    stale = session.scalars(queries.stale(given_up_before, unsent_before, _BATCH)).all()
    if stale:
        session.execute(
            delete(OutgoingMail)
            .where(OutgoingMail.id.in_(stale))
            .execution_options(synchronize_session=False)
        )
        log.warning("mail.forgotten", count=len(stale))
    return {"forgotten": len(stale)}
