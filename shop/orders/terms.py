"""What the shop has settled about orders when it starts: handed to their doors and jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from shop.orders.operations import OnDelivered
from shop.orders.payments.base import Provider, Providers
from shop.orders.payments.manual import ManualProvider
from shop.orders.payments.test import TrialProvider


@dataclass(frozen=True, slots=True)
class Terms:
    """Currency, how long an unpaid order waits, who takes payments, who hears of deliveries.

    The first of the providers is the one that is meant when none is named.
    """

    currency: str
    patience: timedelta
    providers: Providers
    on_delivered: tuple[OnDelivered, ...] = ()


def providers_of(names: Iterable[str], *, test_secret: str, manual_days: int) -> Providers:
    """The payment providers with these names."""
    known: dict[str, Provider] = {
        "test": TrialProvider(test_secret),
        "manual": ManualProvider(timedelta(days=manual_days)),
    }
    return {name: known[name] for name in names}
