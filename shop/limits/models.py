"""Counters of what was tried."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from shop.db import TABLE_OPTIONS, Base


class RateCounter(Base):
    """How often something was tried in a window; `name` is a digest, so it names nobody.

    `ends_ms` is the end of the window on the database's clock.
    """

    __tablename__ = "rate_counters"
    __table_args__ = (Index(None, "ends_ms"), TABLE_OPTIONS)

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    ends_ms: Mapped[int] = mapped_column(BigInteger)
