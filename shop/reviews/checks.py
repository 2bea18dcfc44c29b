"""Do the counts agree with what they count?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import FromClause, case, func, or_, select
from sqlalchemy.orm import Session

from shop.checks import Check, Result, found, how_many
from shop.products.models import Product, ProductRating
from shop.reviews import queries
from shop.reviews.models import STARS, Review, ReviewReport, ReviewVote


def ratings(session: Session) -> Result:
    """The stars of a product are those of its approved reviews."""
    counted = queries.counted().subquery()
    product_id, stars, count = counted.columns
    sums = [func.sum(case((stars == n, count), else_=0)).label(f"counted_{n}") for n in STARS]
    recount = select(product_id, *sums).group_by(product_id).subquery()
    shown = [func.coalesce(getattr(ProductRating, f"stars_{n}"), 0) for n in STARS]
    true = [func.coalesce(recount.c[f"counted_{n}"], 0) for n in STARS]
    wrong = (
        select(
            Product.id.label("product_id"),
            *(value.label(f"stars_{n}") for n, value in zip(STARS, shown, strict=True)),
            *(value.label(f"counted_{n}") for n, value in zip(STARS, true, strict=True)),
        )
        .outerjoin(ProductRating, ProductRating.product_id == Product.id)
        .outerjoin(recount, recount.c.product_id == Product.id)
        .where(or_(*(there != is_so for there, is_so in zip(shown, true, strict=True))))
    )
    return found(session, how_many(Product), wrong)


def marks(session: Session) -> Result:
    """A review was found helpful, and reported, as often as it says."""
    votes, reports = _counted(ReviewVote), _counted(ReviewReport)
    helpful, reported = (func.coalesce(each.c.count, 0) for each in (votes, reports))
    wrong = (
        select(
            Review.id.label("review_id"),
            Review.helpful_count,
            helpful.label("votes"),
            Review.report_count,
            reported.label("reports"),
        )
        .outerjoin(votes, votes.c.review_id == Review.id)
        .outerjoin(reports, reports.c.review_id == Review.id)
        .where(or_(Review.helpful_count != helpful, Review.report_count != reported))
    )
    return found(session, how_many(Review), wrong)


def _counted(mark: type[Any]) -> FromClause:
    counting = select(mark.review_id, func.count().label("count")).group_by(mark.review_id)
    return counting.subquery()


CHECKS = (Check("ratings", ratings), Check("review-counts", marks))
