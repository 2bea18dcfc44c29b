"""Pruning: entries that are old and that everybody has are removed, a seal's at a time.

The seal stays, so the chain over the rest still holds and readers are told where the log begins.
Never removed are entries that some sink or internal reader lacks, is to get again or refused, nor
unsealed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from shop import clock
from shop.audit import queries
from shop.audit.models import AuditEntry, ParkedEvent, Replay, Seal
from shop.db import db, transactional


@transactional
def prune_a_seal(before: datetime, sinks: Sequence[str]) -> int | None:
    """Remove the entries of the oldest seal, if all were written before; how many, None if not.

    `sinks` are those that are configured; cursors of others are waited for as well.
    """
    session = db.session()
    seal = session.scalars(queries.oldest_kept_seal()).first()
    if seal is None or seal.through > _everybody_has(session, sinks):
        return None
    between = AuditEntry.position > seal.previous, AuditEntry.position <= seal.through
    newest = session.scalar(select(func.max(AuditEntry.created_at)).where(*between))
    if newest is not None and newest >= before:
        return None
    lacking = select(ParkedEvent.position).where(ParkedEvent.state != "sent")
    # What was kept of earlier seals, and has been sent meanwhile, goes with it.
    gone = AuditEntry.position <= seal.through, AuditEntry.position.not_in(lacking)
    removed = session.connection().execute(delete(AuditEntry).where(*gone)).rowcount
    session.connection().execute(
        update(Seal).where(Seal.id == seal.id).values(pruned_at=clock.now(), marks="")
    )
    session.connection().execute(delete(Seal).where(Seal.through < seal.through))
    return removed


def forget_sent(session: Session, before: datetime) -> int:
    """Remove what is known of parked events that were sent, and of replays, long ago; how many."""
    sent = delete(ParkedEvent).where(ParkedEvent.state == "sent", ParkedEvent.changed_at < before)
    replayed = delete(Replay).where(Replay.finished_at < before)
    connection = session.connection()
    return connection.execute(sent).rowcount + connection.execute(replayed).rowcount


def _everybody_has(session: Session, sinks: Sequence[str]) -> int:
    """The last position that all sinks and internal readers are done with."""
    cursors = {row.name: row.position for row in session.execute(queries.CURSORS)}
    wanted = [cursors.get(name, 0) for name in {*cursors, *sinks}]
    wanted += [row.position for row in session.execute(queries.READERS)]
    replayed = session.execute(queries.FIRST_OF_REPLAYS).scalar_one()
    if replayed is not None:
        wanted.append(replayed - 1)
    return min(wanted, default=session.execute(queries.HEAD).scalar_one())
