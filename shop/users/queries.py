"""Questions about accounts and what belongs to them."""

from __future__ import annotations

from sqlalchemy import Select, bindparam, or_, select

from shop.db import UTCDateTime, database_ms
from shop.users.models import (
    Address,
    ApiKey,
    OneTimeToken,
    RefreshToken,
    SecurityEvent,
    User,
    UserSession,
    normalise_email,
)

_NOW = bindparam("now", type_=UTCDateTime())


def by_email(email: str) -> Select[User]:
    """The account of an address, however it is spelt."""
    return select(User).where(User.email == normalise_email(email))


def for_change(user_id: int) -> Select[User]:
    """The account under a lock, as it is now."""
    return (
        select(User)
        .where(User.id == user_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


#: What signing in needs to know of an address; asked before any transaction.
CREDENTIALS = select(User.id, User.password_hash, User.disabled).where(
    User.email == bindparam("email")
)

#: The address of the account `id`.
EMAIL_OF = select(User.email).where(User.id == bindparam("id"))

#: The role of the account `id`, if its session `session_id` holds at `now`.
ROLE_OF_SESSION = (
    select(User.role)
    .join(UserSession, UserSession.user_id == User.id)
    .where(
        UserSession.id == bindparam("session_id"),
        UserSession.ended_at.is_(None),
        UserSession.expires_at > _NOW,
        User.id == bindparam("id"),
        User.disabled.is_(False),
    )
)

#: Which of these sessions hold at `now`.
OPEN_SESSIONS = (
    select(UserSession.id)
    .join(User, User.id == UserSession.user_id)
    .where(
        UserSession.id.in_(bindparam("session_ids", expanding=True)),
        UserSession.ended_at.is_(None),
        UserSession.expires_at > _NOW,
        User.disabled.is_(False),
    )
)

#: The API key behind `lookup`, if it holds at `now`.
KEY_BY_LOOKUP = select(
    ApiKey.id, ApiKey.secret_hash, ApiKey.scopes, ApiKey.last_used_at
).where(
    ApiKey.lookup == bindparam("lookup"),
    ApiKey.revoked_at.is_(None),
    or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > _NOW),
)  # fmt: skip


def admins() -> Select[int]:
    """Ids of the administrators that may enter, in the order in which they are to be locked."""
    return select(User.id).where(User.role == "admin", User.disabled.is_(False)).order_by(User.id)


def newest(before: int, limit: int, *, role: str | None, email: str | None) -> Select[User]:
    """Accounts by descending id, below `before`."""
    found = select(User).where(User.id < before).order_by(User.id.desc()).limit(limit)
    if role is not None:
        found = found.where(User.role == role)
    if email is not None:
        found = found.where(User.email == normalise_email(email))
    return found


def refresh_token(token_hash: str) -> Select[RefreshToken, UserSession, User]:
    """A refresh token with its session and account."""
    return (
        select(RefreshToken, UserSession, User)
        .join(UserSession, UserSession.id == RefreshToken.session_id)
        .join(User, User.id == UserSession.user_id)
        .where(RefreshToken.token_hash == token_hash)
        .execution_options(populate_existing=True)
    )


def spent_for(token_id: int) -> Select[int]:
    """How long ago a refresh token was spent, in milliseconds of the database's clock."""
    return select(database_ms() - RefreshToken.spent_ms).where(RefreshToken.id == token_id)


def sessions_of(user_id: int) -> Select[UserSession]:
    """The sessions of an account that hold, last used first."""
    return (
        select(UserSession)
        .where(
            UserSession.user_id == user_id,
            UserSession.ended_at.is_(None),
            UserSession.expires_at > _NOW,
        )
        .order_by(UserSession.last_used_at.desc(), UserSession.id.desc())
    )


def every_session_of(user_id: int) -> Select[UserSession]:
    """Every session that an account ever had, ended ones too."""
    return select(UserSession).where(UserSession.user_id == user_id).order_by(UserSession.id)


def one_time_token(purposes: tuple[str, ...], token_hash: str) -> Select[OneTimeToken]:
    """A one-time token under a lock, if it was issued for one of these purposes."""
    return (
        select(OneTimeToken)
        .where(OneTimeToken.token_hash == token_hash, OneTimeToken.purpose.in_(purposes))
        .with_for_update()
    )


#: To which mailbox the code behind `token_hash` was sent, if it is for another password.
RESET_EMAIL = select(OneTimeToken.email).where(
    OneTimeToken.token_hash == bindparam("token_hash"), OneTimeToken.purpose == "reset_password"
)


def addresses_of(user_id: int) -> Select[Address]:
    """The address book of an account, oldest first."""
    return select(Address).where(Address.user_id == user_id).order_by(Address.id)


def api_keys() -> Select[ApiKey]:
    """Every API key, newest first."""
    return select(ApiKey).order_by(ApiKey.id.desc())


def security_events_of(user_id: int) -> Select[SecurityEvent]:
    """What happened around an account, oldest first."""
    return select(SecurityEvent).where(SecurityEvent.user_id == user_id).order_by(SecurityEvent.id)
