"""What happens around each request: its id, limits and the headers of every answer."""

from __future__ import annotations

import re
import secrets
from typing import Any

from flask import Flask, Response, request
from flask.sessions import SessionInterface
from werkzeug.routing import BaseConverter, Map

from shop import provenance, turns
from shop.counters import UNMATCHED, counters
from shop.errors import Malformed
from shop.web.fields import LARGEST_ID, read_id

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z", re.ASCII)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOTHING_LOADS = "default-src 'none'; frame-ancestors 'none'"


#: No row has it.
NO_ID = 0


class IdConverter(BaseConverter):
    """A row id in a path. What is none becomes `NO_ID`, for a 404 *after* asking who calls.

    `beside` are words, by `|`, that are paths of their own: `<id(beside="bulk"):id>`.
    """

    def __init__(self, map: Map, beside: str = "") -> None:
        super().__init__(map)
        self.regex = _but(beside)

    def to_python(self, value: str) -> int:
        try:
            return read_id(value)
        except ValueError:
            return NO_ID


class NameConverter(BaseConverter):
    """An id or a name in a path; `beside` as for ids."""

    def __init__(self, map: Map, beside: str = "") -> None:
        super().__init__(map)
        self.regex = _but(beside)


def _but(words: str) -> str:
    """A part of a path that is none of these words: whoever asks for them is told what they are."""
    return rf"(?!(?:{words})$)[^/]+" if words else "[^/]+"


class NoCookies(SessionInterface):
    """The shop reads and sets no cookie: only the Authorization header says who calls."""

    def open_session(self, *_what: Any) -> None:
        """There is none."""


def last_event_id() -> int | None:
    """The last event that a client of a stream has, if it says so. Raises Malformed."""
    header = request.headers.get("Last-Event-ID", "")
    try:
        return read_id(header) if header else None
    except ValueError:
        raise Malformed("Last-Event-ID is the id of an event of this stream.") from None


def document_id(_converter: IdConverter) -> dict[str, Any]:
    """For OpenAPI: the schema of a path id."""
    return {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}


def document_name(_converter: NameConverter) -> dict[str, Any]:
    """For OpenAPI: the schema of an id or a name in a path."""
    return {"type": "string", "minLength": 1}


def register(app: Flask) -> None:
    """Install the id converter and the hooks."""
    app.session_interface = NoCookies()
    app.url_map.converters |= {"id": IdConverter, "name": NameConverter}
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.before_request(_name_request)
    app.after_request(_complete)


def _name_request() -> None:
    given = request.headers.get("X-Request-ID", "")
    provenance.request_id.set(given if _SANE_ID.match(given) else secrets.token_hex(12))
    provenance.actor.set(None)


def _complete(response: Response) -> Response:
    headers = response.headers
    if response.status_code == 204:
        headers.pop("Content-Type", None)
    headers["X-Request-ID"] = provenance.request_id.get() or ""
    for name, value in _HEADERS.items():
        headers[name] = value
    headers.setdefault("Content-Security-Policy", _NOTHING_LOADS)
    if request.is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    if len(vary := headers.getlist("Vary")) > 1:
        # Some clients and caches look at the first one only.
        headers["Vary"] = ", ".join(vary)
    if "Authorization" in request.headers or response.status_code >= 400:
        headers["Cache-Control"] = "no-store"
    # By its route, not its address: there are so many routes, and any number of addresses.
    rule = UNMATCHED if request.url_rule is None else request.url_rule.rule
    counters.count(request.method, rule, response.status_code, turns.seconds_here())
    return response
