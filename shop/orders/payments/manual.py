"""Payments that people see to: a bank transfer, or cash when it is handed over.

They stay pending until staff says that the money is there.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from shop.orders.payments.base import (
    PENDING,
    SUCCEEDED,
    Charge,
    News,
    NoWebhooks,
    Outcome,
    Return,
)


class ManualProvider:
    """Trusts staff."""

    name = "manual"
    by_hand = True

    def __init__(self, patience: timedelta) -> None:
        self.patience: timedelta | None = patience

    def charge(self, charge: Charge) -> Outcome:
        """See the interface; nothing happens by itself."""
        return Outcome(PENDING)

    def give_back(self, back: Return) -> Outcome:
        """See the interface; staff sends it back, and the books say so."""
        return Outcome(SUCCEEDED, f"{back.reference}:{SUCCEEDED}")

    def read(self, signature: str, body: bytes, moment: datetime) -> News:
        """There is nobody who would send any. Raises NoWebhooks."""
        raise NoWebhooks("Nobody sends messages about payments by hand.")
