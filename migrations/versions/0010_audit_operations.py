"""What sinks refused, what is sent again, seals over the log, and indexes for its readers."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.steps import (
    big_id,
    create_index,
    create_table,
    drop_index,
    drop_table,
    instant,
    long_text,
)

revision = "0010"
down_revision = "0009"

_INDEXES = {
    "ix_audit_log_table_name_id": ["table_name", "id"],
    "ix_audit_log_actor_id": ["actor", "id"],
    "ix_audit_log_created_at": ["created_at"],
}


def upgrade() -> None:
    for name, columns in _INDEXES.items():
        create_index(name, "audit_log", columns)
    _create_parked()
    _create_replays()
    _create_seals()


def downgrade() -> None:
    for table in ("audit_seals", "audit_replays", "audit_parked"):
        drop_table(table)
    for name in _INDEXES:
        drop_index(name, "audit_log")


def _id() -> sa.Column[int]:
    return sa.Column("id", big_id, autoincrement=True, nullable=False)


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, instant, nullable=nullable)


def _create_parked() -> None:
    create_table(
        "audit_parked",
        _id(),
        _text("sink", 32),
        _number("position"),
        _text("event_id", 26),
        _text("table_name", 64),
        _number("row_id"),
        _number("sequence"),
        _text("reason", 300),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        _text("state", 10),
        _time("parked_at"),
        _time("changed_at"),
        sa.CheckConstraint("state IN ('parked', 'requeued', 'sent')", name="ck_audit_parked_state"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_parked"),
        sa.UniqueConstraint("sink", "position", name="uq_audit_parked_sink_position"),
    )
    create_index(
        "ix_audit_parked_sink_state_position", "audit_parked", ["sink", "state", "position"]
    )
    create_index("ix_audit_parked_position", "audit_parked", ["position"])


def _create_replays() -> None:
    create_table(
        "audit_replays",
        _id(),
        _text("sink", 32),
        _number("from_position"),
        _number("to_position"),
        _number("next_position"),
        _time("created_at"),
        _time("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_replays"),
    )
    create_index("ix_audit_replays_sink_finished_at", "audit_replays", ["sink", "finished_at"])


def _create_seals() -> None:
    create_table(
        "audit_seals",
        _id(),
        _number("previous"),
        _number("through"),
        sa.Column("entries", sa.Integer(), nullable=False),
        _text("content", 64),
        _text("digest", 64),
        sa.Column("marks", long_text, nullable=False),
        _time("sealed_at"),
        _time("pruned_at", nullable=True),
        sa.CheckConstraint(
            "entries = through - previous AND entries > 0", name="ck_audit_seals_entries"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_audit_seals"),
        sa.UniqueConstraint("previous", name="uq_audit_seals_previous"),
        sa.UniqueConstraint("through", name="uq_audit_seals_through"),
    )
    create_index("ix_audit_seals_pruned_at_through", "audit_seals", ["pruned_at", "through"])
