"""What happens to reviews. Ratings move in the same transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop import clock
from shop.db import is_duplicate
from shop.errors import Conflict, Forbidden, NotFound
from shop.orders.queries import has_delivered
from shop.products import listings
from shop.products.models import ProductRating
from shop.reviews import queries
from shop.reviews.models import Review, ReviewReport, ReviewVote


class AlreadyReviewed(Conflict):
    """A customer reviews a product once."""


class OwnReview(Forbidden):
    """Nobody votes for what he wrote himself."""


class NotOwnReview(Forbidden):
    """Somebody else wrote it."""


def write_review(
    session: Session, product_id: int, user_id: int, author: str, data: dict[str, Any]
) -> Review:
    """Write a review; it waits to be approved.

    Raises:
        NotFound: there is no such product, or it is not shown.
        AlreadyReviewed: this user has reviewed it.
    """
    product = session.execute(queries.lock_product(product_id)).first()
    if product is None or product.status != "active":
        raise NotFound("There is no such product.")
    review = Review(
        product_id=product_id, user_id=user_id, author=shown_name(author), status="pending",
        rating=data["rating"], title=data["title"], text=data["text"],
        verified=session.execute(has_delivered(user_id, product_id)).first() is not None,
    )  # fmt: skip
    session.add(review)
    try:
        session.flush()
    except IntegrityError as error:
        if is_duplicate(error, "reviews", "product_id", "user_id"):
            raise AlreadyReviewed("You have reviewed this product: change that review.") from error
        raise
    return review


def shown_name(name: str) -> str:
    """`Anna Larsson` signs as `Anna L.`"""
    first, *more = name.split()
    return f"{first} {more[-1][0]}."[:100] if more else first[:100]


def find_for_change(session: Session, review_id: int) -> Review:
    """The review with its product under a lock. Raises NotFound."""
    return find_with_status(session, review_id)[0]


def find_with_status(session: Session, review_id: int) -> tuple[Review, str]:
    """The review and the status of its product, both under a lock. Raises NotFound."""
    product_id = session.execute(queries.product_of(review_id)).scalar_one_or_none()
    if product_id is not None:
        product = session.execute(queries.lock_product(product_id)).first()
        review = session.execute(queries.for_change(review_id)).scalar_one_or_none()
        if product is not None and review is not None:
            return review, product.status
    raise NotFound(f"There is no review {review_id}.")


def change_review(session: Session, review: Review, changes: dict[str, Any]) -> None:
    """Change what was written; it waits to be approved again."""
    _count(session, review, -1)
    for field, value in changes.items():
        setattr(review, field, value)
    review.status = "pending"
    session.flush()


def moderate(session: Session, review: Review, status: str) -> None:
    """Approve or reject a review; both may be done again, and undone by the other."""
    if review.status != status:
        _count(session, review, -1)
        review.status = status
        _count(session, review, 1)
    session.flush()


def reply_to(session: Session, review: Review, text: str) -> None:
    """Answer a review in the shop's name; another answer takes the place of the first."""
    review.reply, review.replied_at = text, clock.now()
    session.flush()


def delete_review(session: Session, review: Review) -> None:
    """Delete a review with all that was said of it."""
    _count(session, review, -1)
    for model in (ReviewVote, ReviewReport):
        session.query(model).filter_by(review_id=review.id).delete(synchronize_session=False)
    session.delete(review)
    session.flush()


def vote_for(session: Session, review: Review, user_id: int) -> None:
    """Find a review helpful; once more changes nothing. Raises OwnReview, NotFound."""
    if review.user_id == user_id:
        raise OwnReview("You cannot vote for your own review.")
    if review.status != "approved":
        raise NotFound(f"There is no review {review.id}.")
    if session.execute(queries.vote(review.id, user_id)).first() is None:
        session.add(ReviewVote(review_id=review.id, user_id=user_id))
        review.helpful_count += 1
    session.flush()


def take_vote_back(session: Session, review: Review, user_id: int) -> None:
    """Find it helpful no longer; without a vote nothing changes."""
    vote = session.execute(queries.vote(review.id, user_id)).scalar_one_or_none()
    if vote is not None:
        session.delete(vote)
        review.helpful_count -= 1
    session.flush()


def report(session: Session, review: Review, user_id: int, reason: str) -> None:
    """Say that a review should not be there; once more changes nothing."""
    known = session.query(ReviewReport).filter_by(review_id=review.id, user_id=user_id).first()
    if known is None:
        session.add(ReviewReport(review_id=review.id, user_id=user_id, reason=reason))
        review.report_count += 1
    session.flush()


def _count(session: Session, review: Review, change: int) -> None:
    """Count an approved review in or out. The product must be locked."""
    if review.status != "approved":
        return
    rating = session.execute(queries.rating_of(review.product_id)).scalar_one_or_none()
    if rating is None:
        rating = ProductRating(product_id=review.product_id)
        session.add(rating)
        session.flush()
    column = f"stars_{review.rating}"
    setattr(rating, column, getattr(rating, column) + change)
    listings.rate(session.connection(), review.product_id, rating.stars)
