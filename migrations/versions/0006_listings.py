"""What lists, filters and search look at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.steps import (
    big_id,
    create_fulltext_index,
    create_index,
    create_table,
    drop_fulltext_index,
    drop_table,
    long_text,
)

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    _create_listings()
    _create_attributes()
    create_fulltext_index("product_listings", "words", key="product_id", search="product_search")
    _list_what_is_there()


def downgrade() -> None:
    drop_fulltext_index("product_search")
    drop_table("listed_attributes")
    drop_table("product_listings")


def _create_listings() -> None:
    create_table(
        "product_listings",
        sa.Column("product_id", big_id, autoincrement=False, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("category_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("price_from", sa.BigInteger(), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("stocked_variants", sa.Integer(), nullable=False),
        sa.Column("words", long_text, nullable=False),
        sa.Column("words_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_product_listings_product_id"
        ),
        sa.PrimaryKeyConstraint("product_id", name="pk_product_listings"),
    )
    filters = ["price_from", "stocked_variants", "category_id"]
    for column in ("product_id", "price_from", "name", "rating"):
        order = list(dict.fromkeys([column, "product_id", *filters]))
        _create_index(f"all_{column}", ["status", *order])
        of_category = [name for name in order if name != "category_id"]
        _create_index(f"category_{column}", ["category_id", "status", *of_category])
    _create_index("status_stocked_variants", ["status", "stocked_variants"])
    _create_index("words_version", ["words_version"])


def _create_index(name: str, columns: list[str]) -> None:
    create_index(f"ix_product_listings_{name}", "product_listings", columns)


def _create_attributes() -> None:
    create_table(
        "listed_attributes",
        sa.Column("code", sa.String(40), nullable=False),
        sa.Column("value", sa.String(200), nullable=False),
        sa.Column("product_id", big_id, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_listed_attributes_product_id"
        ),
        sa.PrimaryKeyConstraint("code", "value", "product_id", name="pk_listed_attributes"),
    )
    create_index("ix_listed_attributes_product_id", "listed_attributes", ["product_id"])


def _list_what_is_there() -> None:
    """All but words and attributes; version 0 has them made by the job, soon after the start."""
    stars = "(r.stars_1 + r.stars_2 + r.stars_3 + r.stars_4 + r.stars_5)"
    points = "(r.stars_1 + 2 * r.stars_2 + 3 * r.stars_3 + 4 * r.stars_4 + 5 * r.stars_5)"
    average = f"CASE WHEN {stars} > 0 THEN ROUND(100.0 * {points} / {stars}) ELSE 0 END"
    op.execute(
        f"""
        INSERT INTO product_listings (product_id, status, category_id, name, price_from, rating,
                                      stocked_variants, words, words_version)
        SELECT p.id, p.status, p.category_id, LOWER(SUBSTR(p.name, 1, 100)), v.price_from,
               COALESCE((SELECT {average} FROM product_ratings r WHERE r.product_id = p.id), 0),
               v.stocked, '', 0
        FROM products p
        JOIN (SELECT v.product_id, MIN(v.price_amount) AS price_from,
                     SUM(CASE WHEN s.on_hand > 0 THEN 1 ELSE 0 END) AS stocked
              FROM variants v JOIN stock_levels s ON s.variant_id = v.id
              GROUP BY v.product_id) v ON v.product_id = p.id
        WHERE NOT EXISTS (SELECT 1 FROM product_listings l WHERE l.product_id = p.id)
        """
    )
