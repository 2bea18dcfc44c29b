"""One-time tokens: what a mail brings, to prove that its reader has the mailbox."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from shop import clock
from shop.errors import BadToken
from shop.users import queries
from shop.users.models import OneTimeToken, User
from shop.users.tokens import digest, new_secret

VERIFY_EMAIL, CHANGE_EMAIL, RESET_PASSWORD = "verify_email", "change_email", "reset_password"
#: Seconds that each holds.
LIFETIMES = {VERIFY_EMAIL: 86_400, CHANGE_EMAIL: 86_400, RESET_PASSWORD: 3600}


class BadOneTimeToken(BadToken):
    """Unknown, expired, used, replaced by a newer one, or issued for something else."""

    def __init__(self) -> None:
        super().__init__("This code is wrong, expired or used, or there is a newer one.")


def issue(session: Session, user: User, purpose: str, email: str) -> str:
    """A new token; an older one of the same purpose is void. The account must be locked."""
    session.execute(
        delete(OneTimeToken).where(OneTimeToken.user_id == user.id, OneTimeToken.purpose == purpose)
    )
    token = new_secret()
    expires_at = clock.now() + timedelta(seconds=LIFETIMES[purpose])
    session.add(
        OneTimeToken(
            user_id=user.id, purpose=purpose, token_hash=digest(token), email=email,
            expires_at=expires_at,
        )
    )  # fmt: skip
    session.flush()
    return token


def use(session: Session, token: str, *purposes: str) -> OneTimeToken:
    """Use a token up; answers what it was. Raises BadOneTimeToken."""
    found = session.execute(queries.one_time_token(purposes, digest(token))).scalar_one_or_none()
    if found is None or found.expires_at <= clock.now():
        raise BadOneTimeToken
    session.delete(found)
    session.flush()
    return found


def void(session: Session, user_id: int) -> None:
    """Make every token of an account useless."""
    session.execute(delete(OneTimeToken).where(OneTimeToken.user_id == user_id))
