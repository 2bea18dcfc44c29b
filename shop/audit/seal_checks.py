"""Is what was sealed still what it was?

Unlike other checks this one cannot be asked of the database, which does not hash a log. It reads a
seal's entries at a time, so that the process holds a thousand of them at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry, AuditHead, ParkedEvent, Seal
from shop.audit.queries import PRUNED_UP_TO
from shop.audit.sealing import GENESIS, chained, content_of, sealed_between
from shop.checks import MOST_FINDINGS, Result

_BATCH = 50
Finding = dict[str, Any]


def seals(session: Session) -> Result:
    """The chain has no hole, no link of it was changed, and each entry is as it was sealed."""
    findings: list[Finding] = []
    sealed = session.execute(select(func.coalesce(func.sum(Seal.entries), 0))).scalar_one()
    for finding in _findings(session):
        findings.append(finding)
        if len(findings) > MOST_FINDINGS:
            break
    return Result(int(sealed), findings[:MOST_FINDINGS], len(findings) > MOST_FINDINGS)


def _findings(session: Session) -> Iterator[Finding]:
    through, digest = 0, GENESIS
    for seal in _chain(session):
        if seal.previous != through and not (through == 0 and seal.pruned_at):
            yield {"what": "a seal is missing", "position": through + 1, "to": seal.previous}
        elif seal.previous == through and seal.digest != _digest_of(seal, digest):
            yield {"what": "a seal was changed", "position": seal.previous + 1, "to": seal.through}
        if seal.pruned_at is None:
            yield from _changed(session, seal)
        through, digest = seal.through, seal.digest
    yield from _slipped_in(session)
    head = session.scalar(select(func.max(AuditHead.position)))
    if head is not None and through > head:
        yield {"what": "sealed behind the head", "position": head + 1, "to": through}


def _chain(session: Session) -> Iterator[Seal]:
    """All seals in their order, some at a time."""
    last = 0
    while True:
        some = session.scalars(
            select(Seal).where(Seal.through > last).order_by(Seal.through).limit(_BATCH)
        ).all()
        yield from some
        if len(some) < _BATCH:
            return
        last = some[-1].through
        session.expunge_all()


def _digest_of(seal: Seal, digest: str) -> str:
    return chained(digest, seal.previous, seal.through, seal.content)


def _changed(session: Session, seal: Seal) -> list[Finding]:
    """Entries of a seal that are missing or not as they were."""
    found = content_of(session.execute(sealed_between(seal.previous, seal.through)).all())
    if found.digest == seal.content and len(found.positions) == seal.entries:
        return []
    if session.execute(select(Seal.pruned_at).where(Seal.id == seal.id)).scalar_one_or_none():
        # Removed for their age while we were looking.
        return []
    there = {position: index for index, position in enumerate(found.positions)}
    findings: list[Finding] = []
    for index, position in enumerate(range(seal.previous + 1, seal.through + 1)):
        if position not in there:
            findings.append({"what": "missing", "position": position})
        elif found.mark_at(there[position]) != seal.marks[index * 8 : index * 8 + 8]:
            findings.append({"what": "changed", "position": position})
    whole = {"what": "changed", "position": seal.previous + 1, "to": seal.through}
    return findings or [whole]


def _slipped_in(session: Session) -> list[Finding]:
    """Entries where there is none any more: only what some sink still lacks is kept there."""
    lacking = exists().where(ParkedEvent.position == AuditEntry.position)
    slipped = session.scalars(
        select(AuditEntry.position)
        .where(AuditEntry.position <= PRUNED_UP_TO, ~lacking)
        .order_by(AuditEntry.position)
        .limit(MOST_FINDINGS)
    )
    return [{"what": "slipped in", "position": position} for position in slipped]
