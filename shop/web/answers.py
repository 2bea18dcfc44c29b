"""Answers: JSON by orjson, entity tags, conditional requests."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from typing import Any

import orjson
from flask import Flask, Response, current_app, request
from flask.json.provider import JSONProvider

from shop import clock
from shop.errors import VersionConflict, VersionRequired

# A time without zone comes straight from a row, and rows are in UTC.
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
_TAG_VERSION = re.compile(r'(?:W/)?"(\d{1,18})(?:-[0-9a-f]*)?"\Z', re.ASCII)

#: After so long nothing is changed any more in the second that is over, on any clock of the shop's.
_SETTLED = timedelta(seconds=3)


class OrjsonProvider(JSONProvider):
    """orjson for everything that Flask itself turns into JSON or reads from it."""

    def dumps(self, obj: Any, *, indent: int | None = None, **_kwargs: Any) -> str:
        option = _OPTIONS | orjson.OPT_INDENT_2 if indent else _OPTIONS
        return orjson.dumps(obj, option=option).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        body = self._prepare_response_obj(args, kwargs)
        return Response(orjson.dumps(body, option=_OPTIONS), mimetype="application/json")


def use_orjson(app: Flask) -> None:
    """Make orjson the app's JSON."""
    app.json_provider_class = OrjsonProvider
    app.json = OrjsonProvider(app)


def answer(
    body: Any,
    status: int = 200,
    *,
    version: int | None = None,
    modified: datetime | None = None,
    location: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A JSON answer with an entity tag; 304 when a GET already has what it would get.

    The tag is `"<version>-<digest of the body>"`, without version just the digest: what is shown
    (availability, say) can change without an edit of the resource itself. So give `modified` only
    where every change of the body moves it.
    """
    raw = orjson.dumps(body, option=_OPTIONS)
    # gunicorn and proxies need no transfer coding for a body of known length.
    response = Response(raw, status, headers, content_type="application/json")
    digest = hashlib.blake2b(raw, digest_size=8).hexdigest()
    tag = digest if version is None else f"{version}-{digest}"
    response.headers["ETag"] = f'"{tag}"'
    if modified is not None and (second := _whole_second(modified)) is not None:
        response.last_modified = second
    if location is not None:
        response.headers["Location"] = location
        response.autocorrect_location_header = False
    if request.method in ("GET", "HEAD") and _has_it(tag, response.last_modified):
        response.status_code = 304
        response.set_data(b"")
        del response.headers["Content-Type"]
    return response


def _whole_second(modified: datetime) -> datetime | None:
    """The second of a change, once it is over: within it there may be another change."""
    second = modified.replace(microsecond=0)
    return second if clock.now() - second >= _SETTLED else None


def _has_it(tag: str, modified: datetime | None) -> bool:
    """Whether the client has what it would get (RFC 9110, 13.2.2): the date counts without tag."""
    if "If-None-Match" in request.headers:
        return request.if_none_match.contains_weak(tag)
    since = request.if_modified_since
    return modified is not None and since is not None and modified <= since


def moved_to(location: str) -> Response:
    """It is elsewhere, and has been for good."""
    response = Response(status=301, headers={"Location": location})
    response.autocorrect_location_header = False
    del response.headers["Content-Type"]
    return response


def let_caches_keep(response: Response) -> Response:
    """Let caches on the way keep what somebody without `Authorization` gets.

    Who shows who he is may get something else, which no cache keeps (`web.requests`).
    """
    response.vary.add("Authorization")
    if current_app.config["ALLOWS_ORIGINS"]:
        # Also when nobody named an origin: the next one to ask may be a browser that does.
        response.vary.add("Origin")
    if request.method in ("GET", "HEAD") and "Authorization" not in request.headers:
        seconds = current_app.config["PUBLIC_CACHE_SECONDS"]
        stale = f"max-age={seconds}, stale-while-revalidate={3 * seconds}"
        response.headers["Cache-Control"] = f"public, {stale}" if seconds else "no-cache"
    return response


def check_version(current: int, *, required: bool = False) -> None:
    """Compare `If-Match` with the version of what is about to change.

    Takes the tag of a GET (its version part counts), a bare `"<version>"`, a list, or `*`.

    Raises:
        VersionRequired: none was sent and one is required.
        VersionConflict: it names another version.
    """
    header = request.headers.get("If-Match", "").strip()
    if not header:
        if required:
            raise VersionRequired("Send the ETag of what you read as If-Match.")
        return
    if header == "*":
        return
    tags = [_TAG_VERSION.match(tag.strip()) for tag in header.split(",")]
    if not any(tag is not None and int(tag[1]) == current for tag in tags):
        raise VersionConflict(
            f"If-Match does not name the present version, which is {current}. Read it again."
        )
