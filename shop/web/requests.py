"""What happens around each request: its id, limits and the headers of every answer."""

from __future__ import annotations

import re
import secrets
from typing import Any

from flask import Flask, Response, request
from werkzeug.routing import BaseConverter, ValidationError

from shop import provenance
from shop.web.fields import LARGEST_ID

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z", re.ASCII)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOTHING_LOADS = "default-src 'none'; frame-ancestors 'none'"


class IdConverter(BaseConverter):
    """A row id in a path: ASCII digits, 1 to 2^63 - 1, one spelling for each id."""

    regex = "[1-9][0-9]{0,18}"

    @classmethod
    def read(cls, text: str) -> int:
        """The id that is spelt so. Raises ValueError: none is."""
        # Looked at before it becomes a number: Python refuses thousands of digits its own way.
        if not re.fullmatch(cls.regex, text) or (number := int(text)) > LARGEST_ID:
            raise ValueError("not the spelling of an id")
        return number

    def to_python(self, value: str) -> int:
        try:
            return self.read(value)
        except ValueError as error:
            raise ValidationError from error


def document_id(_converter: IdConverter) -> dict[str, Any]:
    """For OpenAPI: the schema of a path id."""
    return {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}


def register(app: Flask) -> None:
    """Install the id converter and the hooks."""
    app.url_map.converters["id"] = IdConverter
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
    headers["X-Request-ID"] = provenance.request_id.get() or ""
    for name, value in _HEADERS.items():
        headers[name] = value
    headers.setdefault("Content-Security-Policy", _NOTHING_LOADS)
    if "Authorization" in request.headers or response.status_code >= 400:
        headers["Cache-Control"] = "no-store"
    return response
