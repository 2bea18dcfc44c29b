"""What capture adds to a commit: the same change of one row, with and without its audit entry.

Both are made in turns by one session on one connection, so that the machine treats them alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sqlalchemy import event, select
from sqlalchemy.orm import Session

from bench.stage import Shop
from shop.audit import capture
from shop.users.models import User

TARGET_P50 = 0.6
_TURN = 50


@dataclass
class Commits:
    """Milliseconds from the change to the end of its commit."""

    plain: list[float] = field(default_factory=list)
    audited: list[float] = field(default_factory=list)


def measure(shop: Shop, turns: int) -> Commits:
    """Rename the administrator again and again."""
    engine = shop.engine()
    found = Commits()
    with Session(engine, expire_on_commit=False) as session:
        user = session.scalars(select(User).order_by(User.id)).first()
        if user is None:
            raise LookupError("the shop has no administrator")
        _rename(session, user, _TURN)
        for _ in range(turns):
            found.audited += _rename(session, user, _TURN)
            event.remove(Session, "after_flush", capture.record_flush)
            try:
                found.plain += _rename(session, user, _TURN)
            finally:
                event.listen(Session, "after_flush", capture.record_flush)
    engine.dispose()
    return found


def _rename(session: Session, user: User, times: int) -> list[float]:
    took = []
    for number in range(times):
        begun = time.perf_counter()
        user.name = f"Bench {begun} {number}"
        session.commit()
        took.append((time.perf_counter() - begun) * 1000)
    return took
