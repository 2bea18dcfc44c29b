"""What happens to accounts."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop.db import is_duplicate
from shop.errors import Conflict, Unauthenticated
from shop.users import queries
from shop.users.models import User, normalise_email
from shop.users.passwords import verify_password


class EmailTaken(Conflict):
    """Another account has this address."""


class AdminExists(Conflict):
    """The shop has an administrator already."""


class BadCredentials(Unauthenticated):
    """Unknown address, wrong password or closed account: which of them is not said."""


def sign_in(session: Session, email: str, password: str) -> User:
    """The account behind these credentials. Raises BadCredentials."""
    user = session.execute(queries.by_email(email)).scalar_one_or_none()
    right = verify_password(user.password_hash if user else None, password)
    if user is None or not right or user.disabled:
        raise BadCredentials("The e-mail address or the password is wrong.")
    return user


def create_user(session: Session, email: str, name: str, password_hash: str, role: str) -> User:
    """Open an account. Raises EmailTaken."""
    user = User(email=normalise_email(email), name=name, password_hash=password_hash, role=role)
    session.add(user)
    try:
        session.flush()
    except IntegrityError as error:
        if is_duplicate(error, "users", "email"):
            raise EmailTaken("There is an account with this e-mail address.") from error
        raise
    return user


def create_first_admin(
    session: Session, email: str, password_hash: str, *, force: bool = False
) -> User:
    """Open the first administrator's account; another one only with `force`.

    Raises:
        AdminExists: there is one already.
        EmailTaken: the address has an account.
    """
    if not force and session.execute(queries.admins().limit(1)).first() is not None:
        raise AdminExists("There is an administrator already; --force makes another one.")
    return create_user(session, email, email.partition("@")[0], password_hash, "admin")
