"""Who calls, and what each operation lets whom do. Declared once, enforced and documented."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar, cast

from flask import Flask, current_app, g, request
from flask_jwt_extended import JWTManager, create_access_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt.exceptions import PyJWTError
from jwt.utils import base64url_decode, base64url_encode

from shop import provenance
from shop.errors import BadToken, Forbidden, Malformed, Unauthenticated
from shop.web.fields import read_id

View = TypeVar("View", bound=Callable[..., Any])

ANONYMOUS, CUSTOMER, STAFF, ADMIN = "anonymous", "customer", "staff", "admin"
#: What a caller with an API key is; no operation lists it: scopes decide.
KEY = "api_key"
EVERYONE = (ANONYMOUS, CUSTOMER, STAFF, ADMIN)
SIGNED_IN = (CUSTOMER, STAFF, ADMIN)
EMPLOYEES = (STAFF, ADMIN)
#: What an API key may be allowed to do. An operation names the one scope that opens it to keys.
SCOPES = {
    "ads:write": "Create, change and delete ads, and count what happens to them for others.",
    "audit:read": "Read the audit log and its events.",
    "products:write": "Create, change and delete products, variants and stock.",
}
#: How API keys begin, so that they are told from access tokens at a glance.
KEY_PREFIX = "shop_"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is behind a request: an account in one of its sessions, an API key, or nobody."""

    id: int | None
    role: str
    session_id: int | None = None
    key_id: int | None = None
    scopes: frozenset[str] = frozenset()

    @property
    def is_employee(self) -> bool:
        """Whether it may see what is not public."""
        return self.role in EMPLOYEES

    @property
    def name(self) -> str | None:
        """As the audit log has it: `users/3`, `api-keys/5`."""
        if self.key_id is not None:
            return f"api-keys/{self.key_id}"
        return None if self.id is None else f"users/{self.id}"

    def may_call(self, roles: tuple[str, ...], scope: str | None) -> bool:
        """Whether an operation that is open to these roles, and to keys with this scope, is."""
        if self.key_id is not None:
            return ANONYMOUS in roles or scope in self.scopes
        return self.role in roles


NOBODY = Caller(None, ANONYMOUS)
#: One answer for every token that does not hold: which rule it broke is nobody's business.
_REFUSED = "The access token is malformed, expired or not ours."


class Registry(Protocol):
    """Where callers are known: answers None for who may not enter."""

    def of_session(self, user_id: int, session_id: int) -> Caller | None:
        """The account of an access token, in the session that the token is of."""

    def of_key(self, key: str) -> Caller | None:
        """The API key that reads so."""


def register(app: Flask, registry: Registry) -> None:
    """Read access tokens and API keys."""
    JWTManager(app)
    app.extensions["callers"] = registry


def identify(roles: tuple[str, ...], scope: str | None = None) -> Caller:
    """The caller of this request, if one of `roles` or an API key with `scope`.

    Raises:
        Unauthenticated: nobody is signed in and somebody must be.
        Forbidden: the caller's role, or its key, does not allow it.
    """
    caller = _caller()
    if not caller.may_call(roles, scope):
        if caller is NOBODY:
            raise Unauthenticated("Sign in first: this needs an access token.")
        if caller.key_id is not None:
            raise Forbidden("The API key has no scope for this.")
        raise Forbidden(f"The role {caller.role} may not do this.")
    provenance.actor.set(caller.name)
    g.caller = caller
    return caller


def _caller() -> Caller:
    header = request.headers.get("Authorization")
    if header is None:
        return NOBODY
    if "," in header:
        # So do servers join two headers, and neither of our forms has one.
        raise Malformed("Send one Authorization header.")
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise BadToken(_REFUSED)
    registry: Registry = current_app.extensions["callers"]
    token = token.strip()
    if token.startswith(KEY_PREFIX):
        caller = registry.of_key(token)
    else:
        caller = registry.of_session(*_account_and_session(token))
    if caller is None:
        raise BadToken(_REFUSED)
    return caller


def _account_and_session(token: str) -> tuple[int, int]:
    claims = _verified(token, current_app.config["SECRET_KEY"])
    if claims.get("type") != "access" or claims.get("exp", 0) <= time.time():
        raise BadToken(_REFUSED)
    try:
        return read_id(claims["sub"]), read_id(claims["sid"])
    except (KeyError, TypeError, ValueError):
        raise BadToken(_REFUSED) from None


def token_expiry() -> float:
    """When the access token of this request, which was looked at, ends; in Unix seconds."""
    token = request.headers["Authorization"].strip().partition(" ")[2].strip()
    return float(_verified(token, current_app.config["SECRET_KEY"])["exp"])


def access_token(user_id: int, session_id: int) -> str:
    """An access token of a session: a signed JWT with `sub` and `sid`."""
    token: str = create_access_token(str(user_id), additional_claims={"sid": str(session_id)})
    return token


@lru_cache(maxsize=1024)
def _verified(token: str, _key: str) -> dict[str, Any]:
    """The claims of a token whose signature, issuer and audience are right.

    Remembered, since a client shows the same token again and again and verifying it costs as much
    as a query; its end is checked each time. Raises BadToken.
    """
    if not _is_canonical(token):
        raise BadToken(_REFUSED)
    try:
        return dict(decode_token(token))
    except (PyJWTError, JWTExtendedException, ValueError) as error:
        raise BadToken(_REFUSED) from error


def _is_canonical(token: str) -> bool:
    """Whether nothing could be spelt otherwise: base64 ignores the last bits of a last letter."""
    try:
        return all(base64url_encode(base64url_decode(part)).decode() == part
                   for part in token.split("."))  # fmt: skip
    except ValueError:
        return False


def current_caller() -> Caller:
    """The caller of the operation that runs."""
    return cast(Caller, g.caller)
