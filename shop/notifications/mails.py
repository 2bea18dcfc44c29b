"""What mails about notifications say, made when they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from shop.mail.delivery import Composer
from shop.mail.models import OutgoingMail
from shop.notifications import queries, wording
from shop.notifications.models import NotificationMessage
from shop.notifications.operations import MAIL


def composers(public_url: str) -> Mapping[str, Composer]:
    """The composer of notifications; links lead to `public_url`, if there is."""

    def compose(session: Session, mail: OutgoingMail) -> dict[str, Any] | None:
        found = session.connection().execute(queries.RECIPIENT, {"id": mail.data["user_id"]})
        user = found.first()
        if user is None or user.disabled or user.email != mail.recipient:
            return None
        said = _words(session, mail.data)
        if said is None:
            return None
        title, text = said
        link = f"{public_url.rstrip('/')}/account/notifications" if public_url else None
        return {"title": title, "lines": text.splitlines(), "link": link}

    return {MAIL: compose}


def _words(session: Session, told: Mapping[str, Any]) -> tuple[str, str] | None:
    if told["message_id"] is None:
        return wording.say(told["kind"], told["data"])
    message = session.get(NotificationMessage, told["message_id"])
    return None if message is None else (message.title, message.text)
