"""What the scheduler does with notifications that are old."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from shop import logs
from shop.notifications import queries
from shop.notifications.models import Notification, NotificationMessage

log = logs.get(__name__)

#: Rows of a statement, and of a run: it holds SQLite's only write lock meanwhile.
_BATCH = 1_000
_MOST = 10_000


def forget_notifications(session: Session, moment: datetime, days: int) -> dict[str, Any]:
    """Delete notifications that are so many days old, then messages that nobody has any more.

    At most 10,000 of them, the oldest first; the next run goes on. Answers how many it were.
    """
    before, forgotten = moment - timedelta(days=days), 0
    while forgotten < _MOST:
        ids = _before(session.execute(queries.oldest(_BATCH)).all(), before)
        _delete(session, Notification, ids)
        forgotten += len(ids)
        if len(ids) < _BATCH:
            break
    messages = _before(session.execute(queries.old_messages(_BATCH)).all(), before)
    _delete(session, NotificationMessage, messages)
    report = {"notifications": forgotten, "messages": len(messages)}
    if any(report.values()):
        log.info("notifications.forgotten", **report)
    return report


def _before(rows: Sequence[Any], moment: datetime) -> list[int]:
    return [row.id for row in rows if row.created_at < moment]


def _delete(session: Session, model: Any, ids: Sequence[int]) -> None:
    if ids:
        session.execute(
            delete(model).where(model.id.in_(ids)).execution_options(synchronize_session=False)
        )
