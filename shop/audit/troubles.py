"""What is remembered of a sink's failures, in the database: others want to know, too."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Select,
    String,
    exc,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from shop import clock
from shop.db import TABLE_OPTIONS, Base, UTCDateTime, reason, writing


class SinkTrouble(Base):
    """How often a sink failed, and since when it does so now; `since` is None when it works.

    `parked` is how many events it refused for good, whatever became of them afterwards.
    """

    __tablename__ = "audit_troubles"
    __table_args__ = TABLE_OPTIONS

    sink: Mapped[str] = mapped_column(String(32), primary_key=True)
    failures: Mapped[int] = mapped_column(BigInteger)
    parked: Mapped[int] = mapped_column(BigInteger)
    since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    reason: Mapped[str] = mapped_column(String(300))


def troubles() -> Select[str, int, int, datetime | None]:
    """Of each sink that was ever in trouble: failures, parked events, since when it fails now."""
    return select(
        SinkTrouble.sink, SinkTrouble.failures, SinkTrouble.parked, SinkTrouble.since
    ).order_by(SinkTrouble.sink)


def count_parked(connection: Connection, sink: str, events: int) -> None:
    """Count events that a sink refused for good, in the transaction that parks them."""
    _note(connection, sink, {"parked": SinkTrouble.parked + events}, {"parked": events})


def _note(connection: Connection, sink: str, more: dict[str, Any], first: dict[str, Any]) -> None:
    """Change the row of a sink; `first` is what is known of one that has none yet."""
    known = update(SinkTrouble).where(SinkTrouble.sink == sink)
    if connection.execute(known.values(more)).rowcount == 0:
        row = {"sink": sink, "failures": 0, "parked": 0, "reason": ""} | first
        connection.execute(insert(SinkTrouble).values(row))


class Troubles:
    """The failures of one sink, as its publisher sees them. Neither method raises."""

    def __init__(self, engine: Engine, sink: str) -> None:
        self._engine = engine
        self._sink = sink
        # A publisher before this one may have left some.
        self._may_be_open = True

    def note(self, error: Exception) -> None:
        """The sink failed. Nothing is noted when it was the database: that is no fault of it."""
        if isinstance(error, exc.SQLAlchemyError):
            return
        self._may_be_open = True
        why, moment = reason(error), clock.now()
        since = func.coalesce(SinkTrouble.since, moment)
        more = {"failures": SinkTrouble.failures + 1, "since": since, "reason": why}
        first = {"failures": 1, "since": moment, "reason": why}
        with contextlib.suppress(exc.SQLAlchemyError), writing(self._engine) as connection:
            _note(connection, self._sink, more, first)

    def over(self) -> None:
        """The sink works."""
        if not self._may_be_open:
            return
        mine = SinkTrouble.sink == self._sink
        with contextlib.suppress(exc.SQLAlchemyError):
            with writing(self._engine) as connection:
                connection.execute(update(SinkTrouble).where(mine).values(since=None))
            self._may_be_open = False
