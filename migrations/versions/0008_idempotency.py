"""Keys of requests that may be sent twice."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.steps import big_id, create_index, create_table, drop_table, instant, long_text

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    create_table(
        "idempotency_keys",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("caller", sa.String(100), nullable=False),
        sa.Column("operation", sa.String(200), nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("claim", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("headers", long_text, nullable=True),
        sa.Column("body", long_text, nullable=True),
        sa.Column("created_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_keys"),
        sa.UniqueConstraint(
            "caller",
            "operation",
            "idempotency_key",
            name="uq_idempotency_keys_caller_operation_idempotency_key",
        ),
    )
    create_index("ix_idempotency_keys_expires_ms", "idempotency_keys", ["expires_ms"])


def downgrade() -> None:
    drop_table("idempotency_keys")
