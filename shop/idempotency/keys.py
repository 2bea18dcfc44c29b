"""The keys as requests use them: each step a transaction of its own, but for keeping the answer."""

from __future__ import annotations

from typing import Any

from shop.bundles import Bundle
from shop.crashes import crash_point
from shop.db import ATTEMPTS, PATIENCE_SECONDS, db, read, transactional
from shop.idempotency import operations, queries
from shop.idempotency.operations import Claim, KeyInProgress, KeyMismatch, KeyName
from shop.retry import Backoff, attempts
from shop.web.idempotency import Kept

_BUSY = "A request with this Idempotency-Key is being worked on. Send it again in a moment."


class Keys:
    """Claims keys for `lease_seconds`, and keeps answers under them for `kept_seconds`."""

    def __init__(self, lease_seconds: int, kept_seconds: int) -> None:
        self._lease_seconds = lease_seconds
        self._kept_seconds = kept_seconds

    def claim(self, caller: str, operation: str, key: str, fingerprint: str) -> Claim | Kept:
        """Claim a key for a request, or answer what is kept under it.

        Raises:
            KeyMismatch: it was given to another request.
            KeyInProgress: a request with it is being worked on.
        """
        name = KeyName(caller, operation, key)
        for _ in attempts(ATTEMPTS, PATIENCE_SECONDS, Backoff(first=0.005, most=0.3)):
            # Written before anything is asked: nearly every key is new.
            claim = operations.claim_new(name, fingerprint, self._lease_seconds)
            if claim is None:
                rows = read(queries.FOUND, caller=caller, operation=operation, key=key)
                if rows and not rows[0].over:
                    return _kept(rows[0], fingerprint)
                if rows:
                    claim = self._take_over(Claim(rows[0].id, rows[0].claim), fingerprint)
            if claim is not None:
                crash_point("idempotency-claimed")
                return claim
        raise KeyInProgress(_BUSY)

    @transactional
    def _take_over(self, expired: Claim, fingerprint: str) -> Claim | None:
        return operations.claim_expired(db.session(), expired, fingerprint, self._lease_seconds)

    def keep(self, claim: Claim, answer: Kept, bundle: Bundle | None = None) -> None:
        """Keep an answer in the transaction that runs, with the rest of a bundle if it is given.

        Raises:
            KeyInProgress: the claim was lost meanwhile; said when the bundle is sent.
        """
        crash_point("before-answer-kept")
        asked = Bundle(db.session().connection()) if bundle is None else bundle
        operations.keep(
            asked, claim, status=answer.status, headers=answer.headers, body=answer.body,
            kept_seconds=self._kept_seconds,
        )  # fmt: skip
        if bundle is None:
            asked.send()

    @transactional
    def free(self, claim: Claim) -> None:
        """Let a claimed key be used again."""
        operations.free(db.session(), claim)


def _kept(row: Any, fingerprint: str) -> Kept:
    if row.fingerprint != fingerprint:
        raise KeyMismatch("This Idempotency-Key was given to another request: take a new one.")
    if row.status is None:
        raise KeyInProgress(_BUSY)
    return Kept(row.status, row.headers, row.body)
