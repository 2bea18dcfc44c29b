"""What the shop holds on a person: shown on request, and deleted on request.

A feature that keeps something about accounts registers how to show it and how to let go of it; the
account itself goes last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shop.idempotency.operations import forget_caller
from shop.mail.operations import withdraw
from shop.users import one_time, queries
from shop.users.models import Address, SecurityEvent, User
from shop.users.operations import delete_user
from shop.users.sessions import delete_sessions


@dataclass(frozen=True, slots=True)
class PersonalData:
    """One part of it: `show` answers what can become JSON, `erase` leaves only what books need."""

    name: str
    show: Callable[[Session, User], Any]
    erase: Callable[[Session, User], None]


def erase_user(session: Session, user: User, parts: Sequence[PersonalData]) -> None:
    """Erase a person: every part, then the account, which must be locked. Raises LastAdmin."""
    for part in parts:
        part.erase(session, user)
    delete_user(session, user)


def _show_addresses(session: Session, user: User) -> list[dict[str, Any]]:
    return [_columns(address) for address in session.scalars(queries.addresses_of(user.id))]


def _erase_addresses(session: Session, user: User) -> None:
    for address in session.scalars(queries.addresses_of(user.id)):
        session.delete(address)
    session.flush()


def _show_sessions(session: Session, user: User) -> list[dict[str, Any]]:
    return [_columns(opened) for opened in session.scalars(queries.every_session_of(user.id))]


def _erase_sessions(session: Session, user: User) -> None:
    withdraw(session, user.id, user.email)
    # Kept answers tell what was sent, an address say.
    forget_caller(session, f"users/{user.id}")
    one_time.void(session, user.id)
    delete_sessions(session, user.id)


def _show_events(session: Session, user: User) -> list[dict[str, Any]]:
    return [_columns(event) for event in session.scalars(queries.security_events_of(user.id))]


def _keep(_session: Session, _user: User) -> None:
    """Security events name nobody but a number, and are the shop's own memory."""


def _columns(row: Address | SecurityEvent | Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__table__.columns.keys()}  # noqa: SIM118


PARTS = (
    PersonalData("addresses", _show_addresses, _erase_addresses),
    PersonalData("sessions", _show_sessions, _erase_sessions),
    PersonalData("security_events", _show_events, _keep),
)
