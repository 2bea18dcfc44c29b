"""The kinds of refusal. A feature subclasses a kind to name a fact of the shop.

Nothing here knows of HTTP: `shop.web.problems` maps each kind to a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: `pointer` is a JSON pointer (RFC 6901) or a parameter name."""

    pointer: str
    message: str


class Refusal(Exception):
    """The shop understood the request and declines it; `detail` says why and what to do."""

    slug: ClassVar[str] = "internal"
    #: After how many seconds it makes sense to try the same again, if it does.
    retry_after: int | None = None

    def __init__(
        self,
        detail: str,
        *,
        faults: tuple[Fault, ...] = (),
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = faults
        #: What a program may want to read besides, under names of its own.
        self.members = members or {}


class Malformed(Refusal):
    """The message itself cannot be read (not JSON, say)."""

    slug = "malformed"


class Invalid(Refusal):
    """The message can be read, but a value in it is not allowed."""

    slug = "validation"


class Unauthenticated(Refusal):
    """Nobody is signed in, or what was shown proves nothing."""

    slug = "unauthenticated"


class BadToken(Unauthenticated):
    """A token was shown, and it does not hold."""


class Forbidden(Refusal):
    """The caller is known and may not do this."""

    slug = "forbidden"


class NotFound(Refusal):
    """There is no such thing, or the caller may not know of it."""

    slug = "not-found"


class Gone(Refusal):
    """It was there, and was removed for good."""

    slug = "gone"


class Conflict(Refusal):
    """The request is fine and the present state of the shop is against it."""

    slug = "conflict"


class VersionConflict(Refusal):
    """The resource changed since the caller read it."""

    slug = "version-conflict"


class VersionRequired(Refusal):
    """The caller must say which version it means to change."""

    slug = "version-required"


class Unavailable(Refusal):
    """Something the shop needs is away; try again after `retry_after` seconds."""

    slug = "unavailable"
    retry_after = 2


class RateLimited(Refusal):
    """It was tried too often; it may be tried again after `retry_after` seconds."""

    slug = "rate-limited"
    retry_after: int

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
