"""Who calls, and what each operation lets whom do. Declared once, enforced and documented."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

from flask import Flask, current_app, g, request
from flask_jwt_extended import JWTManager, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt.exceptions import PyJWTError

from shop import provenance
from shop.errors import BadToken, Forbidden, Unauthenticated
from shop.web.fields import read_id

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
#: One answer for every token that does not hold: which rule it broke is nobody's business.
_REFUSED = "The access token is malformed, expired or not ours."


def register(app: Flask, find_caller: Callable[[int], Caller | None]) -> None:
    """Read access tokens; `find_caller` answers the account of an id, None if it may not enter."""
    JWTManager(app)
    app.extensions["find_caller"] = find_caller


def identify(roles: tuple[str, ...]) -> Caller:
    """The caller of this request, if one of `roles`.

    Raises:
        Unauthenticated: nobody is signed in and somebody must be.
        Forbidden: the caller's role is not among them.
    """
    caller = _caller()
    if caller.role not in roles:
        if caller is NOBODY:
            raise Unauthenticated("Sign in first: this needs an access token.")
        raise Forbidden(f"The role {caller.role} may not do this.")
    if caller.id is not None:
        provenance.actor.set(f"users/{caller.id}")
    g.caller = caller
    return caller


def _caller() -> Caller:
    header = request.headers.get("Authorization")
    if header is None:
        return NOBODY
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise BadToken(_REFUSED)
    claims = _verified(token.strip(), current_app.config["SECRET_KEY"])
    if claims["type"] != "access" or claims["exp"] <= time.time():
        raise BadToken(_REFUSED)
    find_caller: Callable[[int], Caller | None] = current_app.extensions["find_caller"]
    try:
        caller = find_caller(read_id(claims["sub"]))
    except ValueError:
        raise BadToken(_REFUSED) from None
    if caller is None:
        raise BadToken(_REFUSED)
    return caller


@lru_cache(maxsize=1024)
def _verified(token: str, _key: str) -> dict[str, Any]:
    """The claims of a token whose signature, issuer and audience are right.

    Remembered, since a client shows the same token again and again and verifying it costs as much
    as a query; its end is checked each time. Raises BadToken.
    """
    try:
        return dict(decode_token(token))
    except (PyJWTError, JWTExtendedException, ValueError) as error:
        raise BadToken(_REFUSED) from error


def current_caller() -> Caller:
    """The caller of the operation that runs."""
    return cast(Caller, g.caller)
