"""Accounts and API keys, as staff and administrators see them."""

from __future__ import annotations

from typing import Any

from flask import Response

from shop.db import db, transactional
from shop.errors import NotFound
from shop.users import api_keys, operations, queries, sessions
from shop.users.models import User
from shop.users.schemas import (
    ApiKeyIn,
    ApiKeyList,
    NewApiKey,
    RightsPatch,
    UserOut,
    UserPage,
    UserQuery,
    api_key_out,
    user_out,
)
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LINK, Blueprint
from shop.web.callers import ADMIN, EMPLOYEES, current_caller
from shop.web.fields import LARGEST_ID
from shop.web.pagination import decode_cursor, page

people = Blueprint("people", __name__, description="Accounts and API keys, for those in charge")

_SCOPE = "users:newest"


@people.get("/users")
@people.allow(*EMPLOYEES)
@people.query(UserQuery)
@people.response(200, UserPage, headers=ETAG | LINK)
@people.conditional
def list_users(
    limit: int, cursor: str | None = None, role: str | None = None, email: str | None = None
) -> Response:
    """List accounts, newest first."""
    before = decode_cursor(_SCOPE, cursor, [int])[0] if cursor else LARGEST_ID
    assert isinstance(before, int)
    rows = db.session.scalars(queries.newest(before, limit + 1, role=role, email=email)).all()
    return page(rows, limit, scope=_SCOPE, key=lambda user: (user.id,), shape=_shown)


def _shown(rows: Any) -> list[dict[str, Any]]:
    return [user_out(user) for user in rows]


@people.get("/users/<id:id>")
@people.allow(*EMPLOYEES)
@people.response(200, UserOut, headers=ETAG)
@people.conditional
@people.refuses(404)
def get_user(id: int) -> Response:
    """One account."""
    user = db.session.get(User, id)
    if user is None:
        raise NotFound(f"There is no account {id}.")
    return answer(user_out(user), version=user.version)


@people.patch("/users/<id:id>")
@people.allow(ADMIN)
@people.body(RightsPatch)
@people.response(200, UserOut, headers=ETAG)
@people.refuses(404, 409, 412)
@transactional
def change_rights(changes: dict[str, Any], id: int) -> Response:
    """Give an account another role, close it (its sessions end) or open it again.

    ---
    Counts at once, for sessions that are open too. The last administrator stays one.
    """
    user = operations.find_for_change(db.session(), id)
    check_version(user.version)
    operations.change_rights(db.session(), user, **changes)
    return answer(user_out(user), version=user.version)


@people.delete("/users/<id:id>/sessions")
@people.allow(ADMIN)
@people.response(204)
@people.refuses(404)
@transactional
def end_sessions_of(id: int) -> Response:
    """End all sessions of an account."""
    user = operations.find_for_change(db.session(), id)
    sessions.end_sessions(db.session(), user.id)
    return Response(status=204)


@people.get("/api-keys")
@people.allow(ADMIN)
@people.response(200, ApiKeyList, headers=ETAG)
@people.conditional
def list_api_keys() -> Response:
    """Every API key, newest first, revoked ones too; never the secrets."""
    found = db.session.scalars(queries.api_keys())
    return answer({"items": [api_key_out(key) for key in found]})


@people.post("/api-keys")
@people.allow(ADMIN)
@people.body(ApiKeyIn)
@people.response(201, NewApiKey)
@transactional
def create_api_key(data: dict[str, Any]) -> Response:
    """Make an API key. The answer is the only place where it is ever shown."""
    key, text = api_keys.create_key(
        db.session(),
        name=data["name"],
        scopes=data["scopes"],
        expires_at=data.get("expires_at"),
        created_by=current_caller().id,
    )
    return answer(api_key_out(key) | {"key": text}, 201)


@people.delete("/api-keys/<id:id>")
@people.allow(ADMIN)
@people.response(204)
@people.refuses(404)
@transactional
def revoke_api_key(id: int) -> Response:
    """End an API key for good."""
    api_keys.revoke_key(db.session(), id, current_caller().id)
    return Response(status=204)
