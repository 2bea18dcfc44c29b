"""One's own account."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, request, url_for

from shop import clock
from shop.db import db, read, transactional
from shop.errors import NotFound
from shop.limits.networks import client_network
from shop.limits.throttle import current_throttle
from shop.users import operations, personal, queries, sessions
from shop.users.models import User, normalise_email
from shop.users.operations import BadCredentials, EmailTaken, WrongPassword
from shop.users.passwords import check_password, hash_password
from shop.users.schemas import (
    PasswordChange,
    ProfilePatch,
    Registration,
    SessionList,
    UserOut,
    session_out,
    user_out,
)
from shop.users.views.auth import checked_guess, may_mail
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LOCATION, Blueprint
from shop.web.callers import EVERYONE, SIGNED_IN, current_caller

me = Blueprint("users", __name__, description="Accounts")


def my_id() -> int:
    """The id of the account that is signed in."""
    user_id = current_caller().id
    assert user_id is not None
    return user_id


def lock_me() -> User:
    """The account that is signed in, under a lock. Raises NotFound: closed at this moment."""
    return operations.find_for_change(db.session(), my_id())


@me.post("/users")
@me.allow(*EVERYONE)
@me.body(Registration)
@me.response(201, UserOut, headers=ETAG | LOCATION)
@me.refuses(409, 429)
def register(data: dict[str, Any]) -> Response:
    """Open a customer's account. A mail brings a code for `POST /auth/email/verify`."""
    check_password(data["password"], email=data["email"])
    email, network = normalise_email(data["email"]), client_network(request)
    # Taken addresses can be found out here and nowhere else: those tries are counted.
    current_throttle().check("register", network)
    try:
        user = _register(email, data["name"], data["password"])
    except EmailTaken:
        current_throttle().hit("register", network)
        raise
    location = url_for("users.get_me")
    return answer(user_out(user), 201, version=user.version, location=location)


def _register(email: str, name: str, password: str) -> User:
    if read(queries.CREDENTIALS, email=email):
        raise EmailTaken
    password_hash, allowed = hash_password(password), may_mail(email)
    register = transactional(operations.register)
    return register(db.session(), email, name, password_hash, may_mail=allowed)


@me.get("/users/me")
@me.allow(*SIGNED_IN)
@me.response(200, UserOut, headers=ETAG)
@me.conditional
def get_me() -> Response:
    """The account that is signed in."""
    user = db.session.get(User, my_id())
    if user is None:
        raise NotFound("This account was closed.")
    return answer(user_out(user), version=user.version)


@me.patch("/users/me")
@me.allow(*SIGNED_IN)
@me.body(ProfilePatch)
@me.response(200, UserOut, headers=ETAG)
@me.refuses(404, 409, 412, 429)
def change_me(changes: dict[str, Any]) -> Response:
    """Change one's name, or ask for another address.

    ---
    Another `email` needs `current_password`. It counts once a code that is mailed to it was shown
    to `POST /auth/email/verify`; the address so far is told.
    """
    password_hash = None
    if "email" in changes:
        password_hash = _check_current(changes.get("current_password"))
    allowed = password_hash is not None and may_mail(normalise_email(changes["email"]))
    user = _change_me(changes, password_hash, allowed)
    return answer(user_out(user), version=user.version)


@transactional
def _change_me(changes: dict[str, Any], password_hash: str | None, allowed: bool) -> User:
    user = lock_me()
    check_version(user.version)
    if password_hash is not None:
        operations.find_with_password(db.session(), user.id, password_hash)
        if normalise_email(changes["email"]) != user.email:
            operations.ask_for_new_email(db.session(), user, changes["email"], may_mail=allowed)
    if "name" in changes:
        user.name = changes["name"]
    db.session.flush()
    return user


def _check_current(password: str | None) -> str:
    """The hash of one's own password, if this is it. Wrong ones are counted as at the sign-in."""
    if password is None:
        raise WrongPassword
    try:
        _, password_hash = checked_guess(_my_email(), password)
    except BadCredentials as error:
        raise WrongPassword from error
    return password_hash


def _my_email() -> str:
    found = read(queries.EMAIL_OF, id=my_id())
    if not found:
        raise NotFound("This account was closed.")
    email: str = found[0].email
    return email


@me.post("/users/me/password")
@me.allow(*SIGNED_IN)
@me.body(PasswordChange)
@me.response(204)
@me.refuses(409, 429)
def change_password(change: dict[str, Any]) -> Response:
    """Set another password. All other sessions end; this one goes on."""
    password_hash = _check_current(change["current_password"])
    _change_password(password_hash, change["password"])
    return Response(status=204)


def _change_password(old_hash: str, password: str) -> None:
    caller = current_caller()
    check_password(password, email=_my_email())
    new_hash = hash_password(password)

    @transactional
    def change() -> None:
        user = operations.find_with_password(db.session(), my_id(), old_hash)
        operations.change_password(db.session(), user, new_hash, keep_session=caller.session_id)

    change()


@me.delete("/users/me")
@me.allow(*SIGNED_IN)
@me.response(204)
@me.refuses(404, 409, 412)
@transactional
def erase_me() -> Response:
    """Erase the account and all that the shop knows of its person.

    ---
    What the books need stays, without name and address. The last administrator cannot go.
    """
    user = lock_me()
    check_version(user.version)
    personal.erase_user(db.session(), user, current_app.extensions["personal_data"])
    return Response(status=204)


@me.get("/users/me/export")
@me.allow(*SIGNED_IN)
@me.response(200)
@me.refuses(404)
def export_me() -> Response:
    """All that the shop holds on this account, as JSON."""
    user = db.session.get(User, my_id())
    if user is None:
        raise NotFound("This account was closed.")
    parts = {part.name: part.show(db.session(), user) for part in _personal_data()}
    headers = {"Content-Disposition": 'attachment; filename="export.json"'}
    return answer({"account": user_out(user), **parts}, headers=headers)


def _personal_data() -> tuple[personal.PersonalData, ...]:
    found: tuple[personal.PersonalData, ...] = current_app.extensions["personal_data"]
    return found


@me.get("/users/me/sessions")
@me.allow(*SIGNED_IN)
@me.response(200, SessionList, headers=ETAG)
@me.conditional
def list_my_sessions() -> Response:
    """One's sessions that hold, last used first."""
    found = db.session.scalars(queries.sessions_of(my_id()), {"now": clock.now()})
    current = current_caller().session_id
    return answer({"items": [session_out(opened, current) for opened in found]})


@me.delete("/users/me/sessions")
@me.allow(*SIGNED_IN)
@me.response(204)
@transactional
def end_my_sessions() -> Response:
    """End all of one's sessions, this one too."""
    sessions.end_sessions(db.session(), my_id())
    return Response(status=204)


@me.delete("/users/me/sessions/<id:id>")
@me.allow(*SIGNED_IN)
@me.response(204)
@me.refuses(404)
@transactional
def end_my_session(id: int) -> Response:
    """End one of one's sessions."""
    if not sessions.end_sessions(db.session(), my_id(), only=id):
        raise NotFound("There is no such session.")
    return Response(status=204)
