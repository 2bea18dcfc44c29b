"""Signing in and out, refreshing, and what mailed codes are for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Response, current_app, request

from shop.db import db, read, transactional
from shop.errors import BadToken, Conflict
from shop.limits.networks import client_network
from shop.limits.throttle import current_throttle
from shop.mail.operations import enqueue
from shop.turns import aside
from shop.users import operations, queries, sessions
from shop.users.models import LONGEST_EMAIL, normalise_email
from shop.users.one_time import BadOneTimeToken
from shop.users.operations import BadCredentials
from shop.users.passwords import check_password, guessing, hash_password, is_outdated
from shop.users.schemas import (
    Credentials,
    EmailIn,
    PasswordReset,
    RefreshIn,
    TokenIn,
    Tokens,
    UserOut,
    user_out,
)
from shop.users.sessions import Lifetimes, Opened, Raced
from shop.users.tokens import digest
from shop.web.answers import answer
from shop.web.api import ETAG, Blueprint
from shop.web.callers import EVERYONE, SIGNED_IN, access_token, current_caller

auth = Blueprint("auth", __name__, description="Signing in")


def _lifetimes() -> Lifetimes:
    lifetimes: Lifetimes = current_app.extensions["lifetimes"]
    return lifetimes


def _tokens(opened: Opened) -> Response:
    tokens = {
        "access_token": access_token(opened.user_id, opened.session_id),
        "refresh_token": opened.refresh_token,
        "token_type": "Bearer",
        "expires_in": current_app.config["ACCESS_TOKEN_SECONDS"],
    }
    return answer(tokens, headers={"Cache-Control": "no-store"})


@contextmanager
def wrong_tokens_are_counted() -> Iterator[None]:
    """Count tokens that are not good, for where they come from; refuse at once who sent many."""
    network = client_network(request)
    current_throttle().check("token-guesses", network)
    try:
        yield
    except BadToken:
        current_throttle().hit("token-guesses", network)
        raise


@auth.post("/auth/login")
@auth.allow(*EVERYONE)
@auth.body(Credentials)
@auth.response(200, Tokens)
@auth.refuses(409, 429)
def login(credentials: dict[str, Any]) -> Response:
    """Sign in with e-mail and password: begins a session.

    ---
    Answers an access token for `Authorization: Bearer ...` and a refresh token for
    `POST /auth/refresh`. A wrong address, a wrong password and a closed account get the same
    answer. Wrong ones are counted, for the address and for where they come from.
    """
    email = normalise_email(credentials["email"])
    user_id, password_hash = checked_guess(email, credentials["password"])
    renewed = hash_password(credentials["password"]) if is_outdated(password_hash) else None
    return _tokens(_open(user_id, password_hash, renewed))


def checked_guess(email: str, password: str) -> tuple[int, str]:
    """Id and password hash of the account behind these credentials.

    Wrong ones are counted, for the account and for where they come from. No transaction is open
    meanwhile.

    Raises:
        BadCredentials: they are wrong, or the account is closed.
        RateLimited: too many were.
    """
    throttle, network = current_throttle(), client_network(request)
    with guessing() as verify:
        throttle.check("sign-in-address", network)
        throttle.check("sign-in-account", email)
        found = read(queries.CREDENTIALS, email=email)
        row = found[0] if found else None
        right = verify(row.password_hash if row else None, password)
        if row is not None and right and not row.disabled:
            return row.id, row.password_hash
        throttle.hit("sign-in-address", network)
        used_up = throttle.hit("sign-in-account", email)
    if used_up:
        transactional(operations.record_lock_out)(db.session(), email)
    raise BadCredentials


@transactional
def _open(user_id: int, password_hash: str, renewed: str | None) -> Opened:
    user = operations.find_with_password(db.session(), user_id, password_hash)
    if renewed is not None:
        user.password_hash = renewed
    return sessions.open_session(
        db.session(),
        user,
        user_agent=request.user_agent.string,
        address=request.remote_addr or "",
        lifetimes=_lifetimes(),
    )


@auth.post("/auth/refresh")
@auth.allow(*EVERYONE)
@auth.body(RefreshIn)
@auth.response(200, Tokens)
@auth.refuses(409, 429)
def refresh(shown: dict[str, Any]) -> Response:
    """Spend a refresh token for a new pair of tokens.

    ---
    Each refresh token is good once; showing a spent one ends its session. Of several requests
    that show the same token at the same moment one gets the new tokens, the others 409: use the
    tokens of that one.
    """
    with wrong_tokens_are_counted():
        outcome = transactional(sessions.refresh)(
            db.session(), shown["refresh_token"], _lifetimes()
        )
        if isinstance(outcome, Raced):
            raise Conflict("Another request is using this token. Use the tokens of its answer.")
        if not isinstance(outcome, Opened):
            raise BadToken("The refresh token is unknown, expired, spent, or its session is over.")
    # See sessions.py: whoever has the new token is past the race for the old one.
    with aside():
        time.sleep(sessions.RACE_SECONDS + 0.01)
    return _tokens(outcome)


@auth.post("/auth/logout")
@auth.allow(*SIGNED_IN)
@auth.response(204)
@transactional
def logout() -> Response:
    """End the session of the access token: none of its tokens holds from now on."""
    caller = current_caller()
    assert caller.id is not None
    sessions.end_sessions(db.session(), caller.id, only=caller.session_id)
    return Response(status=204)


@auth.post("/auth/password/forgot")
@auth.allow(*EVERYONE)
@auth.body(EmailIn)
@auth.response(202)
@auth.refuses(429)
def forgot_password(to: dict[str, Any]) -> Response:
    """Have a code mailed with which a new password can be set.

    ---
    The answer is the same whether there is such an account or not.
    """
    return _ask_for_mail("reset_password", to["email"])


@auth.post("/auth/email/resend")
@auth.allow(*EVERYONE)
@auth.body(EmailIn)
@auth.response(202)
@auth.refuses(429)
def resend_verification(to: dict[str, Any]) -> Response:
    """Have the code mailed again that proves the mailbox of a new account.

    ---
    The answer is the same whether there is such an account or not.
    """
    return _ask_for_mail("verify_email", to["email"])


def may_mail(recipient: str) -> bool:
    """Count a mail to a mailbox that did not ask for it itself; whether it may still be sent."""
    return current_throttle().allows("mail-recipient", recipient)


def _ask_for_mail(kind: str, email: str) -> Response:
    recipient = normalise_email(email)
    current_throttle().hit("mail-address", client_network(request))
    if len(recipient) <= LONGEST_EMAIL and may_mail(recipient):
        # Whether there is an account is looked up when it is sent: looking here would tell.
        transactional(enqueue)(db.session(), kind, recipient)
    return answer({}, 202)


@auth.post("/auth/password/reset")
@auth.allow(*EVERYONE)
@auth.body(PasswordReset)
@auth.response(204)
@auth.refuses(429)
def reset_password(reset: dict[str, Any]) -> Response:
    """Set a new password with a mailed code. All sessions end."""
    with wrong_tokens_are_counted():
        _check_reset(reset["token"], reset["password"])
        password_hash = hash_password(reset["password"])
        transactional(operations.reset_password)(db.session(), reset["token"], password_hash)
    return Response(status=204)


def _check_reset(token: str, password: str) -> None:
    # Before the work of hashing, and so that a bad password does not use the code up.
    found = read(queries.RESET_EMAIL, token_hash=digest(token))
    if not found:
        raise BadOneTimeToken
    check_password(password, email=found[0].email)


@auth.post("/auth/email/verify")
@auth.allow(*EVERYONE)
@auth.body(TokenIn)
@auth.response(200, UserOut, headers=ETAG)
@auth.refuses(409, 429)
def verify_email(shown: dict[str, Any]) -> Response:
    """Prove a mailbox with a mailed code: that of a new account, or the one it changes to."""
    with wrong_tokens_are_counted():
        user = transactional(operations.confirm_email)(db.session(), shown["token"])
    return answer(user_out(user), version=user.version)
