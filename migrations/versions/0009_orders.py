"""Orders, their lines, payments, refunds, shipments and history."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.steps import big_id, create_index, create_table, drop_table, instant

revision = "0009"
down_revision = "0008"

_MONEY = (
    "subtotal", "discount_total", "shipping_total", "tax_total", "total", "paid_total",
    "refunding_total", "refunded_total",
)  # fmt: skip
_STATUS = "status IN ('placed', 'completed', 'cancelled')"
_PAYMENT_STATUS = (
    "payment_status IN ('unpaid', 'pending', 'paid', 'failed', 'partially_refunded', 'refunded')"
)
_FULFILMENT_STATUS = (
    "fulfilment_status IN ('unfulfilled', 'partially_shipped', 'shipped', 'delivered', 'returned')"
)


def upgrade() -> None:
    _create_orders()
    _create_items()
    _create_history()
    _create_payments()
    _create_refunds()
    _create_shipments()


def downgrade() -> None:
    for table in (
        "shipments", "refunds", "payment_events", "payments", "order_history", "order_items",
        "orders",
    ):  # fmt: skip
        drop_table(table)


def _text(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _amount(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _id() -> sa.Column[int]:
    return sa.Column("id", big_id, autoincrement=True, nullable=False)


def _of_order() -> sa.Column[int]:
    return sa.Column("order_id", big_id, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, instant, nullable=nullable)


def _key(table: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def _to_order(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=f"fk_{table}_order_id")


def _create_orders() -> None:
    create_table(
        "orders",
        _id(),
        _text("number", 20),
        sa.Column("user_id", big_id, nullable=True),
        _text("email", 254),
        *(_text(name, 20) for name in ("status", "payment_status", "fulfilment_status")),
        _text("currency", 3),
        *(_amount(name) for name in _MONEY),
        _text("shipping_name", 200),
        _text("shipping_line1", 200),
        _text("shipping_line2", 200, nullable=True),
        _text("shipping_city", 100),
        _text("shipping_region", 100, nullable=True),
        _text("shipping_postal_code", 20),
        _text("shipping_country", 2),
        _text("shipping_phone", 30, nullable=True),
        _time("expires_at", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _amount("version"),
        sa.CheckConstraint(
            "total = subtotal - discount_total + shipping_total + tax_total",
            name="ck_orders_total",
        ),
        sa.CheckConstraint(
            "subtotal >= 0 AND discount_total >= 0 AND shipping_total >= 0 AND tax_total >= 0"
            " AND total >= 0",
            name="ck_orders_totals",
        ),
        sa.CheckConstraint(
            "refunded_total >= 0 AND refunding_total >= 0"
            " AND refunded_total + refunding_total <= paid_total",
            name="ck_orders_refunded_total",
        ),
        sa.CheckConstraint(_STATUS, name="ck_orders_status"),
        sa.CheckConstraint(_PAYMENT_STATUS, name="ck_orders_payment_status"),
        sa.CheckConstraint(_FULFILMENT_STATUS, name="ck_orders_fulfilment_status"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_orders_user_id"),
        _key("orders"),
        sa.UniqueConstraint("number", name="uq_orders_number"),
    )
    create_index("ix_orders_user_id_id", "orders", ["user_id", "id"])
    create_index("ix_orders_status_expires_at", "orders", ["status", "expires_at"])
    create_index(
        "ix_orders_payment_status_fulfilment_status_id",
        "orders",
        ["payment_status", "fulfilment_status", "id"],
    )


def _create_items() -> None:
    create_table(
        "order_items",
        _id(),
        _of_order(),
        _amount("product_id"),
        sa.Column("variant_id", big_id, nullable=False),
        _text("sku", 64),
        _text("name", 401),
        sa.Column("quantity", sa.Integer(), nullable=False),
        _amount("unit_price"),
        _amount("total"),
        _amount("version"),
        sa.CheckConstraint("quantity > 0", name="ck_order_items_quantity"),
        sa.CheckConstraint("total = quantity * unit_price", name="ck_order_items_total"),
        _to_order("order_items"),
        sa.ForeignKeyConstraint(["variant_id"], ["variants.id"], name="fk_order_items_variant_id"),
        _key("order_items"),
        sa.UniqueConstraint("order_id", "variant_id", name="uq_order_items_order_id_variant_id"),
    )
    create_index("ix_order_items_variant_id", "order_items", ["variant_id"])
    create_index("ix_order_items_product_id_order_id", "order_items", ["product_id", "order_id"])


def _create_history() -> None:
    create_table(
        "order_history",
        _id(),
        _of_order(),
        _time("at"),
        _text("actor", 100, nullable=True),
        _text("action", 20),
        _text("from_state", 20, nullable=True),
        _text("to_state", 20),
        _to_order("order_history"),
        _key("order_history"),
    )
    create_index("ix_order_history_order_id", "order_history", ["order_id"])


def _create_payments() -> None:
    create_table(
        "payments",
        _id(),
        _of_order(),
        _text("provider", 20),
        _text("reference", 40),
        _text("request_key", 64, nullable=True),
        _text("status", 20),
        _amount("amount"),
        _text("currency", 3),
        _text("detail", 200, nullable=True),
        _text("action_url", 500, nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _amount("version"),
        sa.CheckConstraint(
            "status IN ('pending', 'requires_action', 'succeeded', 'failed')",
            name="ck_payments_status",
        ),
        sa.CheckConstraint("amount > 0", name="ck_payments_amount"),
        _to_order("payments"),
        _key("payments"),
        sa.UniqueConstraint("reference", name="uq_payments_reference"),
        sa.UniqueConstraint("order_id", "request_key", name="uq_payments_order_id_request_key"),
    )
    create_table(
        "payment_events",
        _id(),
        _text("provider", 20),
        _text("event_id", 100),
        sa.Column("payment_id", big_id, nullable=False),
        _text("kind", 40),
        _amount("amount"),
        _time("created_at"),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name="fk_payment_events_payment_id"
        ),
        _key("payment_events"),
        sa.UniqueConstraint("provider", "event_id", name="uq_payment_events_provider_event_id"),
    )
    create_index("ix_payment_events_payment_id", "payment_events", ["payment_id"])


def _create_refunds() -> None:
    create_table(
        "refunds",
        _id(),
        _of_order(),
        sa.Column("payment_id", big_id, nullable=False),
        _text("reference", 40),
        _text("request_key", 64, nullable=True),
        _text("status", 20),
        _amount("amount"),
        _text("currency", 3),
        _text("reason", 200),
        _time("created_at"),
        _time("updated_at"),
        _amount("version"),
        sa.CheckConstraint(
            "status IN ('pending', 'succeeded', 'failed')", name="ck_refunds_status"
        ),
        sa.CheckConstraint("amount > 0", name="ck_refunds_amount"),
        _to_order("refunds"),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name="fk_refunds_payment_id"),
        _key("refunds"),
        sa.UniqueConstraint("reference", name="uq_refunds_reference"),
        sa.UniqueConstraint("order_id", "request_key", name="uq_refunds_order_id_request_key"),
    )
    create_index("ix_refunds_payment_id", "refunds", ["payment_id"])
    create_index("ix_refunds_status_id", "refunds", ["status", "id"])


def _create_shipments() -> None:
    create_table(
        "shipments",
        _id(),
        _of_order(),
        _text("carrier", 100, nullable=True),
        _text("tracking", 100, nullable=True),
        _time("shipped_at"),
        _time("delivered_at", nullable=True),
        _amount("version"),
        _to_order("shipments"),
        _key("shipments"),
    )
    create_index("ix_shipments_order_id", "shipments", ["order_id"])
