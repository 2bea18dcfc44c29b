"""Runs that wait or were skipped, with the reason; jobs that are switched off."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.steps import (
    add_column,
    change_check,
    create_table,
    drop_column,
    drop_table,
    instant,
    make_nullable,
    make_required,
    step,
)

revision = "0012"
down_revision = "0011"

_CHECK = "ck_job_runs_status"


def upgrade() -> None:
    add_column("job_runs", sa.Column("reason", sa.String(20), nullable=True))
    add_column("job_runs", sa.Column("due_ms", sa.BigInteger(), nullable=True))
    add_column("job_runs", sa.Column("ordered_by", sa.String(100), nullable=True))
    make_nullable("job_runs", "started_at", instant)
    change_check(
        "job_runs", _CHECK, "status IN ('waiting', 'running', 'done', 'failed', 'skipped')"
    )
    create_table(
        "job_states",
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("known_since", instant, nullable=False),
        sa.Column("changed_by", sa.String(100), nullable=True),
        sa.Column("changed_at", instant, nullable=True),
        sa.PrimaryKeyConstraint("job", name="pk_job_states"),
    )


def downgrade() -> None:
    drop_table("job_states")
    _forget_what_never_ran()
    change_check("job_runs", _CHECK, "status IN ('running', 'done', 'failed')")
    make_required("job_runs", "started_at", instant)
    for name in ("ordered_by", "due_ms", "reason"):
        drop_column("job_runs", name)


@step
def _forget_what_never_ran() -> None:
    op.execute("DELETE FROM job_totals WHERE status IN ('waiting', 'skipped')")
    op.execute("DELETE FROM job_runs WHERE status IN ('waiting', 'skipped') OR started_at IS NULL")
