"""What orders tell of a person, and what is left of them for the books."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from shop.orders import queries
from shop.orders.schemas import order_out
from shop.users.models import User
from shop.users.personal import PersonalData

#: Of a postal code: enough to say which region was sold to.
_KEPT_OF_POSTAL_CODE = 2


def _show(session: Session, user: User) -> list[dict[str, Any]]:
    found = session.scalars(queries.of_user(user.id))
    return [order_out(order, is_staff=False) for order in found]


def _erase(session: Session, user: User) -> None:
    """Orders stay with their sums, country and the head of the postal code; who and where goes."""
    locked = queries.of_user(user.id).with_for_update()
    for order in session.scalars(locked.execution_options(populate_existing=True)).all():
        order.user_id, order.email = None, ""
        order.shipping_name = order.shipping_line1 = order.shipping_city = ""
        order.shipping_line2 = order.shipping_region = order.shipping_phone = None
        order.shipping_postal_code = order.shipping_postal_code[:_KEPT_OF_POSTAL_CODE]
    session.flush()


PART = PersonalData("orders", _show, _erase)
