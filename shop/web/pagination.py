"""Keyset pagination: one implementation for every list. The last page costs what the first does."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import Response, request

from shop.errors import Fault, Invalid
from shop.web.answers import answer
from shop.web.fields import Code, QueryInteger, StrictSchema

Key = tuple[int | str, ...]


class PageQuery(StrictSchema):
    """`limit` and `cursor` of every list."""

    limit = QueryInteger(
        1, 100, load_default=20, metadata={"description": "How many items, 1 to 100."}
    )
    cursor = Code(
        r"^[A-Za-z0-9_-]+$",
        500,
        metadata={"description": "`next_cursor` of the page before, as it is."},
    )


def encode_cursor(scope: str, key: Key) -> str:
    """An opaque cursor: the list it belongs to and the sort key of its last item."""
    return base64.urlsafe_b64encode(orjson.dumps([scope, *key])).rstrip(b"=").decode()


def decode_cursor(scope: str, cursor: str, kinds: Sequence[type]) -> Key:
    """The sort key in a cursor of the list `scope`.

    Raises:
        Invalid: it is broken, or of another list or order.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        found = None
    if (
        not isinstance(found, list)
        or found[:1] != [scope]
        or [type(part) for part in found[1:]] != list(kinds)
        or any(isinstance(part, int) and not -(2**63) <= part < 2**63 for part in found[1:])
    ):
        fault = Fault("/cursor", "Not a cursor of this list. Start without one.")
        raise Invalid("The cursor cannot be used here.", faults=(fault,))
    return tuple(found[1:])


def page(
    rows: Sequence[Any],
    limit: int,
    *,
    scope: str,
    key: Callable[[Any], Key],
    shape: Callable[[Sequence[Any]], list[dict[str, Any]]],
    more: Mapping[str, Any] | None = None,
) -> Response:
    """Answer with one page. `rows` holds up to `limit + 1` rows: one more says there is more.

    `more` are members of the answer besides `items` and `next_cursor`.
    """
    shown = rows[:limit]
    following = encode_cursor(scope, key(shown[-1])) if len(rows) > limit else None
    headers = {}
    if following is not None:
        query = urlencode({**request.args.to_dict(), "cursor": following})
        headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    body = {"items": shape(shown), "next_cursor": following, **(more or {})}
    return answer(body, headers=headers)
