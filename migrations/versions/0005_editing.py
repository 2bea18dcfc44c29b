"""Publication at a time, references, former slugs, attribute definitions, prices of the past."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.steps import (
    add_column,
    big_id,
    create_index,
    create_table,
    drop_column,
    drop_index,
    drop_table,
    instant,
)

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    add_column("products", sa.Column("publish_at", instant, nullable=True))
    create_index("ix_products_publish_at", "products", ["publish_at"])
    add_column("variants", sa.Column("prior_price_amount", sa.BigInteger(), nullable=True))
    for table in ("products", "variants"):
        add_column(table, sa.Column("external_reference", sa.String(100), nullable=True))
        # Null is what products of before have, and the same as {}: JSON can have no default.
        add_column(table, sa.Column("public_metadata", sa.JSON(), nullable=True))
        key = f"uq_{table}_external_reference"
        create_index(key, table, ["external_reference"], unique=True)
    _create_definitions()
    create_table(
        "product_slugs",
        sa.Column("slug", sa.String(220), nullable=False),
        sa.Column("product_id", big_id, nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_product_slugs_product_id"
        ),
        sa.PrimaryKeyConstraint("slug", name="pk_product_slugs"),
    )
    create_index("ix_product_slugs_product_id", "product_slugs", ["product_id"])
    create_table(
        "price_changes",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("variant_id", sa.BigInteger(), nullable=False),
        sa.Column("price_amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("from_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_price_changes"),
    )
    create_index("ix_price_changes_variant_id_id", "price_changes", ["variant_id", "id"])
    _open_the_history()


def _create_definitions() -> None:
    create_table(
        "attribute_definitions",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("code", sa.String(40), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("unit", sa.String(20), nullable=True),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('text', 'integer', 'boolean', 'choice')",
            name="ck_attribute_definitions_kind",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_attribute_definitions"),
        sa.UniqueConstraint("code", name="uq_attribute_definitions_code"),
    )


def _open_the_history() -> None:
    """What a variant costs now is the first price that is known of it: nobody knows since when."""
    op.execute(
        "INSERT INTO price_changes (variant_id, price_amount, currency, from_at)"
        " SELECT v.id, v.price_amount, v.currency, CURRENT_TIMESTAMP"
        " FROM variants v LEFT JOIN price_changes p ON p.variant_id = v.id"
        " WHERE p.id IS NULL"
    )


def downgrade() -> None:
    for table in ("price_changes", "product_slugs", "attribute_definitions"):
        drop_table(table)
    for table in ("variants", "products"):
        drop_index(f"uq_{table}_external_reference", table)
        drop_column(table, "external_reference")
        drop_column(table, "public_metadata")
    drop_column("variants", "prior_price_amount")
    drop_index("ix_products_publish_at", "products")
    drop_column("products", "publish_at")
