"""Reading request bodies: strict JSON, quickly refused when hostile."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, ClassVar

import orjson
from flask import Request, request
from marshmallow import Schema
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from shop.errors import Fault, Invalid, Malformed
from shop.web.plain import loading

#: Where the WSGI environment remembers what the body says.
_VALUE = "shop.body"


class _DuplicateKey(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKey
    return found


def read_json(raw: bytes) -> Any:
    """Parse strict JSON (RFC 8259, UTF-8, no duplicate keys, some hundred levels deep).

    Raises:
        Malformed: it is not that.
    """
    try:
        # orjson refuses depth, NaN, infinities, BOMs, UTF-16 and lone surrogates, so that the
        # standard parser, which alone can see duplicate keys, then meets nothing hostile.
        value = orjson.loads(raw)
        # What is written again in the same way has lost no key; to see that costs a tenth.
        if _written(value) != raw.rstrip(b"\r\n"):
            json.loads(raw, object_pairs_hook=_unique, parse_int=len)
    except _DuplicateKey as error:
        raise Malformed("The body has the same key twice in one object.") from error
    except (ValueError, RecursionError) as error:
        raise Malformed("The body is not valid JSON in UTF-8.") from error
    return value


def _written(value: Any) -> bytes | None:
    try:
        return orjson.dumps(value)
    except TypeError:
        # It reads deeper than it writes.
        return None


def _read(req: Request) -> bytes:
    raw = req.get_data(cache=False)
    # Werkzeug cuts a body whose length was not announced at the limit, without a word.
    terminated = "wsgi.input_terminated" in req.environ
    if terminated and len(raw) == req.max_content_length and req.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge
    return raw


def _json_object(req: Request) -> Any:
    if req.mimetype != "application/json" or req.headers.get("Content-Encoding"):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    charset = req.mimetype_params.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("JSON is UTF-8.")
    value = read_json(_read(req))
    req.environ[_VALUE] = value
    if not isinstance(value, dict):
        raise Invalid("The body must be a JSON object.", faults=(Fault("", "Not an object."),))
    return value


def body_value() -> Any:
    """The JSON value of the body that was read for this request; None when none was."""
    return request.environ.get(_VALUE)


def _query(req: Request) -> Any:
    arguments: MultiDict[str, str] = req.args
    twice = [key for key, values in arguments.lists() if len(values) > 1]
    if twice:
        faults = tuple(Fault(f"/{key}", "Given more than once.") for key in twice)
        raise Invalid("A query parameter is given more than once.", faults=faults)
    return arguments.to_dict()


class StrictParser:
    """What flask-smorest asks of webargs, with strict reading and without its detours.

    Unknown fields are refused by the schemas (`StrictSchema`), with marshmallow's ValidationError.
    """

    DEFAULT_VALIDATION_STATUS = 422
    _READERS: ClassVar = {"json": _json_object, "query": _query}

    def use_args(self, schema: Schema, *, location: str, as_kwargs: bool = False) -> Any:
        """A decorator that loads the body or the query and gives it to the view."""
        read, load = self._READERS[location], schema.load if as_kwargs else loading(schema)

        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(view)
            def parsed(*args: Any, **kwargs: Any) -> Any:
                data = load(read(request))
                return view(*args, **kwargs, **data) if as_kwargs else view(data, *args, **kwargs)

            return parsed

        return decorate
