"""Reviews, what others think of them, and the ratings that come of them."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from shop import clock
from shop.audit.capture import Audited, mask_text
from shop.db import TABLE_OPTIONS, Base, BigId, Id, Instant, LongText, UTCDateTime

STATUSES = ("pending", "approved", "rejected")
STARS = (1, 2, 3, 4, 5)


class Review(Audited, Base):
    """What a customer says of a product; one each. Everybody sees it once it is approved.

    `verified` says that its author had the product delivered. Who was erased leaves no `user_id`.
    """

    __tablename__ = "reviews"
    __table_args__ = (
        UniqueConstraint("product_id", "user_id"),
        CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
        CheckConstraint("status IN ('pending', 'approved', 'rejected')", name="status"),
        Index(None, "product_id", "status", "id"),
        Index(None, "product_id", "status", "helpful_count", "id"),
        Index(None, "product_id", "status", "rating", "id"),
        Index(None, "status", "id"),
        Index(None, "user_id"),
        TABLE_OPTIONS,
    )
    audit_noun = "review"
    audit_masked: ClassVar = {"author": mask_text}

    id: Mapped[Id]
    product_id: Mapped[int] = mapped_column(BigId, ForeignKey("products.id"))
    user_id: Mapped[int | None] = mapped_column(BigId, ForeignKey("users.id"))
    author: Mapped[str] = mapped_column(String(100))
    rating: Mapped[int] = mapped_column(SmallInteger)
    title: Mapped[str] = mapped_column(String(200))
    text: Mapped[str] = mapped_column(LongText)
    status: Mapped[str] = mapped_column(String(10))
    verified: Mapped[bool] = mapped_column(Boolean, default=False)
    reply: Mapped[str | None] = mapped_column(LongText)
    replied_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    helpful_count: Mapped[int] = mapped_column(Integer, default=0)
    report_count: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)


class ReviewVote(Base):
    """Somebody found a review helpful: once, and not his own."""

    __tablename__ = "review_votes"
    __table_args__ = (
        UniqueConstraint("review_id", "user_id"),
        Index(None, "user_id"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    review_id: Mapped[int] = mapped_column(BigId, ForeignKey("reviews.id"))
    user_id: Mapped[int] = mapped_column(BigId, ForeignKey("users.id"))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)


class ReviewReport(Base):
    """Somebody says that a review should not be there: once."""

    __tablename__ = "review_reports"
    __table_args__ = (
        UniqueConstraint("review_id", "user_id"),
        Index(None, "user_id"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    review_id: Mapped[int] = mapped_column(BigId, ForeignKey("reviews.id"))
    user_id: Mapped[int] = mapped_column(BigId, ForeignKey("users.id"))
    reason: Mapped[str] = mapped_column(String(500))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
