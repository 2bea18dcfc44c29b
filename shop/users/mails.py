"""What the mails about accounts say, made when they are sent.

The request that asks for a mail never looks whether there is an account: it would take longer, or
shorter, and so tell. It is looked up here, and a mail for nobody is dropped. One-time tokens are
issued here too, so that none lies in the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from shop.mail.models import OutgoingMail
from shop.users import one_time, queries
from shop.users.models import User
from shop.users.one_time import CHANGE_EMAIL, LIFETIMES, RESET_PASSWORD, VERIFY_EMAIL

Values = dict[str, Any]
Composer = Callable[[Session, OutgoingMail], Values | None]


def composers(public_url: str) -> Mapping[str, Composer]:
    """A composer for each kind of mail about accounts; links lead to `public_url`, if there is."""

    def with_code(user: User | None, session: Session, purpose: str, email: str) -> Values | None:
        if user is None or user.disabled:
            return None
        code = one_time.issue(session, user, purpose, email)
        # Behind the hash: a fragment is not sent to servers and does not get into their logs.
        link = f"{public_url.rstrip('/')}/account/{purpose}#{code}" if public_url else None
        minutes = LIFETIMES[purpose] // 60
        values = {"code": code, "link": link, "minutes": minutes}
        # A mailbox that nobody proved may be a stranger's: no words of somebody else's choice.
        proved = user.email_verified_at is not None and user.email == email
        return values | {"name": user.name} if proved else values

    def verify_email(session: Session, mail: OutgoingMail) -> Values | None:
        user = _locked(session, mail.recipient)
        if user is not None and user.email_verified_at is not None:
            return None
        return with_code(user, session, VERIFY_EMAIL, mail.recipient)

    def reset_password(session: Session, mail: OutgoingMail) -> Values | None:
        user = _locked(session, mail.recipient)
        return with_code(user, session, RESET_PASSWORD, mail.recipient)

    def confirm_new_email(session: Session, mail: OutgoingMail) -> Values | None:
        if session.execute(queries.by_email(mail.recipient)).first() is not None:
            return None
        user = session.execute(queries.for_change(mail.data["user_id"])).scalar_one_or_none()
        return with_code(user, session, CHANGE_EMAIL, mail.recipient)

    return {
        "verify_email": verify_email,
        "reset_password": reset_password,
        "confirm_new_email": confirm_new_email,
        "email_change_asked": _notice,
        "email_changed": _notice,
        "password_changed": _notice,
    }


def _locked(session: Session, email: str) -> User | None:
    user = session.execute(queries.by_email(email)).scalar_one_or_none()
    if user is None:
        return None
    return session.execute(queries.for_change(user.id)).scalar_one_or_none()


def _notice(_session: Session, _mail: OutgoingMail) -> Values | None:
    # To whom it may concern: the account may have another address, or be gone.
    return {}
