"""Shapes of accounts, sign-in and what belongs to them."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from shop.users.models import ROLES, Address, ApiKey, User, UserSession
from shop.users.passwords import LONGEST, SHORTEST
from shop.web.callers import SCOPES
from shop.web.countries import CODES
from shop.web.fields import Boolean, Choice, Code, Email, Instant, Line, Secret, StrictSchema
from shop.web.pagination import PageQuery

_EXAMPLE = {"example": "ann@example.com"}
_CODE = {"description": "The code from the mail."}


def _new_password() -> Secret:
    about = f"{SHORTEST} to {LONGEST} characters of any kind; the most common ones are refused."
    form = {"description": about, "not": {"pattern": r"^(.)\1*$"}}
    return Secret(LONGEST, shortest=SHORTEST, required=True, metadata=form)


def _phone() -> Code:
    return Code(r"^\+?[0-9][0-9 ()/.-]*$", 30, shortest=3, allow_none=True)


class Credentials(StrictSchema):
    """What somebody shows to sign in."""

    email = Line(254, required=True, metadata={"example": "admin@example.com"})
    password = Secret(1000, required=True)


class RefreshIn(StrictSchema):
    """The newest refresh token of a session."""

    refresh_token = Secret(200, required=True)


class Tokens(StrictSchema):
    """A session's tokens."""

    access_token = fields.String(required=True)
    refresh_token = fields.String(
        required=True, metadata={"description": "Good for one refresh, which brings the next one."}
    )
    token_type = fields.String(required=True)
    expires_in = fields.Integer(required=True, metadata={"description": "Seconds."})


class EmailIn(StrictSchema):
    """To whom a mail is to go."""

    email = Line(254, required=True, metadata=_EXAMPLE)


class TokenIn(StrictSchema):
    """A mailed code."""

    token = Secret(200, required=True, metadata=_CODE)


class PasswordReset(TokenIn):
    """A mailed code, and the new password."""

    password = _new_password()


class PasswordChange(StrictSchema):
    """The password so far, and the new one."""

    current_password = Secret(1000, required=True)
    password = _new_password()


class Registration(StrictSchema):
    """A new customer."""

    email = Email(required=True, metadata=_EXAMPLE)
    name = Line(200, required=True)
    password = _new_password()


class ProfilePatch(StrictSchema):
    """Changes of one's own account. Another `email` needs `current_password`."""

    name = Line(200)
    email = Email(metadata=_EXAMPLE)
    current_password = Secret(1000)


class UserOut(StrictSchema):
    """An account."""

    id = fields.Integer(required=True)
    email = fields.String(required=True)
    email_verified = fields.Boolean(required=True)
    name = fields.String(required=True)
    role = Choice(ROLES, required=True)
    disabled = fields.Boolean(required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class UserQuery(PageQuery):
    """Which accounts to list."""

    role = Choice(ROLES)
    email = Line(254, metadata={"description": "The whole address, in any spelling."})


class UserPage(StrictSchema):
    """Accounts, newest first."""

    items = fields.List(fields.Nested(UserOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class RightsPatch(StrictSchema):
    """What an administrator may change of an account."""

    role = Choice(ROLES)
    disabled = Boolean()


class AddressIn(StrictSchema):
    """A postal address."""

    name = Line(200, required=True)
    line1 = Line(200, required=True)
    line2 = Line(200, allow_none=True)
    city = Line(100, required=True)
    region = Line(100, allow_none=True)
    postal_code = Line(20, required=True)
    country = Choice(CODES, required=True, metadata={"description": "ISO 3166-1 alpha-2."})
    phone = _phone()
    default_shipping = Boolean()
    default_billing = Boolean()


class AddressPatch(StrictSchema):
    """Changes of an address; what is missing stays."""

    name = Line(200)
    line1 = Line(200)
    line2 = Line(200, allow_none=True)
    city = Line(100)
    region = Line(100, allow_none=True)
    postal_code = Line(20)
    country = Choice(CODES)
    phone = _phone()
    default_shipping = Boolean()
    default_billing = Boolean()


class AddressOut(AddressIn):
    """An entry of an address book."""

    id = fields.Integer(required=True)
    version = fields.Integer(required=True)


class AddressList(StrictSchema):
    """A whole address book."""

    items = fields.List(fields.Nested(AddressOut), required=True)


class SessionOut(StrictSchema):
    """A sign-in that holds."""

    id = fields.Integer(required=True)
    user_agent = fields.String(required=True)
    address = fields.String(required=True, metadata={"description": "Where it was begun from."})
    created_at = fields.DateTime(required=True)
    last_used_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True)
    current = fields.Boolean(required=True, metadata={"description": "The one that asks."})


class SessionList(StrictSchema):
    """Sessions, last used first."""

    items = fields.List(fields.Nested(SessionOut), required=True)


class ApiKeyIn(StrictSchema):
    """A new API key."""

    name = Line(100, required=True)
    scopes = fields.List(
        Choice(sorted(SCOPES)), required=True, validate=validate.Length(1, len(SCOPES))
    )
    expires_at = Instant(allow_none=True)


class ApiKeyOut(StrictSchema):
    """An API key, without its secret."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    lookup = fields.String(required=True)
    scopes = fields.List(fields.String(), required=True)
    created_by = fields.Integer(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True, allow_none=True)
    last_used_at = fields.DateTime(required=True, allow_none=True)
    revoked_at = fields.DateTime(required=True, allow_none=True)


class NewApiKey(ApiKeyOut):
    """An API key as it is shown once."""

    key = fields.String(required=True)


class ApiKeyList(StrictSchema):
    """Every API key, newest first."""

    items = fields.List(fields.Nested(ApiKeyOut), required=True)


def user_out(user: User) -> dict[str, Any]:
    """`UserOut`, ready for JSON."""
    return _fields_of(UserOut, user) | {"email_verified": user.email_verified_at is not None}


def address_out(address: Address) -> dict[str, Any]:
    """`AddressOut`, ready for JSON."""
    return _fields_of(AddressOut, address)


def session_out(session: UserSession, current: int | None) -> dict[str, Any]:
    """`SessionOut`, ready for JSON."""
    return _fields_of(SessionOut, session) | {"current": session.id == current}


def api_key_out(key: ApiKey) -> dict[str, Any]:
    """`ApiKeyOut`, ready for JSON."""
    return _fields_of(ApiKeyOut, key)


def _fields_of(schema: type[StrictSchema], row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in schema._declared_fields if hasattr(row, name)}
