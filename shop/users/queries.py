"""Questions about accounts."""

from __future__ import annotations

from sqlalchemy import Select, select

from shop.users.models import User, normalise_email


def by_email(email: str) -> Select[User]:
    """The account of an address, however it is spelt."""
    return select(User).where(User.email == normalise_email(email))


def role_of(user_id: int) -> Select[str]:
    """The role of an account that may enter."""
    return select(User.role).where(User.id == user_id, User.disabled.is_(False))


def admins() -> Select[int]:
    """Ids of the administrators that may enter."""
    return select(User.id).where(User.role == "admin", User.disabled.is_(False))
