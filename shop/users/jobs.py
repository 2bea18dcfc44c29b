"""What the scheduler does with accounts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from shop.users.models import OneTimeToken, RefreshToken, UserSession

#: How long a session is still shown in exports after it ended.
_KEPT = timedelta(days=7)
_BATCH = 500


def forget_sessions(session: Session, moment: datetime) -> dict[str, Any]:
    """Delete sessions that ended a week ago and one-time tokens that expired: some at a time."""
    past = moment - _KEPT
    ended = or_(UserSession.expires_at < past, UserSession.ended_at < past)
    ids = session.scalars(select(UserSession.id).where(ended).limit(_BATCH)).all()
    session.execute(delete(RefreshToken).where(RefreshToken.session_id.in_(ids)))
    session.execute(delete(UserSession).where(UserSession.id.in_(ids)))
    expired = select(OneTimeToken.id).where(OneTimeToken.expires_at < moment).limit(_BATCH)
    tokens = session.scalars(expired).all()
    session.execute(delete(OneTimeToken).where(OneTimeToken.id.in_(tokens)))
    return {"sessions": len(ids), "one_time_tokens": len(tokens)}
