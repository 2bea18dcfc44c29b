"""Addresses, sessions, API keys, one-time tokens, outgoing mail, rate counters."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.steps import (
    add_column,
    big_id,
    create_index,
    create_table,
    drop_column,
    drop_index,
    drop_table,
    instant,
    long_text,
)

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    add_column("users", sa.Column("email_verified_at", instant, nullable=True))
    create_index("ix_users_role_id", "users", ["role", "id"])
    _create_addresses()
    _create_sessions()
    _create_api_keys()
    _create_one_time_tokens()
    _create_security_events()
    _create_outgoing_mail()
    _create_rate_counters()


def downgrade() -> None:
    for table in (
        "rate_counters", "outgoing_mails", "security_events", "one_time_tokens", "api_keys",
        "refresh_tokens", "sessions", "addresses",
    ):  # fmt: skip
        drop_table(table)
    drop_index("ix_users_role_id", "users")
    drop_column("users", "email_verified_at")


def _create_addresses() -> None:
    create_table(
        "addresses",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("user_id", big_id, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("line1", sa.String(200), nullable=False),
        sa.Column("line2", sa.String(200), nullable=True),
        sa.Column("city", sa.String(100), nullable=False),
        sa.Column("region", sa.String(100), nullable=True),
        sa.Column("postal_code", sa.String(20), nullable=False),
        sa.Column("country", sa.String(2), nullable=False),
        sa.Column("phone", sa.String(30), nullable=True),
        sa.Column("default_shipping", sa.Boolean(), nullable=False),
        sa.Column("default_billing", sa.Boolean(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_addresses_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_addresses"),
    )
    create_index("ix_addresses_user_id", "addresses", ["user_id"])


def _create_sessions() -> None:
    create_table(
        "sessions",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("user_id", big_id, nullable=False),
        sa.Column("user_agent", sa.String(200), nullable=False),
        sa.Column("address", sa.String(45), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("last_used_at", instant, nullable=False),
        sa.Column("expires_at", instant, nullable=False),
        sa.Column("ended_at", instant, nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    create_index("ix_sessions_user_id", "sessions", ["user_id"])
    create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    create_table(
        "refresh_tokens",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("session_id", big_id, nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("spent_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_refresh_tokens_session_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_refresh_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_refresh_tokens_token_hash"),
    )  # fmt: skip
    create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"])


def _create_api_keys() -> None:
    create_table(
        "api_keys",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("lookup", sa.String(16), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("expires_at", instant, nullable=True),
        sa.Column("last_used_at", instant, nullable=True),
        sa.Column("revoked_at", instant, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("lookup", name="uq_api_keys_lookup"),
    )


def _create_one_time_tokens() -> None:
    create_table(
        "one_time_tokens",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("user_id", big_id, nullable=False),
        sa.Column("purpose", sa.String(20), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("expires_at", instant, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_one_time_tokens_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_one_time_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_one_time_tokens_token_hash"),
        sa.UniqueConstraint("user_id", "purpose", name="uq_one_time_tokens_user_id_purpose"),
    )
    create_index("ix_one_time_tokens_expires_at", "one_time_tokens", ["expires_at"])


def _create_security_events() -> None:
    create_table(
        "security_events",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_security_events"),
    )
    create_index("ix_security_events_user_id", "security_events", ["user_id"])


def _create_outgoing_mail() -> None:
    create_table(
        "outgoing_mails",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("recipient", sa.String(254), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claim", sa.String(32), nullable=True),
        sa.Column("last_error", long_text, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outgoing_mails"),
    )
    create_index("ix_outgoing_mails_due_ms", "outgoing_mails", ["due_ms"])
    create_index("ix_outgoing_mails_created_at", "outgoing_mails", ["created_at"])


def _create_rate_counters() -> None:
    create_table(
        "rate_counters",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_rate_counters"),
    )
    create_index("ix_rate_counters_ends_ms", "rate_counters", ["ends_ms"])
