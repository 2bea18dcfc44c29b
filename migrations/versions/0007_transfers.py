"""Imports and exports of products."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from migrations.steps import big_id, create_index, create_table, drop_table, instant, long_text

revision = "0007"
down_revision = "0006"

_STATUS = "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')"


def upgrade() -> None:
    _create_transfers(
        "product_imports",
        sa.Column("policy", sa.String(20), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("checking", sa.Boolean(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("faults", sa.BigInteger(), nullable=False),
        sa.Column("preview", sa.JSON(), nullable=False),
    )
    create_index("ix_product_imports_digest", "product_imports", ["digest"])
    create_table(
        "product_import_faults",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("import_id", big_id, nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("pointer", sa.String(200), nullable=False),
        sa.Column("message", sa.String(500), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"], ["product_imports.id"], name="fk_product_import_faults_import_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_product_import_faults"),
    )
    create_index(
        "ix_product_import_faults_import_id_id", "product_import_faults", ["import_id", "id"]
    )
    _create_transfers(
        "product_exports",
        sa.Column("product_status", sa.String(10), nullable=True),
        sa.Column("category_id", sa.BigInteger(), nullable=True),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    for table in ("product_exports", "product_import_faults", "product_imports"):
        drop_table(table)


def _create_transfers(table: str, *own: sa.Column[Any]) -> None:
    create_table(
        table,
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("format", sa.String(5), nullable=False),
        sa.Column("file", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("rows_total", sa.BigInteger(), nullable=True),
        sa.Column("rows_done", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(100), nullable=True),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("claim", sa.String(32), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", long_text, nullable=True),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("finished_at", instant, nullable=True),
        *own,
        sa.CheckConstraint(_STATUS, name=f"ck_{table}_status"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    )
    create_index(f"ix_{table}_status_due_ms", table, ["status", "due_ms"])
