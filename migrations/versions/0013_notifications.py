"""Notifications, what people want to be told, messages of staff; cursors of internal readers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.steps import (
    big_id,
    create_index,
    create_table,
    drop_index,
    drop_table,
    insert_once,
    instant,
    long_text,
)
from shop import clock

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    _create_readers()
    _create_messages()
    _create_notifications()
    create_table(
        "notification_preferences",
        _id(),
        sa.Column("user_id", big_id, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("channel", sa.String(10), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "channel IN ('inbox', 'email')", name="ck_notification_preferences_channel"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_notification_preferences_user_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notification_preferences"),
        sa.UniqueConstraint(
            "user_id", "kind", "channel",
            name="uq_notification_preferences_user_id_kind_channel",
        ),
    )  # fmt: skip
    create_index("ix_shipments_delivered_at", "shipments", ["delivered_at"])


def downgrade() -> None:
    drop_index("ix_shipments_delivered_at", "shipments")
    for table in (
        "notification_preferences", "notifications", "notification_messages", "audit_readers",
    ):  # fmt: skip
        drop_table(table)


def _id() -> sa.Column[int]:
    return sa.Column("id", big_id, autoincrement=True, nullable=False)


def _create_readers() -> None:
    create_table(
        "audit_readers",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("began_behind", sa.BigInteger(), nullable=False),
        sa.Column("began_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_audit_readers"),
    )
    # Nobody is told of what was there before; what waits for its position will be next to get one.
    count = "SELECT COUNT(*) FROM audit_log WHERE position IS NULL"
    present = op.get_bind().execute(sa.text(f"SELECT position, ({count}) FROM audit_head")).first()
    position = sum(present) if present is not None else 0
    moment = clock.now().replace(tzinfo=None)
    row = {"position": position, "began_behind": position, "began_at": moment, "updated_at": moment}
    insert_once("audit_readers", "name", {"name": "notifications"} | row)


def _create_messages() -> None:
    create_table(
        "notification_messages",
        _id(),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("text", long_text, nullable=False),
        sa.Column("user_id", big_id, nullable=True),
        sa.Column("role", sa.String(10), nullable=True),
        sa.Column("actor", sa.String(100), nullable=True),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("through", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("finished_at", instant, nullable=True),
        sa.CheckConstraint("status IN ('sending', 'sent')", name="ck_notification_messages_status"),
        sa.CheckConstraint(
            "(user_id IS NULL) <> (role IS NULL)", name="ck_notification_messages_recipient"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_notification_messages_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_notification_messages"),
    )
    create_index("ix_notification_messages_status_id", "notification_messages", ["status", "id"])
    create_index("ix_notification_messages_user_id", "notification_messages", ["user_id"])


def _create_notifications() -> None:
    create_table(
        "notifications",
        _id(),
        sa.Column("user_id", big_id, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("key", sa.String(80), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("message_id", big_id, nullable=True),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("read_at", instant, nullable=True),
        sa.CheckConstraint("hidden = 0 OR read_at IS NOT NULL", name="ck_notifications_hidden"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_notifications_user_id"),
        sa.ForeignKeyConstraint(
            ["message_id"], ["notification_messages.id"], name="fk_notifications_message_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
        sa.UniqueConstraint("user_id", "key", name="uq_notifications_user_id_key"),
    )
    for columns in (["user_id", "hidden", "id"], ["user_id", "read_at"], ["message_id"]):
        create_index(f"ix_notifications_{'_'.join(columns)}", "notifications", columns)
