"""Problems: every refusal leaves the process as RFC 9457 `application/problem+json`."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

import orjson
from flask import Blueprint, Flask, Response, abort, current_app
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException, InternalServerError

from shop import logs, provenance
from shop.db import is_away
from shop.errors import BadToken, Fault, Refusal, Unavailable

log = logs.get(__name__)

CONTENT_TYPE = "application/problem+json"

#: slug: (status, title, what it means and what to do). Also the pages at /problems/<slug>.
PROBLEMS: dict[str, tuple[int, str, str]] = {
    "malformed": (400, "The request cannot be read",
        "The message is not what it claims to be: not JSON, not UTF-8, or a broken header."),
    "idempotency-key-required": (400, "Give the request a key",
        "Send `Idempotency-Key` with a new random value, and the same one when you send it again."),
    "unauthenticated": (401, "Sign in first",
        "Send an access token: `Authorization: Bearer ...`, from `POST /api/v1/auth/login`."),
    "forbidden": (403, "Your role may not do this",
        "Each operation of the OpenAPI document lists the roles that may call it (`x-roles`)."),
    "not-found": (404, "There is no such thing",
        "Nothing is there, or you may not know of it."),
    "method-not-allowed": (405, "This address does not take that method",
        "The `Allow` header lists the methods that it takes."),
    "conflict": (409, "The present state of the shop is against it",
        "A value that must be unique is taken, say. Change the request or the state, try again."),
    "out-of-stock": (409, "Less is there than you want",
        "`detail` says how many are there. Ask for fewer, or wait until there are more."),
    "price-changed": (409, "The price is not what you take it for",
        "`total` and `items` say what it is now. Show it to the buyer and order again."),
    "invalid-transition": (409, "The order is not in a state for this",
        "Read the order: `next_actions` lists what can be done with it."),
    "idempotency-in-progress": (409, "A request with this key is being worked on",
        "Send the same request again after `Retry-After`: then you get its answer, or it runs."),
    "gone": (410, "It is there no more",
        "It was removed for its age. `detail` says from where on there is something."),
    "version-conflict": (412, "Somebody changed it meanwhile",
        "The version in `If-Match` is not the present one. Read again, apply your change, retry."),
    "too-large": (413, "The request is too large",
        "The body is over the limit of this shop. Send less at once."),
    "unsupported-media-type": (415, "Send JSON",
        "The body must be `Content-Type: application/json`, without a content encoding."),
    "validation": (422, "Some values are not allowed",
        "`errors` lists each one with a JSON pointer into your body, or the parameter's name."),
    "idempotency-mismatch": (422, "This key belongs to another request",
        "An `Idempotency-Key` is for one request and its repetitions. Take a new one."),
    "version-required": (428, "Say which version you mean to change",
        "Send the `ETag` of what you read as `If-Match`, so that no edit is overwritten."),
    "rate-limited": (429, "It was tried too often",
        "Wait as many seconds as `Retry-After` says, then send the same request again."),
    "internal": (500, "The shop made a mistake",
        "It is logged under the request id of this answer."),
    "unavailable": (503, "The shop cannot answer just now",
        "Something that it needs is away. Send the same request again after `Retry-After`."),
}  # fmt: skip

#: A request can be wrong in a million places; whoever sent it reads the first ones.
_MOST_FAULTS = 100
_SLUG_OF_STATUS = {status: slug for slug, (status, _, _) in reversed(PROBLEMS.items())}
pages = Blueprint("problems", __name__)


def problem(
    slug: str,
    detail: str | None = None,
    *,
    faults: tuple[Fault, ...] = (),
    status: int | None = None,
    headers: dict[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """An answer of type `/problems/<slug>`, with `members` of its own."""
    usual_status, title, meaning = PROBLEMS[slug]
    body: dict[str, Any] = {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status or usual_status,
        "detail": detail or meaning,
        "request_id": provenance.request_id.get(),
    }
    if faults:
        body["errors"] = [{"pointer": f.pointer, "message": f.message} for f in faults]
    body |= members or {}
    return Response(orjson.dumps(body), body["status"], headers, content_type=CONTENT_TYPE)


def register(app: Flask) -> None:
    """Turn every error of the app into a problem."""
    app.register_error_handler(Refusal, _on_refusal)
    app.register_error_handler(ValidationError, _on_invalid)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_surprise)
    app.register_blueprint(pages)


def _on_refusal(refusal: Refusal) -> Response:
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.slug == "unauthenticated":
        error = ', error="invalid_token"' if isinstance(refusal, BadToken) else ""
        headers["WWW-Authenticate"] = f'Bearer realm="shop"{error}'
    return problem(
        refusal.slug, refusal.detail, faults=refusal.faults, headers=headers,
        members=refusal.members,
    )  # fmt: skip


def _on_invalid(error: ValidationError) -> Response:
    return problem("validation", faults=faults_of(error, _MOST_FAULTS))


def faults_of(error: ValidationError, most: int) -> tuple[Fault, ...]:
    """What is wrong with each value, at most so many of them."""
    return tuple(_faults(error.messages, ""))[:most]


def _on_http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:
        return Response(status=status, headers=_kept_headers(error))
    slug = _SLUG_OF_STATUS.get(status, "internal" if status >= 500 else "malformed")
    detail = error.description if status in (400, 415) else None
    return problem(slug, detail, status=status, headers=_kept_headers(error))


def _kept_headers(error: HTTPException) -> dict[str, str]:
    kept = ("Allow", "Retry-After", "WWW-Authenticate", "Location")
    return {name: value for name, value in error.get_headers() if name in kept}


def _on_surprise(error: Exception) -> Response:
    if is_away(error):
        log.warning("database.away", reason=type(error).__name__)
        return _on_refusal(Unavailable("The database cannot be reached just now."))
    if current_app.config["PROPAGATE_ERRORS"]:
        raise error
    original = error.original_exception if isinstance(error, InternalServerError) else error
    log.error("request.failed", exc_info=original)
    return problem("internal")


def _faults(messages: Any, pointer: str) -> list[Fault]:
    """marshmallow's tree of messages as a flat list with JSON pointers."""
    if isinstance(messages, dict):
        return [
            fault
            for key, value in messages.items()
            for fault in _faults(value, pointer if key == "_schema" else f"{pointer}/{_token(key)}")
        ]
    if isinstance(messages, list):
        return [fault for message in messages for fault in _faults(message, pointer)]
    return [Fault(pointer, str(messages))]


def _token(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


@pages.get("/problems/<slug>")
def problem_page(slug: str) -> Response:
    """What a problem type means."""
    if slug not in PROBLEMS:
        abort(404)
    status, title, meaning = PROBLEMS[slug]
    phrase = http.HTTPStatus(status).phrase
    text = f"{title}\n\nHTTP status {status} {phrase}\nType /problems/{slug}\n\n{meaning}\n"
    return Response(text, content_type="text/plain; charset=utf-8")
