"""The address book of an account."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from shop.errors import Conflict, NotFound
from shop.users import queries
from shop.users.models import Address

MOST = 50
_DEFAULTS = ("default_shipping", "default_billing")


class TooManyAddresses(Conflict):
    """The address book is full."""


def add_address(session: Session, user_id: int, data: dict[str, Any]) -> Address:
    """Add an address; the first one is the default of both kinds. Raises TooManyAddresses.

    The account must be locked, so that two requests cannot both add the first or the last one.
    """
    others = session.scalars(queries.addresses_of(user_id)).all()
    if len(others) >= MOST:
        raise TooManyAddresses(f"An address book has {MOST} entries at most: delete one first.")
    defaults = {name: data.get(name, False) or not others for name in _DEFAULTS}
    address = Address(**{**data, **defaults}, user_id=user_id)
    session.add(address)
    _give_way(others, defaults)
    session.flush()
    return address


def change_address(session: Session, address: Address, changes: dict[str, Any]) -> None:
    """Change an address. The account must be locked."""
    others = [
        other
        for other in session.scalars(queries.addresses_of(address.user_id))
        if other.id != address.id
    ]
    for field, value in changes.items():
        setattr(address, field, value)
    _give_way(others, changes)
    session.flush()


def _give_way(others: list[Address] | Any, defaults: dict[str, Any]) -> None:
    """There is one default of each kind at most."""
    for name in _DEFAULTS:
        if defaults.get(name):
            for other in others:
                setattr(other, name, False)


def find_address(session: Session, user_id: int, address_id: int) -> Address:
    """An address of this account. Raises NotFound, also for somebody else's."""
    address = session.get(Address, address_id, populate_existing=True)
    if address is None or address.user_id != user_id:
        raise NotFound("There is no such address.")
    return address


def delete_address(session: Session, address: Address) -> None:
    """Delete an address; another one does not become the default by itself."""
    session.delete(address)
    session.flush()
