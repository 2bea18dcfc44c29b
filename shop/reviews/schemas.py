"""Shapes of reviews."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from shop.reviews.models import STATUSES, Review
from shop.reviews.queries import ORDERS
from shop.web.fields import Choice, Integer, Line, StrictSchema, Text
from shop.web.pagination import PageQuery


class ReviewIn(StrictSchema):
    """A new review."""

    rating = Integer(1, 5, required=True, metadata={"description": "Stars."})
    title = Text(200, load_default="")
    text = Text(10_000, load_default="")


class ReviewPatch(StrictSchema):
    """Changes of one's own review; it waits to be approved again."""

    rating = Integer(1, 5)
    title = Text(200)
    text = Text(10_000)


class ReplyIn(StrictSchema):
    """The shop's answer to a review."""

    text = Line(5_000, required=True)


class ReportIn(StrictSchema):
    """Why a review should not be there."""

    reason = Line(500, required=True)


class ProductReviewQuery(PageQuery):
    """How to list a product's reviews."""

    sort = Choice(tuple(ORDERS), load_default="newest")


class ReviewQuery(PageQuery):
    """Which reviews staff wants to see."""

    status = Choice(STATUSES, load_default="pending")


class ReviewOut(StrictSchema):
    """A review as everybody sees it."""

    id = fields.Integer(required=True)
    product_id = fields.Integer(required=True)
    author = fields.String(required=True)
    rating = fields.Integer(required=True)
    title = fields.String(required=True)
    text = fields.String(required=True, metadata={"description": "Plain text, never HTML."})
    status = Choice(STATUSES, required=True)
    verified = fields.Boolean(
        required=True, metadata={"description": "The author had it delivered by this shop."}
    )
    reply = fields.String(required=True, allow_none=True)
    replied_at = fields.DateTime(required=True, allow_none=True)
    helpful_count = fields.Integer(required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class ReviewPage(StrictSchema):
    """A page of reviews."""

    items = fields.List(fields.Nested(ReviewOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ModeratedReviewOut(ReviewOut):
    """A review as staff sees it."""

    user_id = fields.Integer(required=True, allow_none=True)
    report_count = fields.Integer(required=True)


class ModeratedReviewPage(StrictSchema):
    """A page of reviews, for staff."""

    items = fields.List(fields.Nested(ModeratedReviewOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


def review_out(review: Review) -> dict[str, Any]:
    """`ReviewOut`, ready for JSON."""
    return {name: getattr(review, name) for name in ReviewOut._declared_fields}


def moderated_review_out(review: Review) -> dict[str, Any]:
    """`ModeratedReviewOut`, ready for JSON."""
    return {name: getattr(review, name) for name in ModeratedReviewOut._declared_fields}
