"""Who calls, and what each operation lets whom do. Declared once, enforced and documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from flask import Flask, g
from flask_jwt_extended import JWTManager, get_current_user, verify_jwt_in_request

from shop import provenance
from shop.errors import Forbidden, Unauthenticated
from shop.web.fields import read_id
from shop.web.problems import bad_token

View = TypeVar("View", bound=Callable[..., Any])

ANONYMOUS, CUSTOMER, STAFF, ADMIN = "anonymous", "customer", "staff", "admin"
EVERYONE = (ANONYMOUS, CUSTOMER, STAFF, ADMIN)
SIGNED_IN = (CUSTOMER, STAFF, ADMIN)
EMPLOYEES = (STAFF, ADMIN)


@dataclass(frozen=True, slots=True)
class Caller:
    """The account behind a request; `id` is None for nobody in particular."""

    id: int | None
    role: str

    @property
    def is_employee(self) -> bool:
        """Whether it may see what is not public."""
        return self.role in EMPLOYEES


NOBODY = Caller(None, ANONYMOUS)


def register(app: Flask, find_caller: Callable[[int], Caller | None]) -> None:
    """Read access tokens; `find_caller` answers the account of an id, None if it may not enter."""
    tokens = JWTManager(app)
    for answer_with in (
        tokens.unauthorized_loader,
        tokens.invalid_token_loader,
        tokens.expired_token_loader,
        tokens.revoked_token_loader,
        tokens.user_lookup_error_loader,
        tokens.needs_fresh_token_loader,
        tokens.token_verification_failed_loader,
    ):
        answer_with(bad_token)

    @tokens.user_lookup_loader
    def look_up(_header: Any, claims: dict[str, Any]) -> Caller | None:
        try:
            return find_caller(read_id(claims.get("sub", "")))
        except ValueError:
            return None


def identify(roles: tuple[str, ...]) -> Caller:
    """The caller of this request, if one of `roles`.

    Raises:
        Unauthenticated: nobody is signed in and somebody must be.
        Forbidden: the caller's role is not among them.
    """
    signed_in = verify_jwt_in_request(optional=True) is not None
    caller = cast(Caller, get_current_user()) if signed_in else NOBODY
    if caller.role not in roles:
        if caller is NOBODY:
            raise Unauthenticated("Sign in first: this needs an access token.")
        raise Forbidden(f"The role {caller.role} may not do this.")
    if caller.id is not None:
        provenance.actor.set(f"users/{caller.id}")
    g.caller = caller
    return caller


def current_caller() -> Caller:
    """The caller of the operation that runs."""
    return cast(Caller, g.caller)
