"""Sessions: signing in, refreshing, ending.

A session is a chain of refresh tokens, of which only the last is good. Who shows a spent one has
copied it, or was copied: the whole session ends. The only exception are requests that ran beside
the one that spent it. The winner is not answered before `RACE_SECONDS` have passed; whoever arrived
until then cannot have known the new token, and whoever knows it arrives later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from shop import clock
from shop.db import database_ms
from shop.marks import changed
from shop.turns import seconds_here
from shop.users import queries
from shop.users.models import RefreshToken, SecurityEvent, User, UserSession
from shop.users.tokens import digest, new_secret

RACE_SECONDS = 0.25
_LOOKS = 10


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things hold, in seconds."""

    refresh_token: int
    session: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A session with its newest refresh token, which nobody will see again."""

    user_id: int
    session_id: int
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Raced:
    """Another request is refreshing with the same token at this moment."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The token is not good. If it was a spent one, its session is over now."""


def open_session(
    session: Session, user: User, *, user_agent: str, address: str, lifetimes: Lifetimes
) -> Opened:
    """Begin a session of an account."""
    moment = clock.now()
    opened = UserSession(
        user_id=user.id,
        user_agent=user_agent[:200],
        address=address[:45],
        created_at=moment,
        last_used_at=moment,
        expires_at=moment + timedelta(seconds=min(lifetimes.refresh_token, lifetimes.session)),
    )
    session.add(opened)
    session.flush()
    return Opened(user.id, opened.id, _next_token(session, opened.id))


def refresh(session: Session, token: str, lifetimes: Lifetimes) -> Opened | Raced | Refused:
    """Spend a refresh token for the next one of its session."""
    row = session.execute(queries.refresh_token(digest(token))).first()
    if row is None:
        return Refused()
    shown, opened, user = row
    moment = clock.now()
    if opened.ended_at is not None or opened.expires_at <= moment or user.disabled:
        return Refused()
    if shown.spent_ms is not None and _came_after_the_race(session, shown):
        _end_reused(session, opened)
        return Refused()
    if shown.spent_ms is not None or not _spend(session, shown):
        return Raced()
    last = opened.created_at + timedelta(seconds=lifetimes.session)
    opened.last_used_at = moment
    opened.expires_at = min(moment + timedelta(seconds=lifetimes.refresh_token), last)
    return Opened(user.id, opened.id, _next_token(session, opened.id))


def _came_after_the_race(session: Session, spent: RefreshToken) -> bool:
    """Whether this request arrived more than `RACE_SECONDS` after its token was spent.

    Counted to the arrival, so that a slow machine does not take a racer for a thief. The database
    looks at its clock somewhere between two looks at ours; when that leaves it open (this thread
    stood still just then), all are looked at again.
    """
    for _ in range(_LOOKS):
        before = seconds_here()
        spent_for = session.execute(queries.spent_for(spent.id)).scalar_one() / 1000
        if spent_for - before <= RACE_SECONDS:
            return False
        if spent_for - seconds_here() > RACE_SECONDS:
            return True
    return False


def _spend(session: Session, token: RefreshToken) -> bool:
    # Decided in the database: of several requests at once one changes the row.
    result = session.execute(
        update(RefreshToken)
        .where(RefreshToken.id == token.id, RefreshToken.spent_ms.is_(None))
        .values(spent_ms=database_ms())
        .execution_options(synchronize_session=False)
    )
    return isinstance(result, CursorResult) and result.rowcount == 1


def _next_token(session: Session, session_id: int) -> str:
    token = new_secret()
    session.add(RefreshToken(session_id=session_id, token_hash=digest(token)))
    session.flush()
    return token


def _end_reused(session: Session, opened: UserSession) -> None:
    end_sessions(session, opened.user_id, only=opened.id)
    detail = {"session": opened.id}
    session.add(SecurityEvent(kind="refresh_reuse", user_id=opened.user_id, detail=detail))


def end_sessions(
    session: Session, user_id: int, *, only: int | None = None, but: int | None = None
) -> int:
    """End the sessions of an account: all, `only` one, or all `but` one. Answers how many."""
    ending = update(UserSession).where(
        UserSession.user_id == user_id, UserSession.ended_at.is_(None)
    )
    if only is not None:
        ending = ending.where(UserSession.id == only)
    if but is not None:
        ending = ending.where(UserSession.id != but)
    result = session.execute(
        ending.values(ended_at=clock.now()).execution_options(synchronize_session=False)
    )
    changed(session, "callers")
    return result.rowcount if isinstance(result, CursorResult) else 0


def delete_sessions(session: Session, user_id: int) -> None:
    """Delete every trace of an account's sessions."""
    of_user = select(UserSession.id).where(UserSession.user_id == user_id)
    session.execute(delete(RefreshToken).where(RefreshToken.session_id.in_(of_user)))
    session.execute(delete(UserSession).where(UserSession.user_id == user_id))
    changed(session, "callers")
