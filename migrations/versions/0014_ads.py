"""Ads, their events, and the sums of those by the hour and by the day."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from migrations.steps import big_id, create_index, create_table, drop_table, instant

revision = "0014"
down_revision = "0013"

_digest = sa.LargeBinary(12).with_variant(mysql.BINARY(12), "mysql", "mariadb")
_COUNTS = (
    "impressions", "clicks", "impressions_bot", "impressions_prefetch", "impressions_closed",
    "clicks_repeat", "clicks_bot", "clicks_prefetch", "clicks_closed", "clicks_invalid",
)  # fmt: skip


def upgrade() -> None:
    _create_ads()
    _create_events()
    create_table(
        "ad_hours",
        sa.Column("hour", instant, nullable=False),
        sa.Column("computed_at", instant, nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("pruned", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("hour", name="pk_ad_hours"),
    )
    create_table(
        "ad_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("starts_at", instant, nullable=False),
        sa.Column("ends_at", instant, nullable=False),
        sa.Column("computed_at", instant, nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_ad_days"),
    )
    create_index("ix_ad_days_starts_at", "ad_days", ["starts_at"])
    _create_stats("ad_stats_hourly", "hour", instant)
    _create_stats("ad_stats_daily", "day", sa.Date())


def downgrade() -> None:
    for table in (
        "ad_stats_daily", "ad_stats_hourly", "ad_days", "ad_hours", "ad_late_events", "ad_events",
        "ads",
    ):  # fmt: skip
        drop_table(table)


def _create_ads() -> None:
    create_table(
        "ads",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("placement", sa.String(64), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("image_url", sa.String(2000), nullable=True),
        sa.Column("product_id", big_id, nullable=True),
        sa.Column("target_url", sa.String(2000), nullable=False),
        sa.Column("starts_at", instant, nullable=True),
        sa.Column("ends_at", instant, nullable=True),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('draft', 'active', 'paused', 'archived')", name="ck_ads_status"
        ),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_ads_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ads"),
    )
    for columns in (["placement", "status", "id"], ["status", "id"], ["product_id"]):
        create_index(f"ix_ads_{'_'.join(columns)}", "ads", columns)


def _create_events() -> None:
    create_table(
        "ad_events",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("ad_id", big_id, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("occurred_at", instant, nullable=False),
        sa.Column("event_key", _digest, nullable=True),
        sa.Column("claim", _digest, nullable=True),
        sa.Column("token_key", _digest, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_ad_events"),
    )
    for column in ("event_key", "claim", "token_key"):
        create_index(f"uq_ad_events_{column}", "ad_events", [column], unique=True)
    create_index(
        "ix_ad_events_occurred_at_ad_id_kind_state",
        "ad_events",
        ["occurred_at", "ad_id", "kind", "state"],
    )
    create_table(
        "ad_late_events",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("hour", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ad_late_events"),
    )
    create_index("ix_ad_late_events_hour", "ad_late_events", ["hour"])


def _create_stats(table: str, bucket: str, kind: Any) -> None:
    create_table(
        table,
        sa.Column(bucket, kind, nullable=False),
        sa.Column("ad_id", big_id, autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint(bucket, "ad_id", name=f"pk_{table}"),
    )
    create_index(f"ix_{table}_ad_id_{bucket}", table, ["ad_id", bucket])
