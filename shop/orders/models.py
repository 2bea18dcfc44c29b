"""Orders and what belongs to them: lines, payments, refunds, shipments, history."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop import clock, provenance
from shop.audit.capture import Audited, mask_email, mask_text
from shop.db import TABLE_OPTIONS, Amount, Base, BigId, CurrencyCode, Id, Instant, UTCDateTime
from shop.orders.states import FULFILMENT_STATUSES, PAYMENT_STATUSES, STATUSES, State

#: What an address consists of; an order has each as a column `shipping_...`.
ADDRESS = ("name", "line1", "line2", "city", "region", "postal_code", "country", "phone")
OPEN_PAYMENTS = ("pending", "requires_action")
PAYMENTS = (*OPEN_PAYMENTS, "succeeded", "failed")
REFUNDS = ("pending", "succeeded", "failed")


def one_of(column: str, words: tuple[str, ...]) -> CheckConstraint:
    """A rule that a column has one of these words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class Order(Audited, Base):
    """What somebody bought. Everything that was agreed on is a copy taken at that moment.

    `paid_total` and `refunded_total` are what really moved; `refunding_total` is claimed by refunds
    that are under way. Who was erased leaves no `user_id`, name or street.
    """

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint(
            "total = subtotal - discount_total + shipping_total + tax_total", name="total"
        ),
        CheckConstraint(
            "subtotal >= 0 AND discount_total >= 0 AND shipping_total >= 0 AND tax_total >= 0"
            " AND total >= 0",
            name="totals",
        ),
        CheckConstraint(
            "refunded_total >= 0 AND refunding_total >= 0"
            " AND refunded_total + refunding_total <= paid_total",
            name="refunded_total",
        ),
        one_of("status", STATUSES),
        one_of("payment_status", PAYMENT_STATUSES),
        one_of("fulfilment_status", FULFILMENT_STATUSES),
        Index(None, "user_id", "id"),
        Index(None, "status", "expires_at"),
        Index(None, "payment_status", "fulfilment_status", "id"),
        TABLE_OPTIONS,
    )
    audit_noun = "order"
    audit_masked: ClassVar = {"email": mask_email} | {
        f"shipping_{name}": mask_text for name in ADDRESS if name != "country"
    }

    id: Mapped[Id]
    number: Mapped[str] = mapped_column(String(20), unique=True)
    user_id: Mapped[int | None] = mapped_column(BigId, ForeignKey("users.id"))
    email: Mapped[str] = mapped_column(String(254))
    status: Mapped[str] = mapped_column(String(20), default="placed")
    payment_status: Mapped[str] = mapped_column(String(20), default="unpaid")
    fulfilment_status: Mapped[str] = mapped_column(String(20), default="unfulfilled")
    currency: Mapped[CurrencyCode]
    subtotal: Mapped[Amount]
    discount_total: Mapped[Amount] = mapped_column(default=0)
    shipping_total: Mapped[Amount] = mapped_column(default=0)
    tax_total: Mapped[Amount] = mapped_column(default=0)
    total: Mapped[Amount]
    paid_total: Mapped[Amount] = mapped_column(default=0)
    refunding_total: Mapped[Amount] = mapped_column(default=0)
    refunded_total: Mapped[Amount] = mapped_column(default=0)
    shipping_name: Mapped[str] = mapped_column(String(200))
    shipping_line1: Mapped[str] = mapped_column(String(200))
    shipping_line2: Mapped[str | None] = mapped_column(String(200))
    shipping_city: Mapped[str] = mapped_column(String(100))
    shipping_region: Mapped[str | None] = mapped_column(String(100))
    shipping_postal_code: Mapped[str] = mapped_column(String(20))
    shipping_country: Mapped[str] = mapped_column(String(2))
    shipping_phone: Mapped[str | None] = mapped_column(String(30))
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)

    items: Mapped[list[OrderItem]] = relationship(order_by="OrderItem.id")
    payments: Mapped[list[Payment]] = relationship(order_by="Payment.id")
    refunds: Mapped[list[Refund]] = relationship(order_by="Refund.id")
    shipments: Mapped[list[Shipment]] = relationship(order_by="Shipment.id")
    history: Mapped[list[OrderHistory]] = relationship(order_by="OrderHistory.id")

    @property
    def state(self) -> State:
        """Where the order stands."""
        return State(self.status, self.payment_status, self.fulfilment_status)

    @property
    def refundable(self) -> int:
        """What was paid and neither given back nor about to be."""
        return self.paid_total - self.refunded_total - self.refunding_total

    @property
    def request_keys(self) -> set[str | None]:
        """Of the requests that claimed its payments and refunds."""
        keys = {payment.request_key for payment in self.payments}
        return keys | {refund.request_key for refund in self.refunds}

    def note(self, action: str, before: str | None, after: str) -> None:
        """Write a line of the history."""
        line = OrderHistory(action=action, from_state=before, to_state=after)
        line.actor, line.at = provenance.actor.get(), clock.now()
        self.history.append(line)


class OrderItem(Audited, Base):
    """A line of an order: `total` is `quantity` times `unit_price`. No two have the same variant.

    The variant cannot be deleted while somebody has bought it; its name, SKU and price may change.
    """

    __tablename__ = "order_items"
    __table_args__ = (
        UniqueConstraint("order_id", "variant_id"),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("total = quantity * unit_price", name="total"),
        Index(None, "variant_id"),
        Index(None, "product_id", "order_id"),
        TABLE_OPTIONS,
    )
    audit_noun = "order_item"

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(BigId, ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(BigInteger)
    variant_id: Mapped[int] = mapped_column(BigId, ForeignKey("variants.id"))
    sku: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(401))
    quantity: Mapped[int] = mapped_column(Integer)
    unit_price: Mapped[Amount]
    total: Mapped[Amount]


class OrderHistory(Base):
    """One line of an order's history; never changed."""

    __tablename__ = "order_history"
    __table_args__ = (Index(None, "order_id"), TABLE_OPTIONS)

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(BigId, ForeignKey("orders.id"))
    at: Mapped[Instant]
    actor: Mapped[str | None] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(20))
    from_state: Mapped[str | None] = mapped_column(String(20))
    to_state: Mapped[str] = mapped_column(String(20))


class Payment(Audited, Base):
    """An attempt to pay an order. It is there, pending, before the provider hears of it.

    `reference` names it to the provider, which makes one payment of it however often it is asked.
    `request_key` is a digest of the Idempotency-Key that it came with.
    """

    __tablename__ = "payments"
    __table_args__ = (
        UniqueConstraint("order_id", "request_key"),
        one_of("status", PAYMENTS),
        CheckConstraint("amount > 0", name="amount"),
        TABLE_OPTIONS,
    )
    audit_noun = "payment"
    audit_secret = frozenset({"request_key"})

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(BigId, ForeignKey("orders.id"))
    provider: Mapped[str] = mapped_column(String(20))
    reference: Mapped[str] = mapped_column(String(40), unique=True)
    request_key: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(20), default="pending")
    amount: Mapped[Amount]
    currency: Mapped[CurrencyCode]
    detail: Mapped[str | None] = mapped_column(String(200))
    action_url: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)

    @property
    def is_open(self) -> bool:
        """Whether the provider has not said how it ended."""
        return self.status in OPEN_PAYMENTS


class PaymentEvent(Base):
    """What a provider said, once each; never changed. `amount` is the money that it moved."""

    __tablename__ = "payment_events"
    __table_args__ = (
        UniqueConstraint("provider", "event_id"),
        Index(None, "payment_id"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    provider: Mapped[str] = mapped_column(String(20))
    event_id: Mapped[str] = mapped_column(String(100))
    payment_id: Mapped[int] = mapped_column(BigId, ForeignKey("payments.id"))
    kind: Mapped[str] = mapped_column(String(40))
    amount: Mapped[Amount]
    created_at: Mapped[Instant] = mapped_column(default=clock.now)


class Refund(Audited, Base):
    """Money that goes back from a payment; claimed from its order before the provider hears."""

    __tablename__ = "refunds"
    __table_args__ = (
        UniqueConstraint("order_id", "request_key"),
        one_of("status", REFUNDS),
        CheckConstraint("amount > 0", name="amount"),
        Index(None, "payment_id"),
        Index(None, "status", "id"),
        TABLE_OPTIONS,
    )
    audit_noun = "refund"
    audit_secret = frozenset({"request_key"})

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(BigId, ForeignKey("orders.id"))
    payment_id: Mapped[int] = mapped_column(BigId, ForeignKey("payments.id"))
    reference: Mapped[str] = mapped_column(String(40), unique=True)
    request_key: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(20), default="pending")
    amount: Mapped[Amount]
    currency: Mapped[CurrencyCode]
    reason: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[Instant] = mapped_column(default=clock.now)
    updated_at: Mapped[Instant] = mapped_column(default=clock.now, onupdate=clock.now)


class Shipment(Audited, Base):
    """A parcel on its way, and when it arrived."""

    __tablename__ = "shipments"
    __table_args__ = (Index(None, "order_id"), Index(None, "delivered_at"), TABLE_OPTIONS)
    audit_noun = "shipment"

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(BigId, ForeignKey("orders.id"))
    carrier: Mapped[str | None] = mapped_column(String(100))
    tracking: Mapped[str | None] = mapped_column(String(100))
    shipped_at: Mapped[Instant]
    delivered_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


def shipping_columns(address: Any) -> dict[str, Any]:
    """The columns of an order for an address: a mapping, or an entry of an address book."""
    read = address.get if isinstance(address, dict) else lambda name: getattr(address, name)
    return {f"shipping_{name}": read(name) for name in ADDRESS}
