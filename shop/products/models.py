"""The catalogue: products, their variants, and the stock of each variant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop import clock
from shop.audit.capture import Audited
from shop.db import (
    TABLE_OPTIONS,
    Amount,
    Base,
    BigId,
    CurrencyCode,
    Id,
    Instant,
    LongText,
    UTCDateTime,
)

STATUSES = ("draft", "active", "archived")
#: What the value of a defined attribute can be.
KINDS = ("text", "integer", "boolean", "choice")


class Category(Audited, Base):
    """A shelf of the catalogue, below another one or at the top."""

    __tablename__ = "categories"
    __table_args__ = (Index(None, "parent_id"), TABLE_OPTIONS)
    audit_noun = "category"

    id: Mapped[Id]
    parent_id: Mapped[int | None] = mapped_column(BigId, ForeignKey("categories.id"))
    name: Mapped[str] = mapped_column(String(200))
    slug: Mapped[str] = mapped_column(String(220), unique=True)
    position: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)


class Product(Audited, Base):
    """Something the shop shows. What is sold are its variants, one at least.

    A draft with `publish_at` becomes active then; nothing else has one. `external_reference` is
    its name in another system.
    """

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("status IN ('draft', 'active', 'archived')", name="status"),
        # Serves the public list: active products, newest first.
        Index(None, "status", "id"),
        Index(None, "category_id", "id"),
        Index(None, "publish_at"),
        Index("uq_products_external_reference", "external_reference", unique=True),
        TABLE_OPTIONS,
    )
    audit_noun = "product"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(200))
    slug: Mapped[str] = mapped_column(String(220), unique=True)
    description: Mapped[str] = mapped_column(LongText)
    status: Mapped[str] = mapped_column(String(10))
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    category_id: Mapped[int | None] = mapped_column(BigId, ForeignKey("categories.id"))
    publish_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    external_reference: Mapped[str | None] = mapped_column(String(100))
    # `metadata` belongs to SQLAlchemy. Null, in rows of before there was any, is the same as {}.
    public_metadata: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)

    variants: Mapped[list[Variant]] = relationship(
        back_populates="product", order_by="Variant.id", cascade="all, delete-orphan"
    )


class Variant(Audited, Base):
    """What is sold: it has a SKU and a price in minor units of `currency`.

    When less than `low_stock_threshold` is there, it is time to order more.
    `prior_price_amount`: see `prices`.
    """

    __tablename__ = "variants"
    __table_args__ = (
        CheckConstraint("price_amount >= 0", name="price_amount"),
        Index("uq_variants_external_reference", "external_reference", unique=True),
        TABLE_OPTIONS,
    )
    audit_noun = "variant"

    id: Mapped[Id]
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), index=True)
    sku: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    price_amount: Mapped[Amount]
    currency: Mapped[CurrencyCode]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    low_stock_threshold: Mapped[int | None] = mapped_column(BigInteger)
    prior_price_amount: Mapped[int | None] = mapped_column(BigInteger)
    external_reference: Mapped[str | None] = mapped_column(String(100))
    public_metadata: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

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


class StockMovement(Base):
    """One change of a variant's stock. Never changed, never deleted: `on_hand` is their sum.

    `on_hand` here is what was there afterwards. No foreign key: the ledger outlives the variant.
    """

    __tablename__ = "stock_movements"
    __table_args__ = (Index(None, "variant_id", "id"), Index(None, "order_id"), TABLE_OPTIONS)

    id: Mapped[Id]
    variant_id: Mapped[int] = mapped_column(BigInteger)
    delta: Mapped[int] = mapped_column(BigInteger)
    on_hand: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(100))
    order_id: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)


class PriceChange(Base):
    """A variant costs this from `from_at` on, until the next one. Never changed, never deleted.

    The order is that of the ids. No foreign key: the history outlives the variant.
    """

    __tablename__ = "price_changes"
    __table_args__ = (Index(None, "variant_id", "id"), TABLE_OPTIONS)

    id: Mapped[Id]
    variant_id: Mapped[int] = mapped_column(BigInteger)
    price_amount: Mapped[Amount]
    currency: Mapped[CurrencyCode]
    from_at: Mapped[Instant]


class ProductSlug(Base):
    """A slug that a product had. It leads there until another product has it."""

    __tablename__ = "product_slugs"
    __table_args__ = (Index(None, "product_id"), TABLE_OPTIONS)

    slug: Mapped[str] = mapped_column(String(220), primary_key=True)
    product_id: Mapped[int] = mapped_column(BigId, ForeignKey("products.id"))


class AttributeDefinition(Audited, Base):
    """What the values of an attribute may be; `options` are the texts of a choice."""

    __tablename__ = "attribute_definitions"
    __table_args__ = (
        CheckConstraint("kind IN ('text', 'integer', 'boolean', 'choice')", name="kind"),
        TABLE_OPTIONS,
    )
    audit_noun = "attribute_definition"

    id: Mapped[Id]
    code: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(10))
    options: Mapped[list[str]] = mapped_column(JSON)
    unit: Mapped[str | None] = mapped_column(String(20))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)


class ProductRating(Base):
    """How many approved reviews gave a product one to five stars; kept by the reviews."""

    __tablename__ = "product_ratings"
    __table_args__ = (TABLE_OPTIONS,)

    product_id: Mapped[int] = mapped_column(
        BigId, ForeignKey("products.id"), primary_key=True, autoincrement=False
    )
    stars_1: Mapped[int] = mapped_column(Integer, default=0)
    stars_2: Mapped[int] = mapped_column(Integer, default=0)
    stars_3: Mapped[int] = mapped_column(Integer, default=0)
    stars_4: Mapped[int] = mapped_column(Integer, default=0)
    stars_5: Mapped[int] = mapped_column(Integer, default=0)

    @property
    def stars(self) -> tuple[int, ...]:
        """How many gave one, two, three, four and five."""
        return (self.stars_1, self.stars_2, self.stars_3, self.stars_4, self.stars_5)


def _listing_indexes() -> list[Index]:
    """An index for each order, of everything and of a category, with all that is filtered by."""
    indexes = []
    for column in ("product_id", "price_from", "name", "rating"):
        for place, where in (("all", ("status",)), ("category", ("category_id", "status"))):
            filtered = ("price_from", "stocked_variants", "category_id")
            columns = dict.fromkeys((*where, column, "product_id", *filtered))
            indexes.append(Index(f"ix_product_listings_{place}_{column}", *columns))
    return indexes


class ProductListing(Base):
    """What lists, filters and search look at: one row a product, derived from what it owns.

    Kept in the transaction of every change by `listings`. `name` is its words, folded, for
    sorting; `rating` is the average in hundredths of a star; `words` are those of
    `search.words_of`, made by its version `words_version`.
    """

    __tablename__ = "product_listings"
    __table_args__ = (
        *_listing_indexes(),
        Index(None, "status", "stocked_variants"),
        Index(None, "words_version"),
        TABLE_OPTIONS,
    )

    product_id: Mapped[int] = mapped_column(
        BigId, ForeignKey("products.id"), primary_key=True, autoincrement=False
    )
    status: Mapped[str] = mapped_column(String(10))
    category_id: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(100))
    price_from: Mapped[Amount]
    rating: Mapped[int] = mapped_column(Integer)
    stocked_variants: Mapped[int] = mapped_column(Integer)
    words: Mapped[str] = mapped_column(LongText)
    words_version: Mapped[int] = mapped_column(Integer)


class ListedValue(Base):
    """A value of an attribute that a product, or one of its variants, has.

    With the product's state and price as in its listing: so those of a value lie in the order of
    their prices, and are counted without a look at anything else.
    """

    __tablename__ = "listed_values"
    __table_args__ = (Index(None, "product_id"), TABLE_OPTIONS)

    code: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[str] = mapped_column(String(200), primary_key=True)
    status: Mapped[str] = mapped_column(String(10), primary_key=True)
    price_from: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    product_id: Mapped[int] = mapped_column(
        BigId, ForeignKey("products.id"), primary_key=True, autoincrement=False
    )
