"""Values of attributes with what they are filtered and ordered by."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from migrations.steps import big_id, create_index, create_table, drop_table

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    _create("listed_values", "status", "price_from")
    _fill("listed_values", "listed_attributes", "status", "price_from")
    drop_table("listed_attributes")


def downgrade() -> None:
    _create("listed_attributes")
    _fill("listed_attributes", "listed_values")
    drop_table("listed_values")


def _create(table: str, *owned: str) -> None:
    kinds: dict[str, Any] = {"status": sa.String(10), "price_from": sa.BigInteger()}
    create_table(
        table,
        sa.Column("code", sa.String(40), nullable=False),
        sa.Column("value", sa.String(200), nullable=False),
        *(sa.Column(name, kinds[name], autoincrement=False, nullable=False) for name in owned),
        sa.Column("product_id", big_id, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name=f"fk_{table}_product_id"),
        sa.PrimaryKeyConstraint("code", "value", *owned, "product_id", name=f"pk_{table}"),
    )
    create_index(f"ix_{table}_product_id", table, ["product_id"])


def _fill(table: str, source: str, *owned: str) -> None:
    """Take over the rows of the table before, unless it is gone already or they are there."""
    if source not in sa.inspect(op.get_bind()).get_table_names():
        return
    names = ", ".join(["code", "value", *owned, "product_id"])
    op.execute(
        f"""
        INSERT INTO {table} ({names})
        SELECT DISTINCT s.code, s.value, {"".join(f"l.{name}, " for name in owned)} s.product_id
        FROM {source} s JOIN product_listings l ON l.product_id = s.product_id
        WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE t.product_id = s.product_id
                          AND t.code = s.code AND t.value = s.value)
        """
    )
