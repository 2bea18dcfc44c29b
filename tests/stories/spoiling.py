"""What can be wrong with a request: bad input of many kinds, by chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

from tests.stories.trace import Parts, Request

_JUNK: tuple[Any, ...] = (
    None, True, 1.5, 0, -1, 2**31, 2**63, 10**40, "", " ", "x" * 21_000, "\0", "a\nb", "\u202e", [],
    {}, [1], {"a": 1}, "1", "'; --", "\x7f", "2026-02-30T00:00:00Z", "😀" * 201, float("nan"),
)  # fmt: skip
_RAW = (
    b"", b"{", b"[]", b"null", b'{"name": NaN}', b'{"name": "\xff"}', b'{"name": "a", "name": "b"}',
    b"[" * 3000, b'{"name": "\\ud800"}', b'"text"', b"{}", b" " * 1_100_000, b'{"rating": 1e400}',
)  # fmt: skip
_QUERIES = (
    ("limit", "0"), ("limit", "101"), ("limit", "ten"), ("limit", "01"), ("limit", "١"),
    ("cursor", "!"), ("cursor", "WyJwcm9kdWN0czpuYW1lIiwiYSIsMV0"), ("cursor", "W10"),
    ("cursor", "WyJwcm9kdWN0czpuZXdlc3QiLDFd"), ("sort", "name'"), ("sort", "price"),
    ("sort", "relevance"), ("unknown", "1"), ("category", "99999"), ("category", "9" * 19),
    ("min_price", "-1"), ("max_price", "1e3"), ("facets", "price,price"), ("status", "Active"),
    ("q", "\0"), ("q", " "), ("attributes", "colour"), ("attributes", "colour:a\\,b"),
)  # fmt: skip
_IDS = ("0", "-1", "01", "9223372036854775807", "9223372036854775808", "nothing", "%20", "1.0")


def spoilt(request: Request, chance: random.Random) -> Request:
    """The request with one thing wrong, or another."""
    ways: list[Callable[[Request, random.Random], Request]] = [_caller, _headers]
    if isinstance(request.json, dict) and request.json:
        ways += [_member, _member, _member, _raw]
    if len(request.url.parts) > 2:
        ways += [_address]
    if "If-Match" in request.headers:
        ways += [_version, _version, _version]
    if request.method == "GET":
        ways += [_query, _query]
    return chance.choice(ways)(request, chance)


def _member(request: Request, chance: random.Random) -> Request:
    """A member that is missing, unknown or something else."""
    body = deepcopy(request.json)
    place = body
    while True:
        inner = [part for part in _parts(place) if isinstance(part, dict | list) and part]
        if not inner or chance.random() < 0.4:
            break
        place = chance.choice(inner)
    key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
    way = chance.randrange(6)
    if way == 0:
        del place[key]
    elif way == 1 and isinstance(place, dict):
        place[chance.choice(("unknown", "id", "version", "__proto__"))] = chance.choice(_JUNK)
    else:
        place[key] = chance.choice(_JUNK)
    return replace(request, json=body)


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def _raw(request: Request, chance: random.Random) -> Request:
    kind = chance.choice(("application/json",) * 4 + ("text/plain", "application/xml", ""))
    headers = request.headers | {"Content-Type": kind}
    return replace(request, json=None, raw=chance.choice(_RAW), headers=headers)


def _caller(request: Request, chance: random.Random) -> Request:
    headers = {name: it for name, it in request.headers.items() if name != "Authorization"}
    if chance.random() < 0.6:
        headers["Authorization"] = chance.choice(("Bearer x", "Basic YTpi", "Bearer", "shop_x_y"))
    return replace(request, headers=headers)


def _headers(request: Request, chance: random.Random) -> Request:
    odd = {
        "If-Match": ('"99"', "1", "", 'W/"1"', '"x"'),
        "If-None-Match": ("*", '"x"', "x"),
        "Idempotency-Key": ("", " ", "ö", "k" * 256, "k"),
        "Accept": ("text/html", "*/*"),
    }
    name = chance.choice(sorted(odd))
    headers = {key: value for key, value in request.headers.items() if key != name}
    return replace(request, headers=headers | {name: chance.choice(odd[name])})


def _version(request: Request, chance: random.Random) -> Request:
    """None, or a stale one."""
    headers = {name: it for name, it in request.headers.items() if name != "If-Match"}
    stale = {"If-Match": '"99"'} if chance.random() < 0.5 else {}
    return replace(request, headers=headers | stale)


def _address(request: Request, chance: random.Random) -> Request:
    first, second, _, *rest = request.url.parts
    return replace(request, url=Parts((first, second, chance.choice(_IDS), *rest)))


def _query(request: Request, chance: random.Random) -> Request:
    return replace(request, query=(*request.query, chance.choice(_QUERIES)))
