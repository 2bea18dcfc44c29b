"""What happens to ads."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop.ads import queries
from shop.ads.models import Ad
from shop.db import is_missing_reference
from shop.errors import Fault, Invalid, NotFound


class WrongSchedule(Invalid):
    """An ad would end before it begins."""


class NoSuchProduct(Invalid):
    """The ad is of a product that is not there."""


def create_ad(session: Session, data: dict[str, Any]) -> Ad:
    """Create an ad. Raises WrongSchedule, NoSuchProduct."""
    ad = Ad(**data)
    _check_schedule(ad)
    session.add(ad)
    _flush(session)
    return ad


def find_for_change(session: Session, ad_id: int) -> Ad:
    """The ad under a lock. Raises NotFound."""
    ad = session.execute(queries.for_change(ad_id)).scalar_one_or_none()
    if ad is None:
        raise NotFound(f"There is no ad {ad_id}.")
    return ad


def change_ad(session: Session, ad: Ad, changes: dict[str, Any]) -> None:
    """Change an ad. Raises WrongSchedule, NoSuchProduct."""
    for field, value in changes.items():
        setattr(ad, field, value)
    _check_schedule(ad)
    _flush(session)


def delete_ad(session: Session, ad: Ad) -> None:
    """Delete an ad. What was counted of it stays in the books; its id is never used again."""
    session.delete(ad)
    session.flush()


def _check_schedule(ad: Ad) -> None:
    if ad.starts_at is not None and ad.ends_at is not None and ad.ends_at <= ad.starts_at:
        fault = Fault("/ends_at", "Must be later than starts_at.")
        raise WrongSchedule("An ad ends after it has begun.", faults=(fault,))


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        if is_missing_reference(error):
            fault = Fault("/product_id", "There is no such product.")
            raise NoSuchProduct("The ad is of no product.", faults=(fault,)) from error
        raise
