"""What reviews tell of a person, and what is left of them without it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from shop.reviews import operations, queries
from shop.reviews.schemas import review_out
from shop.users.models import User
from shop.users.personal import PersonalData


def _show(session: Session, user: User) -> dict[str, Any]:
    return {
        "written": [review_out(review) for review in session.scalars(queries.by_user(user.id))],
        "found_helpful": [vote.review_id for vote in session.scalars(queries.votes_by(user.id))],
        "reported": [
            {"review_id": found.review_id, "reason": found.reason}
            for found in session.scalars(queries.reports_by(user.id))
        ],
    }


def _erase(session: Session, user: User) -> None:
    """What was said stays, nobody said it; votes and reports go."""
    for review in session.scalars(queries.by_user(user.id)).all():
        review.user_id, review.author = None, ""
    for vote in session.scalars(queries.votes_by(user.id)).all():
        review = operations.find_for_change(session, vote.review_id)
        operations.take_vote_back(session, review, user.id)
    for found in session.scalars(queries.reports_by(user.id)).all():
        session.delete(found)
    session.flush()


PART = PersonalData("reviews", _show, _erase)
