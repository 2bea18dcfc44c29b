"""Questions about reviews."""

from __future__ import annotations

from sqlalchemy import Select, func, select

from shop.keyset import Order
from shop.products.models import Product, ProductRating
from shop.reviews.models import Review, ReviewReport, ReviewVote

#: Orders of a list, each falling.
ORDERS = {
    "newest": Order((Review.id,), (int,)),
    "helpful": Order((Review.helpful_count, Review.id), (int, int)),
    "rating": Order((Review.rating, Review.id), (int, int)),
}


def of_product(
    product_id: int, order: Order, after: tuple[int, ...] | None, limit: int
) -> Select[Review]:
    """Approved reviews of a product in one of `ORDERS`, behind the key `after`."""
    found = select(Review).where(Review.product_id == product_id, Review.status == "approved")
    return _page(found, order, after, limit)


def of_status(status: str, after: tuple[int, ...] | None, limit: int) -> Select[Review]:
    """Reviews in a state of moderation, newest first."""
    return _page(select(Review).where(Review.status == status), ORDERS["newest"], after, limit)


def _page(
    found: Select[Review], order: Order, after: tuple[int, ...] | None, limit: int
) -> Select[Review]:
    if after is not None:
        found = found.where(order.behind(after))
    return found.order_by(*order.by()).limit(limit)


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


def by_user_of(user_id: int, product_id: int) -> Select[Review]:
    """What a user wrote of a product, under a lock, as it is now."""
    return (
        select(Review)
        .where(Review.user_id == user_id, Review.product_id == product_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


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
