"""The ledger of stock, categories, thresholds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.steps import (
    add_column,
    add_reference,
    big_id,
    create_index,
    create_table,
    drop_column,
    drop_reference,
    drop_table,
    instant,
)

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    create_table(
        "stock_movements",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("variant_id", sa.BigInteger(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(100), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.String(100), nullable=True),
        sa.Column("created_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stock_movements"),
    )
    create_index("ix_stock_movements_variant_id_id", "stock_movements", ["variant_id", "id"])
    create_index("ix_stock_movements_order_id", "stock_movements", ["order_id"])
    _open_the_ledger()
    add_column("variants", sa.Column("low_stock_threshold", sa.BigInteger(), nullable=True))
    _create_categories()


def _open_the_ledger() -> None:
    """What is there already becomes the first movement of its variant, once."""
    op.execute(
        "INSERT INTO stock_movements (variant_id, delta, on_hand, reason, created_at)"
        " SELECT s.variant_id, s.on_hand, s.on_hand, 'initial', CURRENT_TIMESTAMP"
        " FROM stock_levels s LEFT JOIN stock_movements m ON m.variant_id = s.variant_id"
        " WHERE m.id IS NULL"
    )


def _create_categories() -> None:
    create_table(
        "categories",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("parent_id", big_id, nullable=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("slug", sa.String(220), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["categories.id"], name="fk_categories_parent_id"),
        sa.PrimaryKeyConstraint("id", name="pk_categories"),
        sa.UniqueConstraint("slug", name="uq_categories_slug"),
    )
    create_index("ix_categories_parent_id", "categories", ["parent_id"])
    add_reference("products", "category_id", "categories")
    create_index("ix_products_category_id_id", "products", ["category_id", "id"])


def downgrade() -> None:
    drop_reference("products", "category_id", "ix_products_category_id_id")
    drop_table("categories")
    drop_column("variants", "low_stock_threshold")
    drop_table("stock_movements")
