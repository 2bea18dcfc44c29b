"""Accounts, catalogue, audit log, leases and job runs."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.steps import (
    big_id,
    create_index,
    create_table,
    drop_table,
    insert_once,
    instant,
    long_text,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    _create_accounts()
    _create_catalogue()
    _create_audit_log()
    _create_jobs()


def downgrade() -> None:
    for table in (
        "job_runs", "leases", "audit_sinks", "audit_head", "audit_log",
        "stock_levels", "variants", "products", "users",
    ):  # fmt: skip
        drop_table(table)


def _create_accounts() -> None:
    create_table(
        "users",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('customer', 'staff', 'admin')", name="ck_users_role"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )


def _create_catalogue() -> None:
    create_table(
        "products",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("slug", sa.String(220), nullable=False),
        sa.Column("description", long_text, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('draft', 'active', 'archived')", name="ck_products_status"),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
        sa.UniqueConstraint("slug", name="uq_products_slug"),
    )
    create_index("ix_products_status_id", "products", ["status", "id"])
    create_table(
        "variants",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("product_id", big_id, nullable=False),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("price_amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("price_amount >= 0", name="ck_variants_price_amount"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_variants_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_variants"),
        sa.UniqueConstraint("sku", name="uq_variants_sku"),
    )
    create_index("ix_variants_product_id", "variants", ["product_id"])
    create_table(
        "stock_levels",
        sa.Column("variant_id", big_id, autoincrement=False, nullable=False),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("on_hand >= 0", name="ck_stock_levels_on_hand"),
        sa.ForeignKeyConstraint(["variant_id"], ["variants.id"], name="fk_stock_levels_variant_id"),
        sa.PrimaryKeyConstraint("variant_id", name="pk_stock_levels"),
    )


def _create_audit_log() -> None:
    create_table(
        "audit_log",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("event_id", sa.String(26), nullable=False),
        sa.Column("table_name", sa.String(64), nullable=False),
        sa.Column("row_id", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(10), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("data", long_text, nullable=False),
        sa.Column("actor", sa.String(100), nullable=True),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.Column("created_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sa.UniqueConstraint("event_id", name="uq_audit_log_event_id"),
        sa.UniqueConstraint(
            "table_name", "row_id", "sequence", name="uq_audit_log_table_name_row_id_sequence"
        ),
    )
    create_index("uq_audit_log_position", "audit_log", ["position"], unique=True)
    create_table(
        "audit_head",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    insert_once("audit_head", "id", {"id": 1, "position": 0})
    create_table(
        "audit_sinks",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_audit_sinks"),
    )


def _create_jobs() -> None:
    create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    create_table(
        "job_runs",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("slot", sa.String(20), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("heartbeat_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_at", instant, nullable=False),
        sa.Column("finished_at", instant, nullable=True),
        sa.Column("error", long_text, nullable=True),
        sa.CheckConstraint("status IN ('running', 'done', 'failed')", name="ck_job_runs_status"),
        sa.PrimaryKeyConstraint("id", name="pk_job_runs"),
        sa.UniqueConstraint("job", "slot", name="uq_job_runs_job_slot"),
    )
    create_index("ix_job_runs_status_heartbeat_ms", "job_runs", ["status", "heartbeat_ms"])
