"""The catalogue: products, their variants, and the stock of each variant."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop import clock
from shop.audit.capture import Audited
from shop.db import TABLE_OPTIONS, Amount, Base, BigId, CurrencyCode, Id, Instant, LongText

STATUSES = ("draft", "active", "archived")


class Product(Audited, Base):
    """Something the shop shows. What is sold are its variants, one at least."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("status IN ('draft', 'active', 'archived')", name="status"),
        # Serves the public list: active products, newest first.
        Index(None, "status", "id"),
        TABLE_OPTIONS,
    )
    audit_noun = "product"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(200))
    slug: Mapped[str] = mapped_column(String(220), unique=True)
    description: Mapped[str] = mapped_column(LongText)
    status: Mapped[str] = mapped_column(String(10))
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)

    variants: Mapped[list[Variant]] = relationship(
        back_populates="product", order_by="Variant.id", cascade="all, delete-orphan"
    )


class Variant(Audited, Base):
    """What is sold: it has a SKU and a price in minor units of `currency`."""

    __tablename__ = "variants"
    __table_args__ = (CheckConstraint("price_amount >= 0", name="price_amount"), TABLE_OPTIONS)
    audit_noun = "variant"

    id: Mapped[Id]
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), index=True)
    sku: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    price_amount: Mapped[Amount]
    currency: Mapped[CurrencyCode]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)

    product: Mapped[Product] = relationship(back_populates="variants")
    stock: Mapped[StockLevel] = relationship(
        back_populates="variant", cascade="all, delete-orphan", single_parent=True
    )


class StockLevel(Audited, Base):
    """How many of a variant are there. A row of its own: a sale leaves the variant as it is."""

    __tablename__ = "stock_levels"
    __table_args__ = (CheckConstraint("on_hand >= 0", name="on_hand"), TABLE_OPTIONS)
    audit_noun = "stock_level"

    variant_id: Mapped[int] = mapped_column(
        BigId, ForeignKey("variants.id"), primary_key=True, autoincrement=False
    )
    on_hand: Mapped[int] = mapped_column(BigInteger)

    variant: Mapped[Variant] = relationship(back_populates="stock")
