"""Delivery: takes mail out of the outbox and to the mail server, after the commit.

A mail is claimed and composed in one transaction, sent with none open, and deleted in another one
(that of the next claim, where there is one), fenced by its own claim. So it is sent at least once:
a process that dies between the last two leaves it to the next one, which composes it anew when the
claim has run out.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import parseaddr
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy.orm import Session

from shop import logs
from shop.db import db, is_away, read, transactional
from shop.errors import Unavailable
from shop.mail import letters, operations, queries
from shop.mail.letters import Letter
from shop.mail.models import OutgoingMail
from shop.mail.transport import MailRefused, ServerDown
from shop.retry import Backoff

log = logs.get(__name__)

#: Makes the values of a mail's templates, inside the claim's transaction, in which it may write.
#: None when there is nobody to write to any more. It may be called again for the same mail.
Composer = Callable[[Session, OutgoingMail], dict[str, Any] | None]

#: Longer than a conversation in which the server takes its ten seconds for each answer.
CLAIM_SECONDS = 120.0
MOST_ATTEMPTS = 12
_FIRST_DELAY_SECONDS = 30.0
_LONGEST_DELAY_SECONDS = 3600.0
#: Mails of one call: the timer's thread must come back.
_AT_ONCE = 20


class Delivery:
    """Sends what is due. Several per database are fine: a mail is claimed by one at a time.

    `send` hands a letter to the mail server, `composers` has one for each kind of mail, `sender`
    is the address that mail comes from.
    """

    def __init__(
        self,
        app: Flask,
        send: Callable[[Letter], None],
        composers: Mapping[str, Composer],
        sender: str,
    ) -> None:
        self._app = app
        self._send = send
        self._composers = composers
        self._domain = parseaddr(sender)[1].rpartition("@")[2]
        self._stopping = threading.Event()

    def deliver_due(self) -> int:
        """Send at most 20 mails that are due; how many went. Call it about once a second.

        A mail that cannot be sent is tried again after 30 seconds, then after ever longer, at
        most an hour; after 12 refusals, or when the server refuses it for good, never again.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, Unavailable: the database cannot be used. What was
                claimed is due again after two minutes.
        """
        with self._app.app_context():
            return self._deliver(read(queries.DUE, limit=_AT_ONCE))

    def stop(self) -> None:
        """Send nothing after the mail in hand."""
        self._stopping.set()

    def _deliver(self, found: Sequence[Any]) -> int:
        sent, last = 0, None
        try:
            # When the server is down the others would fare no better, and each could take ten
            # seconds to do so.
            with suppress(ServerDown):
                for due in found:
                    if self._stopping.is_set():
                        break
                    # What was just sent is taken out of the outbox together with the next claim.
                    before, last = last, None
                    composed = self._claim(due, before)
                    if composed is not None and self._sent(*composed):
                        sent, last = sent + 1, composed[0]
        finally:
            if last is not None:
                transactional(operations.remove)(db.session(), last)
        return sent

    def _sent(self, mail: OutgoingMail, values: dict[str, Any]) -> bool:
        """Whether the mail server took it; put off otherwise. Raises ServerDown."""
        try:
            self._send(letters.write(mail, values, self._domain))
        except Exception as error:
            self._put_off(mail, error)
            if isinstance(error, ServerDown):
                raise
            return False
        log.info("mail.sent", id=mail.id, kind=mail.kind, attempt=mail.attempts)
        return True

    def _claim(
        self, due: Any, sent: OutgoingMail | None
    ) -> tuple[OutgoingMail, dict[str, Any]] | None:
        """The mail and the values of its templates; None when there is nothing to send.

        What was `sent` before is removed.
        """
        try:
            mail, values = self._claim_and_compose(due, sent)
        except Exception as error:
            if is_away(error) or isinstance(error, Unavailable):
                raise
            # The claim was rolled back with what the composer did: without one of its own the
            # mail would be first in the queue for ever.
            mail = transactional(operations.claim)(db.session(), due, CLAIM_SECONDS, sent)
            if mail is not None:
                self._put_off(mail, error)
            return None
        if mail is not None and values is None:
            log.info("mail.dropped", id=mail.id, kind=mail.kind)
        return None if mail is None or values is None else (mail, values)

    @transactional
    def _claim_and_compose(
        self, due: Any, sent: OutgoingMail | None
    ) -> tuple[OutgoingMail | None, dict[str, Any] | None]:
        session = db.session()
        mail = operations.claim(session, due, CLAIM_SECONDS, sent)
        if mail is None:
            return None, None
        if mail.kind not in self._composers:
            raise MailRefused(f"nobody here composes {mail.kind}")
        values = self._composers[mail.kind](session, mail)
        if values is None:
            operations.remove(session, mail)
        return mail, values

    def _put_off(self, mail: OutgoingMail, error: Exception) -> None:
        expected = isinstance(error, MailRefused | ServerDown)
        why = str(error) if expected else _place_of(error)
        for_good = isinstance(error, MailRefused) and error.for_good
        # While the server is away no mail is at fault: `forget_mail` says when it is too late.
        patience = isinstance(error, ServerDown) or mail.attempts < MOST_ATTEMPTS
        delay = None
        if patience and not for_good:
            doubled = _FIRST_DELAY_SECONDS * 2 ** min(mail.attempts - 1, 20)
            first = min(doubled, _LONGEST_DELAY_SECONDS)
            delay = Backoff(first, _LONGEST_DELAY_SECONDS).delay()
        transactional(operations.postpone)(db.session(), mail, why, delay)
        facts = {"id": mail.id, "kind": mail.kind, "attempt": mail.attempts, "reason": why}
        if delay is None:
            log.warning("mail.given-up", **facts)
        else:
            log.warning("mail.postponed", seconds=round(delay), **facts)


def _place_of(error: Exception) -> str:
    # Not its text, nor a traceback: they may repeat what the mail says.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
