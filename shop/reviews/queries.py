"""Questions about reviews."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from shop.products.models import Product, ProductRating
from shop.reviews.models import Review, ReviewReport, ReviewVote

#: Orders of a list: the columns, each falling, the last one the id.
ORDERS: dict[str, tuple[Any, ...]] = {
    "newest": (Review.id,),
    "helpful": (Review.helpful_count, Review.id),
    "rating": (Review.rating, Review.id),
}


def of_product(
    product_id: int, sort: str, after: tuple[int, ...] | None, limit: int
) -> Select[Review]:
    """Approved reviews of a product in one of `ORDERS`, behind the key `after`."""
    found = select(Review).where(Review.product_id == product_id, Review.status == "approved")
    return _ordered(found, ORDERS[sort], after).limit(limit)


def of_status(status: str, after: tuple[int, ...] | None, limit: int) -> Select[Review]:
    """Reviews in a state of moderation, newest first."""
    found = select(Review).where(Review.status == status)
    return _ordered(found, ORDERS["newest"], after).limit(limit)


def _ordered(
    found: Select[Review], columns: tuple[Any, ...], after: tuple[int, ...] | None
) -> Select[Review]:
    if after is not None:
        found = found.where(_behind(columns, after))
    return found.order_by(*(column.desc() for column in columns))


def _behind(columns: tuple[Any, ...], key: tuple[int, ...]) -> ColumnElement[bool]:
    # Not a row comparison: MariaDB would not use its index for it.
    column, value = columns[0], key[0]
    if len(columns) == 1:
        return column < value  # type: ignore[no-any-return]
    return and_(column <= value, or_(column < value, _behind(columns[1:], key[1:])))


def for_change(review_id: int) -> Select[Review]:
    """A review under a lock, as it is now."""
    return (
        select(Review)
        .where(Review.id == review_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def with_status_of_product(review_id: int) -> Select[Review, str]:
    """A review, and whether its product is shown."""
    return (
        select(Review, Product.status)
        .join(Product, Product.id == Review.product_id)
        .where(Review.id == review_id)
    )


def product_of(review_id: int) -> Select[int]:
    """The product that a review is of."""
    return select(Review.product_id).where(Review.id == review_id)


def lock_product(product_id: int) -> Select[int, str]:
    """Id and status of a product under a lock: whoever changes its ratings waits in line."""
    return select(Product.id, Product.status).where(Product.id == product_id).with_for_update()


def rating_of(product_id: int) -> Select[ProductRating]:
    """The ratings of a product as they are now."""
    return (
        select(ProductRating)
        .where(ProductRating.product_id == product_id)
        .execution_options(populate_existing=True)
    )


def by_user(user_id: int) -> Select[Review]:
    """What a user wrote, under a lock."""
    return select(Review).where(Review.user_id == user_id).order_by(Review.id).with_for_update()


def vote(review_id: int, user_id: int) -> Select[ReviewVote]:
    """A user's vote for a review."""
    return select(ReviewVote).where(
        ReviewVote.review_id == review_id, ReviewVote.user_id == user_id
    )


def votes_by(user_id: int) -> Select[ReviewVote]:
    """All votes of a user."""
    return select(ReviewVote).where(ReviewVote.user_id == user_id).order_by(ReviewVote.review_id)


def reports_by(user_id: int) -> Select[ReviewReport]:
    """All reports of a user."""
    return select(ReviewReport).where(ReviewReport.user_id == user_id)


def counted() -> Select[int, int, int]:
    """Product, stars and number of its approved reviews with so many: what ratings must say."""
    return (
        select(Review.product_id, Review.rating, func.count())
        .where(Review.status == "approved")
        .group_by(Review.product_id, Review.rating)
    )
