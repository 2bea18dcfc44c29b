"""How the drain is: how far each sink is behind, what is parked, who leads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from shop import clock, leases
from shop.audit import queries

Report = dict[str, Any]


def status(session: Session, sinks: Sequence[str]) -> Report:
    """The state of the log and of each sink: those configured, and others that got anything ever.

    `backlog` counts events that a sink has not acknowledged, `oldest_seconds` is the age of the
    first of them. `leader` is None when nobody leads.
    """
    head = session.execute(queries.HEAD).scalar_one()
    pending = session.execute(queries.PENDING).scalar_one()
    pending_since = session.execute(queries.time_of_first_pending()).scalar_one_or_none()
    seal = session.execute(queries.LAST_SEAL).first()
    cursors = {row.name: row for row in session.execute(queries.CURSORS)}
    parked, replays = session.execute(queries.PARKED).all(), session.execute(queries.REPLAYS).all()
    return {
        "head": head,
        "pending": pending,
        "begins": session.execute(queries.BEGINNING).scalar_one(),
        "sealed_through": seal.through if seal is not None else 0,
        "seal": seal.digest if seal is not None else None,
        "leader": leader(session),
        "sinks": [
            {"name": name, "configured": name in sinks}
            | _lag(session, cursors.get(name), head, pending, pending_since)
            | _owed(name, parked, replays)
            for name in sorted({*cursors, *sinks})
        ],
    }


def leader(session: Session) -> Report | None:
    """Who leads the drain, and for how many seconds if it falls silent now."""
    row = session.execute(leases.holder("drain")).first()
    if row is None:
        return None
    return {"owner": row.owner, "token": row.token, "expires_in_seconds": row.left / 1000}


def _lag(
    session: Session, cursor: Any, head: int, pending: int, pending_since: datetime | None
) -> Report:
    position = cursor.position if cursor is not None else 0
    oldest = session.execute(queries.time_after(position)).scalar_one_or_none()
    return {
        "position": position,
        "backlog": head - position + pending,
        "oldest_seconds": _age(oldest or pending_since),
        "last_acknowledged_at": cursor.updated_at if cursor is not None else None,
    }


def _owed(name: str, parked: Sequence[Any], replays: Sequence[Any]) -> Report:
    """What a sink refused, and what it is to get again."""
    states = {state: count for sink, state, count in parked if sink == name}
    return {
        "parked": states.get("parked", 0),
        "requeued": states.get("requeued", 0),
        "replays": [
            {"from": row.from_position, "to": row.to_position, "next": row.next_position}
            for row in replays
            if row.sink == name
        ],
    }


def _age(moment: datetime | None) -> float | None:
    return None if moment is None else max((clock.now() - moment).total_seconds(), 0.0)
