"""What the shop asks of a payment provider, and what it hears.

A provider is called with no transaction open. It is asked again after a crash, with the same
reference, and must then make no second payment of it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from shop.errors import Conflict, Malformed, Unavailable

SUCCEEDED, FAILED, PENDING, ACTION = "succeeded", "failed", "pending", "requires_action"
#: How old, or how far ahead, the time in a signature may be.
TOLERANCE_SECONDS = 300
_LONGEST_SIGNATURE = 1000


class ProviderAway(Unavailable):
    """The provider did not answer; whether it has done it is not known."""


class BadSignature(Malformed):
    """A message claims to come from a provider and does not prove it."""


class NoWebhooks(Conflict):
    """The provider sends no messages to this shop."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What is to be paid, in minor units. `token` is how, as the provider's client code made it."""

    reference: str
    amount: int
    currency: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """What is to go back from a payment, in minor units."""

    reference: str
    payment_reference: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended, or that it has not: `succeeded`, `failed`, `pending`, `requires_action`.

    `event_id` is the provider's own name of this news; the same news has one effect.
    """

    status: str
    event_id: str | None = None
    detail: str | None = None
    action_url: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """A message of a provider: how the payment or refund with this reference ended."""

    event_id: str
    subject: str
    status: str
    reference: str
    amount: int
    currency: str
    detail: str | None = None


class Provider(Protocol):
    """Somebody who moves money for the shop."""

    name: str
    #: How long an order waits for a payment that was begun here; None: no longer than for any.
    patience: timedelta | None
    #: Whether staff says when the money is there.
    by_hand: bool

    def charge(self, charge: Charge) -> Outcome:
        """Take the money. Raises ProviderAway."""

    def give_back(self, back: Return) -> Outcome:
        """Give money back. Raises ProviderAway."""

    def read(self, signature: str, body: bytes, moment: datetime) -> News:
        """A message that the provider has sent. Raises BadSignature, Malformed, NoWebhooks."""


Providers = Mapping[str, Provider]


def sign(secret: str, body: bytes, moment: datetime) -> str:
    """A signature header of a message: `t=<seconds>,v1=<HMAC-SHA256 of "t.body" in hex>`."""
    seconds = int(moment.timestamp())
    return f"t={seconds},v1={_digest(secret, str(seconds), body)}"


def check_signature(secret: str, signature: str, body: bytes, moment: datetime) -> None:
    """Whether a message is genuine and new; several `v1` are fine, so that secrets can be changed.

    Raises:
        BadSignature: it is not, or there is no telling.
    """
    parts = [part.partition("=") for part in signature[:_LONGEST_SIGNATURE].split(",")]
    times = [value for name, _, value in parts if name.strip() == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal()) or len(times[0]) > 12:
        raise BadSignature("Send Shop-Signature: t=<seconds>,v1=<hex>.")
    if abs(moment.timestamp() - int(times[0])) > TOLERANCE_SECONDS:
        raise BadSignature("The signature is too old, or of the future.")
    expected = _digest(secret, times[0], body).encode()
    given = [value.strip().encode() for name, _, value in parts if name.strip() == "v1"]
    if not any(hmac.compare_digest(expected, value) for value in given):
        raise BadSignature("The signature is not of this message.")


def _digest(secret: str, seconds: str, body: bytes) -> str:
    return hmac.new(secret.encode(), seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
