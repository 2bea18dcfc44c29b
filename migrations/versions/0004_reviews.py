"""Reviews, votes, reports, ratings."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.steps import (
    big_id,
    create_index,
    create_table,
    drop_table,
    instant,
    long_text,
)

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _create_reviews()
    _create_marks("review_votes")
    _create_marks("review_reports", sa.Column("reason", sa.String(500), nullable=False))
    stars = [sa.Column(f"stars_{n}", sa.Integer(), nullable=False) for n in range(1, 6)]
    create_table(
        "product_ratings",
        sa.Column("product_id", big_id, autoincrement=False, nullable=False),
        *stars,
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_product_ratings_product_id"
        ),
        sa.PrimaryKeyConstraint("product_id", name="pk_product_ratings"),
    )


def downgrade() -> None:
    for table in ("product_ratings", "review_reports", "review_votes", "reviews"):
        drop_table(table)


def _create_reviews() -> None:
    create_table(
        "reviews",
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("product_id", big_id, nullable=False),
        sa.Column("user_id", big_id, nullable=True),
        sa.Column("author", sa.String(100), nullable=False),
        sa.Column("rating", sa.SmallInteger(), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("text", long_text, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("reply", long_text, nullable=True),
        sa.Column("replied_at", instant, nullable=True),
        sa.Column("helpful_count", sa.Integer(), nullable=False),
        sa.Column("report_count", sa.Integer(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name="ck_reviews_rating"),
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'rejected')", name="ck_reviews_status"
        ),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_reviews_product_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_reviews_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_reviews"),
        sa.UniqueConstraint("product_id", "user_id", name="uq_reviews_product_id_user_id"),
    )
    for columns in (
        ["product_id", "status", "id"],
        ["product_id", "status", "helpful_count", "id"],
        ["product_id", "status", "rating", "id"],
        ["status", "id"],
        ["user_id"],
    ):
        create_index(f"ix_reviews_{'_'.join(columns)}", "reviews", columns)


def _create_marks(table: str, *more: sa.Column[str]) -> None:
    """What users say of reviews, once each."""
    create_table(
        table,
        sa.Column("id", big_id, autoincrement=True, nullable=False),
        sa.Column("review_id", big_id, nullable=False),
        sa.Column("user_id", big_id, nullable=False),
        *more,
        sa.Column("created_at", instant, nullable=False),
        sa.ForeignKeyConstraint(["review_id"], ["reviews.id"], name=f"fk_{table}_review_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=f"fk_{table}_user_id"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("review_id", "user_id", name=f"uq_{table}_review_id_user_id"),
    )
    create_index(f"ix_{table}_user_id", table, ["user_id"])
