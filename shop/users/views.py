"""Signing in, and one's own account."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app
from flask_jwt_extended import create_access_token

from shop.db import db, read
from shop.errors import NotFound
from shop.users import operations, queries
from shop.users.models import User
from shop.users.schemas import Credentials, Tokens, UserOut, user_out
from shop.users.standing import Standing
from shop.web.answers import answer
from shop.web.api import ETAG, Blueprint
from shop.web.callers import EVERYONE, SIGNED_IN, Caller, current_caller

auth = Blueprint("auth", __name__, description="Signing in")
users = Blueprint("users", __name__, description="Accounts")


def find_caller(user_id: int) -> Caller | None:
    """The account behind a token's subject."""

    def ask() -> Caller | None:
        found = read(queries.ROLE_OF, id=user_id)
        return Caller(user_id, found[0].role) if found else None

    standing: Standing = current_app.extensions["standing"]
    return standing.of(user_id, ask)


@auth.post("/auth/login")
@auth.allow(*EVERYONE)
@auth.body(Credentials)
@auth.response(200, Tokens)
def login(credentials: dict[str, Any]) -> Response:
    """Sign in with e-mail and password.

    ---
    Answers an access token for `Authorization: Bearer ...`. A wrong address and a wrong
    password get the same answer.
    """
    user = operations.sign_in(db.session(), credentials["email"], credentials["password"])
    tokens = {
        "access_token": create_access_token(str(user.id)),
        "token_type": "Bearer",
        "expires_in": current_app.config["ACCESS_TOKEN_SECONDS"],
    }
    return answer(tokens, headers={"Cache-Control": "no-store"})


@users.get("/users/me")
@users.allow(*SIGNED_IN)
@users.response(200, UserOut, headers=ETAG)
@users.conditional
def get_me() -> Response:
    """The account that is signed in."""
    user = db.session.get(User, current_caller().id)
    if user is None:
        raise NotFound("This account was closed.")
    return answer(user_out(user), version=user.version)
