"""The provider for trying out: it moves no money, and does what its tokens say.

It keeps nothing: how a payment ends follows from its token, so that asking again gives the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson

from shop.errors import Malformed
from shop.orders.payments.base import (
    ACTION,
    FAILED,
    PENDING,
    SUCCEEDED,
    Charge,
    News,
    NoWebhooks,
    Outcome,
    ProviderAway,
    Return,
    check_signature,
)

APPROVE, DECLINE, NEEDS_ACTION = "tok_approve", "tok_decline", "tok_action"
ANSWER_LATER, STAY_AWAY = "tok_later", "tok_away"
_SUBJECTS = ("payment", "refund")


class TrialProvider:
    """Approves, declines, asks for more, answers late or not at all."""

    name = "test"
    patience: timedelta | None = None
    by_hand = False

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def charge(self, charge: Charge) -> Outcome:
        """See the interface; an unknown token is declined, none is approved."""
        if charge.token == STAY_AWAY:
            raise ProviderAway("The payment provider does not answer. Send the same request again.")
        if charge.token == ANSWER_LATER:
            return Outcome(PENDING)
        if charge.token == NEEDS_ACTION:
            return Outcome(ACTION, action_url=f"https://example.com/confirm/{charge.reference}")
        if charge.token in (None, APPROVE):
            return Outcome(SUCCEEDED, f"{charge.reference}:{SUCCEEDED}")
        why = "The card was declined."
        return Outcome(FAILED, f"{charge.reference}:{FAILED}", detail=why)

    def give_back(self, back: Return) -> Outcome:
        """See the interface; it always can."""
        return Outcome(SUCCEEDED, f"{back.reference}:{SUCCEEDED}")

    def read(self, signature: str, body: bytes, moment: datetime) -> News:
        """A signed message; docs/payments.md has its shape."""
        if not self._secret:
            raise NoWebhooks("SHOP_PAYMENT_TEST_SECRET is not set: messages cannot be trusted.")
        check_signature(self._secret, signature, body, moment)
        try:
            return _news(orjson.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Malformed("The message has not the shape that was agreed on.") from error


def _news(message: Any) -> News:
    subject, _, status = message["type"].partition(".")
    money = message["amount"]
    texts = (message["id"], message["reference"], money["currency"])
    if subject not in _SUBJECTS or status not in (SUCCEEDED, FAILED):
        raise ValueError("no such type")
    if not all(isinstance(text, str) and 0 < len(text) <= 100 for text in texts):
        raise ValueError("not a text")
    if type(money["amount"]) is not int:
        raise ValueError("not a number")
    return News(texts[0], subject, status, texts[1], money["amount"], texts[2])
