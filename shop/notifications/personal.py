"""What notifications tell of a person."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from shop.notifications import queries
from shop.notifications.kinds import KINDS
from shop.notifications.models import (
    Notification,
    NotificationMessage,
    NotificationPreference,
)
from shop.notifications.operations import preferences
from shop.notifications.schemas import notification_out
from shop.users.models import User
from shop.users.personal import PersonalData


def _show(session: Session, user: User) -> dict[str, Any]:
    rows = session.execute(queries.all_of(user.id))
    return {
        "received": [notification_out(row) for row in rows],
        "preferences": preferences(session, user.id, KINDS),
    }


def _erase(session: Session, user: User) -> None:
    for model in (Notification, NotificationMessage, NotificationPreference):
        session.execute(
            delete(model)
            .where(model.user_id == user.id)
            .execution_options(synchronize_session=False)
        )


PART = PersonalData("notifications", _show, _erase)
