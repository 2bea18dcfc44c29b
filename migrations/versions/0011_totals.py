"""Troubles of sinks, and how many runs of each job ended how."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.steps import create_table, drop_table, instant, step

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    create_table(
        "audit_troubles",
        sa.Column("sink", sa.String(32), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("parked", sa.BigInteger(), nullable=False),
        sa.Column("since", instant, nullable=True),
        sa.Column("reason", sa.String(300), nullable=False),
        sa.PrimaryKeyConstraint("sink", name="pk_audit_troubles"),
    )
    create_table(
        "job_totals",
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job", "status", name="pk_job_totals"),
    )
    _count_what_is_there()


@step
def _count_what_is_there() -> None:
    """The runs that are not forgotten yet; once, while nothing is counted."""
    op.execute(
        """
        INSERT INTO job_totals (job, status, runs)
        SELECT r.job, r.status, COUNT(*) FROM job_runs r
        WHERE r.status <> 'running'
          AND NOT EXISTS (SELECT 1 FROM job_totals t)
        GROUP BY r.job, r.status
        """
    )


def downgrade() -> None:
    drop_table("job_totals")
    drop_table("audit_troubles")
