"""What happens to mail that is to be sent. Each statement decides in the database."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import delete, or_, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from shop.db import database_ms
from shop.mail.models import OutgoingMail


def enqueue(
    session: Session, kind: str, recipient: str, data: dict[str, Any] | None = None
) -> None:
    """Owe somebody a mail, from the commit of this transaction on; `data` is for its composer."""
    # Due since 1970: new mail goes before what is tried again.
    session.add(OutgoingMail(kind=kind, recipient=recipient, data=data or {}, due_ms=0))


def withdraw(session: Session, user_id: int, recipient: str | None = None) -> None:
    """Owe nobody the mail about a user that goes elsewhere, nor any to `recipient`, if given."""
    unwanted = OutgoingMail.data["user_id"].as_integer() == user_id
    if recipient is not None:
        unwanted = or_(unwanted, OutgoingMail.recipient == recipient)
    session.execute(
        delete(OutgoingMail).where(unwanted).execution_options(synchronize_session=False)
    )


def claim(session: Session, mail_id: int, seconds: float) -> OutgoingMail | None:
    """Take a mail that is due for so many seconds; None when it is gone, another's or not due.

    It is detached from the session: as it was when it was taken, whatever is rolled back later.
    """
    taken = _changed(
        session,
        update(OutgoingMail)
        .where(OutgoingMail.id == mail_id, OutgoingMail.due_ms <= database_ms())
        .values(
            claim=secrets.token_hex(16),
            due_ms=database_ms() + int(seconds * 1000),
            attempts=OutgoingMail.attempts + 1,
        ),
    )
    if not taken:
        return None
    mail = session.get_one(OutgoingMail, mail_id, populate_existing=True)
    session.expunge(mail)
    return mail


def remove(session: Session, mail: OutgoingMail) -> bool:
    """Take a claimed mail out of the outbox; False when it is another's by now."""
    mine = (OutgoingMail.id == mail.id, OutgoingMail.claim == mail.claim)
    return _changed(session, delete(OutgoingMail).where(*mine))


def postpone(session: Session, mail: OutgoingMail, error: str, seconds: float | None) -> bool:
    """Try a claimed mail again in so many seconds, or never (None); False when it is another's."""
    later = None if seconds is None else database_ms() + int(seconds * 1000)
    return _changed(
        session,
        update(OutgoingMail)
        .where(OutgoingMail.id == mail.id, OutgoingMail.claim == mail.claim)
        .values(claim=None, due_ms=later, last_error=error),
    )


def _changed(session: Session, statement: object) -> bool:
    options = {"synchronize_session": False}
    result = session.execute(statement, execution_options=options)  # type: ignore[call-overload]
    return isinstance(result, CursorResult) and result.rowcount == 1
