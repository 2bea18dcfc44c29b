"""The doors of reviews."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from flask import Response, url_for

from shop.db import db, transactional
from shop.errors import NotFound
from shop.keyset import Order
from shop.products.models import Product
from shop.reviews import operations, queries
from shop.reviews.models import Review
from shop.reviews.schemas import (
    ModeratedReviewOut,
    ModeratedReviewPage,
    ProductReviewQuery,
    ReplyIn,
    ReportIn,
    ReviewIn,
    ReviewOut,
    ReviewPage,
    ReviewPatch,
    ReviewQuery,
    moderated_review_out,
    review_out,
)
from shop.users.models import User
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, EVERYONE, SIGNED_IN, current_caller
from shop.web.idempotency import keep_answer
from shop.web.pagination import decode_cursor, page

reviews = Blueprint("reviews", __name__, description="What customers think of products")


@reviews.get("/products/<id:id>/reviews")
@reviews.allow(*EVERYONE)
@reviews.query(ProductReviewQuery)
@reviews.response(200, ReviewPage, headers=ETAG | LINK)
@reviews.conditional
@reviews.shared
@reviews.refuses(404)
def list_product_reviews(limit: int, sort: str, id: int, cursor: str | None = None) -> Response:
    """The approved reviews of a product."""
    product = db.session.get(Product, id)
    if product is None or not (product.status == "active" or current_caller().is_employee):
        raise NotFound("There is no such product.")
    scope, order = f"reviews:{sort}", queries.ORDERS[sort]
    after = _after(scope, cursor, order)
    rows = db.session.scalars(queries.of_product(id, order, after, limit + 1)).all()
    return page(rows, limit, scope=scope, key=_key(order), shape=_shown(review_out))


@reviews.get("/reviews")
@reviews.allow(*EMPLOYEES)
@reviews.query(ReviewQuery)
@reviews.response(200, ModeratedReviewPage, headers=ETAG | LINK)
@reviews.conditional
def list_reviews(limit: int, status: str, cursor: str | None = None) -> Response:
    """Reviews to moderate, newest first."""
    scope = f"reviews-to-moderate:{status}"
    order = queries.ORDERS["newest"]
    after = _after(scope, cursor, order)
    rows = db.session.scalars(queries.of_status(status, after, limit + 1)).all()
    return page(rows, limit, scope=scope, key=_key(order), shape=_shown(moderated_review_out))


def _after(scope: str, cursor: str | None, order: Order) -> tuple[int, ...] | None:
    if cursor is None:
        return None
    return cast("tuple[int, ...]", decode_cursor(scope, cursor, order.kinds))


def _key(order: Order) -> Callable[[Review], tuple[int, ...]]:
    return lambda review: tuple(getattr(review, column.key) for column in order.columns)


def _shown(
    shape: Callable[[Review], dict[str, Any]],
) -> Callable[[Sequence[Review]], list[dict[str, Any]]]:
    return lambda rows: [shape(review) for review in rows]


@reviews.post("/products/<id:id>/reviews")
@reviews.allow(*SIGNED_IN)
@reviews.body(ReviewIn)
@reviews.response(201, ReviewOut, headers=ETAG | LOCATION)
@reviews.refuses(404, 409)
@reviews.idempotent()
@transactional
def write_review(data: dict[str, Any], id: int) -> Response:
    """Review a product: once, changed with PATCH. Others see it when it is approved."""
    user = db.session.get(User, current_caller().id)
    if user is None:
        raise NotFound("This account was closed.")
    review = operations.write_review(db.session(), id, user.id, user.name, data)
    location = url_for("reviews.get_review", id=review.id)
    return keep_answer(answer(review_out(review), 201, version=review.version, location=location))


@reviews.get("/reviews/<id:id>")
@reviews.allow(*EVERYONE)
@reviews.response(200, ReviewOut, headers=ETAG)
@reviews.conditional
@reviews.shared
@reviews.refuses(404)
def get_review(id: int) -> Response:
    """One review: approved, of a product that is shown; one's own; or for staff any."""
    row = db.session.execute(queries.with_status_of_product(id)).first()
    if row is None or not _may_see(row[0], row[1]):
        raise NotFound(f"There is no review {id}.")
    review = row[0]
    return answer(review_out(review), version=review.version, modified=review.updated_at)


def _may_see(review: Review, product_status: str) -> bool:
    public = review.status == "approved" and product_status == "active"
    return public or current_caller().is_employee or _is_own(review)


def _is_own(review: Review) -> bool:
    caller = current_caller()
    return caller.id is not None and review.user_id == caller.id


def _seen_for_change(id: int) -> Review:
    """The review under a lock, if the caller may see it. Raises NotFound."""
    review, status = operations.find_with_status(db.session(), id)
    if not _may_see(review, status):
        raise NotFound(f"There is no review {id}.")
    return review


@reviews.patch("/reviews/<id:id>")
@reviews.allow(*SIGNED_IN)
@reviews.body(ReviewPatch)
@reviews.response(200, ReviewOut, headers=ETAG)
@reviews.refuses(403, 404, 412)
@transactional
def change_review(changes: dict[str, Any], id: int) -> Response:
    """Change one's own review; it waits to be approved again. `If-Match` is honoured."""
    review = _seen_for_change(id)
    if not _is_own(review):
        raise operations.NotOwnReview("Only its author changes a review.")
    check_version(review.version)
    operations.change_review(db.session(), review, changes)
    return answer(review_out(review), version=review.version)


@reviews.delete("/reviews/<id:id>")
@reviews.allow(*SIGNED_IN)
@reviews.response(204)
@reviews.refuses(403, 404, 412)
@transactional
def delete_review(id: int) -> Response:
    """Delete one's own review, or as staff any. `If-Match` is honoured."""
    review = _seen_for_change(id)
    if not (_is_own(review) or current_caller().is_employee):
        raise operations.NotOwnReview("Only its author or staff deletes a review.")
    check_version(review.version)
    operations.delete_review(db.session(), review)
    return Response(status=204)


@reviews.post("/reviews/<id:id>/approve")
@reviews.allow(*EMPLOYEES)
@reviews.response(200, ModeratedReviewOut, headers=ETAG)
@reviews.refuses(404)
def approve_review(id: int) -> Response:
    """Let everybody see a review, and count its stars."""
    return _moderate(id, "approved")


@reviews.post("/reviews/<id:id>/reject")
@reviews.allow(*EMPLOYEES)
@reviews.response(200, ModeratedReviewOut, headers=ETAG)
@reviews.refuses(404)
def reject_review(id: int) -> Response:
    """Keep a review from being seen and counted."""
    return _moderate(id, "rejected")


@transactional
def _moderate(id: int, status: str) -> Response:
    review = operations.find_for_change(db.session(), id)
    operations.moderate(db.session(), review, status)
    return answer(moderated_review_out(review), version=review.version)


@reviews.post("/reviews/<id:id>/reply")
@reviews.allow(*EMPLOYEES)
@reviews.body(ReplyIn)
@reviews.response(200, ReviewOut, headers=ETAG)
@reviews.refuses(404)
@transactional
def reply_to_review(data: dict[str, Any], id: int) -> Response:
    """Answer a review in the shop's name."""
    review = operations.find_for_change(db.session(), id)
    operations.reply_to(db.session(), review, data["text"])
    return answer(review_out(review), version=review.version)


@reviews.put("/reviews/<id:id>/vote")
@reviews.allow(*SIGNED_IN)
@reviews.response(204)
@reviews.refuses(403, 404)
@transactional
def vote_for_review(id: int) -> Response:
    """Find a review helpful: once each, and not one's own."""
    caller = current_caller()
    assert caller.id is not None
    operations.vote_for(db.session(), _seen_for_change(id), caller.id)
    return Response(status=204)


@reviews.delete("/reviews/<id:id>/vote")
@reviews.allow(*SIGNED_IN)
@reviews.response(204)
@reviews.refuses(404)
@transactional
def take_vote_back(id: int) -> Response:
    """Find a review helpful no longer."""
    caller = current_caller()
    assert caller.id is not None
    operations.take_vote_back(db.session(), _seen_for_change(id), caller.id)
    return Response(status=204)


@reviews.post("/reviews/<id:id>/reports")
@reviews.allow(*SIGNED_IN)
@reviews.body(ReportIn)
@reviews.response(202)
@reviews.refuses(404)
@reviews.idempotent()
@transactional
def report_review(data: dict[str, Any], id: int) -> Response:
    """Tell staff that a review should not be there."""
    caller = current_caller()
    assert caller.id is not None
    operations.report(db.session(), _seen_for_change(id), caller.id, data["reason"])
    return keep_answer(answer({}, 202))
