"""Keys of requests: first a claim, then the answer that is given again."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, SmallInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shop.db import TABLE_OPTIONS, Base, Id, Instant, LongText


class IdempotencyKey(Base):
    """A key that a caller gave a request for an operation (method and route).

    Without `status` it is claimed: a request runs, until `expires_ms` on the database's clock at
    the latest. With it, this is the answer, kept until then. Whatever has expired is as if it were
    not there. (`id`, `claim`) is the fence: `claim` rises when the key is taken over.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        UniqueConstraint("caller", "operation", "idempotency_key"),
        Index(None, "expires_ms"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    caller: Mapped[str] = mapped_column(String(100))
    operation: Mapped[str] = mapped_column(String(200))
    idempotency_key: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    claim: Mapped[int] = mapped_column(BigInteger)
    expires_ms: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[int | None] = mapped_column(SmallInteger)
    headers: Mapped[str | None] = mapped_column(LongText)
    body: Mapped[str | None] = mapped_column(LongText)
    created_at: Mapped[Instant]
