"""Throttling: what is tried too often is refused, and each answer says how much is left.

Where tries are counted before anybody looks whether they are right (`hit`), a hundred at once
cannot pass a limit of ten. Where only wrong ones count (`check`, then `hit`), right ones are free.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from flask import Flask, Response, current_app, g, has_app_context, has_request_context
from limits import RateLimitItem, parse
from limits.storage import Storage

from shop.db import db
from shop.errors import RateLimited
from shop.limits.storage import digest


@dataclass(frozen=True, slots=True)
class Quota:
    """What somebody has left of a limit: tries, and seconds until they begin anew."""

    rule: str
    limit: RateLimitItem
    left: int
    seconds: int


class Throttle:
    """The rules of a shop, such as `{"sign-in-account": "10 per 15 minutes"}`, and who met them.

    The windows are fixed: one begins with the first try after the last one has ended. Call this
    outside of transactions: it writes in one of its own.
    """

    def __init__(self, storage: Storage, rules: Mapping[str, str], enabled: bool = True) -> None:
        self._storage = storage
        self._rules = {rule: parse(rate) for rule, rate in rules.items()}
        self._enabled = enabled

    def hit(self, rule: str, who: str, times: int = 1) -> bool:
        """Count a try, or several; whether it was the last one that is allowed.

        Raises:
            RateLimited: it is one too many.
        """
        count = self._count(rule, who, times)
        if not self._enabled:
            return False
        quota = self._note(rule, who, count)
        if count > quota.limit.amount:
            raise _refusal(quota)
        return count == quota.limit.amount

    def check(self, rule: str, who: str) -> None:
        """Refuse whom nothing is left of the limit, without counting.

        For what is counted only when it turns out to be wrong: of many at once a few too many may
        pass, as many as run at the same time.

        Raises:
            RateLimited: nothing is left.
        """
        key = self._key(rule, who)
        if self._enabled:
            quota = self._note(rule, who, self._storage.get(key))
            if not quota.left:
                raise _refusal(quota)

    def allows(self, rule: str, who: str, times: int = 1) -> bool:
        """Count a try, or several, and answer whether they are within the limit.

        For what is left out silently: so the answer's headers do not tell of it either.
        """
        return self._count(rule, who, times) <= self._rules[rule].amount

    def _count(self, rule: str, who: str, times: int) -> int:
        """Count tries; how many there are now, always none if the throttle is off.

        This is what the library's FixedWindowRateLimiter does, but that does not tell the number.
        """
        key = self._key(rule, who)
        _refuse_inside_transaction()
        if not self._enabled:
            return 0
        return self._storage.incr(key, self._rules[rule].get_expiry(), times)

    def _note(self, rule: str, who: str, count: int) -> Quota:
        """Keep for the answer what is left after so many tries."""
        limit = self._rules[rule]
        # To the millisecond first: the difference of two large floats is a little off.
        seconds = round(self._storage.get_expiry(self._key(rule, who)) - time.time(), 3)
        left = max(0, limit.amount - count)
        _noted()[rule, who] = quota = Quota(rule, limit, left, max(0, math.ceil(seconds)))
        return quota

    def _key(self, rule: str, who: str) -> str:
        # Storages outside of the database must not be told names either.
        return self._rules[rule].key_for(rule, digest(who))


def _refusal(quota: Quota) -> RateLimited:
    seconds = max(1, quota.seconds)
    detail = f"That was tried too often. Try again in {seconds} seconds."
    return RateLimited(detail, retry_after=seconds)


def register(app: Flask, throttle: Throttle) -> None:
    """Make this the app's throttle, and let answers tell what was counted for them."""
    app.extensions["throttle"] = throttle
    app.after_request(_tell)


def current_throttle() -> Throttle:
    """The throttle of the app that runs."""
    return cast(Throttle, current_app.extensions["throttle"])


def _refuse_inside_transaction() -> None:
    # On SQLite the counter would wait in vain for the lock of the transaction around it, and one
    # that is run again would count again.
    if not has_app_context() or not db.session.registry.has():
        return
    if db.session().info.get("transactional"):
        raise RuntimeError("count before or after the transaction, not inside of it")


def _noted() -> dict[tuple[str, str], Quota]:
    """What the answer to this request shall tell; nobody reads it outside of one."""
    if not has_request_context():
        return {}
    noted: dict[tuple[str, str], Quota] = g.setdefault("counted", {})
    return noted


def _tell(response: Response) -> Response:
    """Add the fields of draft-ietf-httpapi-ratelimit-headers-10."""
    told = _strictest(g.pop("counted", {}).values())
    if told:
        response.headers["RateLimit-Policy"] = ", ".join(
            f'"{it.rule}";q={it.limit.amount};w={it.limit.get_expiry()}' for it in told
        )
        response.headers["RateLimit"] = ", ".join(
            f'"{it.rule}";r={it.left};t={it.seconds}' for it in told
        )
    return response


def _strictest(quotas: Iterable[Quota]) -> Collection[Quota]:
    """One for each rule: a rule may have been asked about several people."""
    chosen: dict[str, Quota] = {}
    for quota in quotas:
        if quota.rule not in chosen or quota.left < chosen[quota.rule].left:
            chosen[quota.rule] = quota
    return chosen.values()
