"""Leases: who leads, by a row on the database's clock, with a token that fences the past.

A lock of the database server would not do: `GET_LOCK` outlives a frozen process for hours, and
a dropped connection gives it away while its holder goes on.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Select,
    String,
    exc,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from shop.db import TABLE_OPTIONS, Base, database_ms, writing

#: No lease is given for so long: whose end is further away is from a clock that was set back.
_LONGEST_MS = 1_000_000


class LeaseRow(Base):
    """The one row of a lease: `token` rises with each change of holder."""

    __tablename__ = "leases"
    __table_args__ = TABLE_OPTIONS

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(128))
    token: Mapped[int] = mapped_column(BigInteger)
    expires_ms: Mapped[int] = mapped_column(BigInteger)


def process_name() -> str:
    """A name for this process that no other process has had: host, pid and chance."""
    return f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(4)}"


def holder(name: str) -> Select[str, int, int]:
    """Who holds the lease `name` now: owner, token, and the milliseconds `left` of it."""
    left = (LeaseRow.expires_ms - database_ms()).label("left")
    return select(LeaseRow.owner, LeaseRow.token, left).where(
        LeaseRow.name == name, LeaseRow.expires_ms > database_ms()
    )


class Lease:
    """This process's claim on the lease `name` for `seconds` at a time."""

    def __init__(self, engine: Engine, name: str, seconds: float) -> None:
        self._engine = engine
        self._name = name
        self._ms = int(seconds * 1000)
        self._owner = process_name()
        self._trusted_until = 0.0
        self.token = 0

    @property
    def held(self) -> bool:
        """Whether this process may still believe that it leads.

        Judged by the monotonic clock from *before* the last successful request, with a fifth of
        the time kept back, so that a slow answer or a frozen process errs on the side of doubt.
        """
        return time.monotonic() < self._trusted_until

    @property
    def renewal_due(self) -> bool:
        """Whether a third of the time has passed since the last renewal."""
        return time.monotonic() > self._trusted_until - self._ms / 1000 * (0.8 - 0.33)

    def acquire(self) -> bool:
        """Take the lease if nobody holds it; True when this process now leads."""
        if not self._is_free():
            return False
        asked = time.monotonic()
        with writing(self._engine) as connection:
            taken = update(LeaseRow).where(LeaseRow.name == self._name, _is_over())
            if not self._write(connection, taken.values(token=LeaseRow.token + 1)):
                return False
            self.token = connection.execute(
                select(LeaseRow.token).where(LeaseRow.name == self._name)
            ).scalar_one()
        self._trust_from(asked)
        return True

    def renew(self) -> bool:
        """Keep the lease for another term; False when it was lost."""
        asked = time.monotonic()
        with writing(self._engine) as connection:
            kept = self._write(connection, update(LeaseRow).where(*self._mine()))
        if kept:
            self._trust_from(asked)
        else:
            self._trusted_until = 0.0
        return kept

    def release(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        self._trusted_until = 0.0
        with writing(self._engine) as connection:
            connection.execute(update(LeaseRow).where(*self._mine()).values(expires_ms=0))

    def still_mine(self, connection: Connection) -> bool:
        """Fence a transaction: lock the lease row and say whether it is this holder's still."""
        row = select(LeaseRow.name).where(*self._mine()).with_for_update(read=True)
        return connection.execute(row).first() is not None

    def _is_free(self) -> bool:
        # Asked without a lock first: those who wait for a turn must not disturb the writers.
        expired = select(_is_over()).where(LeaseRow.name == self._name)
        with self._engine.connect() as connection:
            free = connection.execute(expired).scalar_one_or_none()
        if free is None:
            self._make_row()
        return free is None or bool(free)

    def _make_row(self) -> None:
        try:
            with writing(self._engine) as connection:
                connection.execute(
                    insert(LeaseRow).values(name=self._name, owner="", token=0, expires_ms=0)
                )
        except exc.IntegrityError:
            return

    def _mine(self) -> tuple[Any, ...]:
        return (
            LeaseRow.name == self._name,
            LeaseRow.owner == self._owner,
            LeaseRow.token == self.token,
            LeaseRow.expires_ms > database_ms(),
        )

    def _write(self, connection: Connection, statement: Any) -> bool:
        until = database_ms() + self._ms
        result = connection.execute(statement.values(owner=self._owner, expires_ms=until))
        return bool(result.rowcount == 1)

    def _trust_from(self, asked: float) -> None:
        self._trusted_until = asked + self._ms / 1000 * 0.8


def _is_over() -> ColumnElement[bool]:
    now = database_ms()
    return or_(LeaseRow.expires_ms < now, LeaseRow.expires_ms > now + _LONGEST_MS)
