"""What happens to accounts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop import clock
from shop.db import is_duplicate
from shop.errors import Conflict, NotFound, Unauthenticated
from shop.mail.operations import enqueue, withdraw
from shop.users import one_time, queries
from shop.users.models import SecurityEvent, User, normalise_email
from shop.users.one_time import CHANGE_EMAIL, RESET_PASSWORD, VERIFY_EMAIL
from shop.users.sessions import end_sessions


class EmailTaken(Conflict):
    """Another account has this address."""

    def __init__(self) -> None:
        super().__init__("There is an account with this e-mail address.")


class AdminExists(Conflict):
    """The shop has an administrator already."""


class LastAdmin(Conflict):
    """The shop would be left without an administrator."""

    def __init__(self) -> None:
        super().__init__("This is the last administrator: make another one first.")


class BadCredentials(Unauthenticated):
    """Unknown address, wrong password or closed account: which of them is not said."""

    def __init__(self) -> None:
        super().__init__("The e-mail address or the password is wrong.")


class WrongPassword(Unauthenticated):
    """The account's present password was asked for, and this is not it."""

    def __init__(self) -> None:
        super().__init__("Send the present password of the account as `current_password`.")


class PasswordChanged(Conflict):
    """The account changed between the check of its password and what was to follow."""

    def __init__(self) -> None:
        super().__init__("The account was changed at the same moment. Try again.")


def create_user(session: Session, email: str, name: str, password_hash: str, role: str) -> User:
    """Open an account. Raises EmailTaken."""
    user = User(email=normalise_email(email), name=name, password_hash=password_hash, role=role)
    session.add(user)
    with _unique_email():
        session.flush()
    return user


def register(
    session: Session, email: str, name: str, password_hash: str, *, may_mail: bool
) -> User:
    """Open a customer's account, and ask its mailbox for a sign of life if that may be.

    Raises:
        EmailTaken: there is one.
    """
    user = create_user(session, email, name, password_hash, "customer")
    if may_mail:
        enqueue(session, "verify_email", user.email)
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


def find_for_change(session: Session, user_id: int) -> User:
    """The account under a lock. Raises NotFound."""
    user = session.execute(queries.for_change(user_id)).scalar_one_or_none()
    if user is None:
        raise NotFound(f"There is no account {user_id}.")
    return user


def find_with_password(session: Session, user_id: int, password_hash: str) -> User:
    """The account under a lock, if it may enter and its password is still the one checked before.

    Raises:
        PasswordChanged: it is not.
    """
    user = session.execute(queries.for_change(user_id)).scalar_one_or_none()
    if user is None or user.disabled or user.password_hash != password_hash:
        raise PasswordChanged
    return user


def change_password(
    session: Session, user: User, password_hash: str, *, keep_session: int | None
) -> None:
    """Set another password: all sessions end, but for the one that is kept."""
    user.password_hash = password_hash
    end_sessions(session, user.id, but=keep_session)
    # Also what was asked for by somebody who knew the old one and is not sent yet.
    one_time.void(session, user.id)
    withdraw(session, user.id)
    session.add(SecurityEvent(kind="password_changed", user_id=user.id, detail={}))
    enqueue(session, "password_changed", user.email)
    session.flush()


def reset_password(session: Session, token: str, password_hash: str) -> None:
    """Set another password by a mailed token, which also proves the mailbox; all sessions end.

    Raises:
        BadOneTimeToken: it cannot be used.
    """
    used = one_time.use(session, token, RESET_PASSWORD)
    user = find_for_change(session, used.user_id)
    user.email_verified_at = user.email_verified_at or clock.now()
    change_password(session, user, password_hash, keep_session=None)


def ask_for_new_email(session: Session, user: User, email: str, *, may_mail: bool) -> None:
    """Ask the new mailbox to confirm a change of address, if that may be; tell the old one of it.

    Whether another account has the new address is not said here: it gets no mail then.
    """
    if may_mail:
        enqueue(session, "confirm_new_email", normalise_email(email), {"user_id": user.id})
    enqueue(session, "email_change_asked", user.email)


def confirm_email(session: Session, token: str) -> User:
    """Take a mailed token as proof of a mailbox: the account's own, or the one it changes to.

    Raises:
        BadOneTimeToken: it cannot be used.
        EmailTaken: another account took the address meanwhile.
    """
    used = one_time.use(session, token, VERIFY_EMAIL, CHANGE_EMAIL)
    user = find_for_change(session, used.user_id)
    if used.purpose == CHANGE_EMAIL:
        one_time.void(session, user.id)
        enqueue(session, "email_changed", user.email)
        user.email = used.email
    user.email_verified_at = clock.now()
    with _unique_email():
        session.flush()
    return user


def change_rights(
    session: Session, user: User, *, role: str | None = None, disabled: bool | None = None
) -> None:
    """Give an account another role, close it or open it again. Raises LastAdmin."""
    if user.role == "admin" and (role not in (None, "admin") or disabled):
        _need_another_admin(session, user.id)
    before = {"role": user.role, "disabled": user.disabled}
    if role is not None:
        user.role = role
    if disabled is not None:
        user.disabled = disabled
    after = {"role": user.role, "disabled": user.disabled}
    if after == before:
        return
    if user.disabled:
        end_sessions(session, user.id)
    detail = {"before": before, "after": after}
    session.add(SecurityEvent(kind="rights_changed", user_id=user.id, detail=detail))
    session.flush()


def record_lock_out(session: Session, email: str) -> None:
    """Remember that the tries for an account are used up for now, if there is such an account."""
    user = session.execute(queries.by_email(email)).scalar_one_or_none()
    if user is not None:
        session.add(SecurityEvent(kind="sign_in_throttled", user_id=user.id, detail={}))


def delete_user(session: Session, user: User) -> None:
    """Delete an account whose belongings are deleted already. Raises LastAdmin."""
    if user.role == "admin":
        _need_another_admin(session, user.id)
    session.delete(user)
    session.flush()


def _need_another_admin(session: Session, user_id: int) -> None:
    # Locked, all of them and in one order: two administrators who demote each other must not
    # both find the other one there.
    admins = session.scalars(queries.admins().with_for_update()).all()
    if not set(admins) - {user_id}:
        raise LastAdmin


@contextmanager
def _unique_email() -> Iterator[None]:
    """Say that the address is taken, instead of what the database says."""
    try:
        yield
    except IntegrityError as error:
        if is_duplicate(error, "users", "email"):
            raise EmailTaken from error
        raise
