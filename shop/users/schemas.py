"""Shapes of accounts and sign-in."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from shop.users.models import User
from shop.web.fields import Line, Secret, StrictSchema


class Credentials(StrictSchema):
    """What somebody shows to sign in."""

    email = Line(254, required=True, metadata={"example": "admin@example.com"})
    password = Secret(1000, required=True)


class Tokens(StrictSchema):
    """A successful sign-in."""

    access_token = fields.String(required=True)
    token_type = fields.String(required=True)
    expires_in = fields.Integer(required=True, metadata={"description": "Seconds."})


class UserOut(StrictSchema):
    """An account, as its owner sees it."""

    id = fields.Integer(required=True)
    email = fields.String(required=True)
    name = fields.String(required=True)
    role = fields.String(required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


def user_out(user: User) -> dict[str, Any]:
    """`UserOut`, ready for JSON."""
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "version": user.version,
        "created_at": user.created_at,
        "updated_at": user.updated_at,
    }
