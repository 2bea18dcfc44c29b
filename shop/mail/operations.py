"""What happens to mail that is to be sent. Each statement decides in the database."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, bindparam, delete, or_, update
from sqlalchemy.orm import Session

from shop import clock
from shop.bundles import Bundle
from shop.db import database_ms
from shop.inserts import Row, insert_rows
from shop.mail.models import OutgoingMail

# Made once: each mail needs two of them.
_LATER: Any = database_ms() + bindparam("lasting_ms", type_=BigInteger())
_CLAIM = (
    update(OutgoingMail)
    .where(
        OutgoingMail.id == bindparam("mail_id"),
        OutgoingMail.due_ms <= database_ms(),
        OutgoingMail.attempts == bindparam("seen"),
    )
    .values(claim=bindparam("token"), due_ms=_LATER, attempts=OutgoingMail.attempts + 1)
)
_MINE = OutgoingMail.id == bindparam("mail_id"), OutgoingMail.claim == bindparam("token")
_REMOVE = delete(OutgoingMail).where(*_MINE)
_POSTPONE = (
    update(OutgoingMail)
    .where(*_MINE)
    .values(claim=None, due_ms=_LATER, last_error=bindparam("error"))
)


def enqueue(
    session: Session, kind: str, recipient: str, data: dict[str, Any] | None = None
) -> None:
    """Owe somebody a mail, from the commit of this transaction on; `data` is for its composer."""
    enqueue_all(session, kind, [(recipient, data or {})])


def enqueue_all(session: Session, kind: str, mails: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """The same for many: recipients, each with the data of its mail."""
    moment = clock.now()
    # Due since 1970: new mail goes before what is tried again.
    rows: list[Row] = [
        {"kind": kind, "recipient": recipient, "data": data, "created_at": moment, "due_ms": 0,
         "attempts": 0}
        for recipient, data in mails
    ]  # fmt: skip
    if rows:
        insert_rows(session.connection(), OutgoingMail.__table__, rows)


def withdraw(session: Session, user_id: int, recipient: str | None = None) -> None:
    """Owe nobody the mail about a user that goes elsewhere, nor any to `recipient`, if given."""
    unwanted = OutgoingMail.data["user_id"].as_integer() == user_id
    if recipient is not None:
        unwanted = or_(unwanted, OutgoingMail.recipient == recipient)
    session.execute(
        delete(OutgoingMail).where(unwanted).execution_options(synchronize_session=False)
    )


def claim(
    session: Session, due: Any, seconds: float, sent: OutgoingMail | None = None
) -> OutgoingMail | None:
    """Take a mail that `queries.DUE` found for so many seconds; None when somebody was faster.

    It is of no session: as it was when it was taken, whatever is rolled back later. What was `sent`
    before is taken out of the outbox on the same way.
    """
    bundle = Bundle(session.connection())
    if sent is not None:
        bundle.ask(_REMOVE, {"mail_id": sent.id, "token": sent.claim})
    token = secrets.token_hex(16)
    mine = {"mail_id": due.id, "seen": due.attempts, "token": token}
    taken = bundle.ask(_CLAIM, mine | {"lasting_ms": int(seconds * 1000)})
    bundle.send()
    if taken.rowcount != 1:
        return None
    return OutgoingMail(**dict(due._mapping) | {"claim": token, "attempts": due.attempts + 1})


def remove(session: Session, mail: OutgoingMail) -> bool:
    """Take a claimed mail out of the outbox; False when it is another's by now."""
    return _changed(session, _REMOVE, mail.id, token=mail.claim)


def postpone(session: Session, mail: OutgoingMail, error: str, seconds: float | None) -> bool:
    """Try a claimed mail again in so many seconds, or never (None); False when it is another's."""
    # With nothing added to it the time is none.
    lasting = None if seconds is None else int(seconds * 1000)
    return _changed(session, _POSTPONE, mail.id, token=mail.claim, error=error, lasting_ms=lasting)


def _changed(session: Session, statement: Any, mail_id: int, **values: Any) -> bool:
    # Past the ORM, which has nothing of them in hand.
    result = session.connection().execute(statement, {"mail_id": mail_id} | values)
    return result.rowcount == 1
