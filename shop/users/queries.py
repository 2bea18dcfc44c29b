"""Questions about accounts."""

from __future__ import annotations

from sqlalchemy import Select, bindparam, select

from shop.users.models import User, normalise_email


def by_email(email: str) -> Select[User]:
    """The account of an address, however it is spelt."""
    return select(User).where(User.email == normalise_email(email))


#: The role of the account `id`, if it may enter; asked at each request that brings a token.
ROLE_OF = select(User.role).where(User.id == bindparam("id"), User.disabled.is_(False))


def admins() -> Select[int]:
    """Ids of the administrators that may enter."""
    return select(User.id).where(User.role == "admin", User.disabled.is_(False))
