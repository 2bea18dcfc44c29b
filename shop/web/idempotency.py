"""`Idempotency-Key`: a request that is sent again has its effect once and gets the same answer.

A key belongs to its caller and to one operation. It is claimed before the view runs, in a short
transaction of its own, and for a limited time. The view keeps its answer under the key in the
transaction of its effects (`keep_answer`); any other answer frees the key.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import orjson
from flask import Flask, Response, current_app, g, request
from sqlalchemy.exc import SQLAlchemyError

from shop import logs
from shop.bundles import Bundle
from shop.db import reason
from shop.errors import Malformed, Refusal, Unavailable
from shop.web.bodies import body_value
from shop.web.callers import View, current_caller

log = logs.get(__name__)

HEADER = "Idempotency-Key"
LONGEST_KEY = 255
#: Printable ASCII, without a space at either end: proxies may take those away.
PATTERN = rf"^[!-~]([ -~]{{0,{LONGEST_KEY - 2}}}[!-~])?$"
REPLAYED = "Idempotency-Replayed"

#: The mark of a view that takes keys.
TAKES_KEYS = "takes_idempotency_keys"

_KEY = re.compile(PATTERN.replace("$", r"\Z"))
_KEPT_HEADERS = ("Content-Type", "ETag", "Location")


class KeyRequired(Refusal):
    """The operation is only for requests that can be sent twice safely."""

    slug = "idempotency-key-required"


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer under a key; `headers` is a JSON object."""

    status: int
    headers: str
    body: str


class Keys(Protocol):
    """Where keys are claimed; see `shop.idempotency.keys`. A claim is whatever it answers."""

    def claim(self, caller: str, operation: str, key: str, fingerprint: str) -> Any:
        """A claim, or the `Kept` answer of an earlier request."""

    def keep(self, claim: Any, answer: Kept, bundle: Bundle | None = None) -> None:
        """Keep an answer in the transaction that runs, with the rest of a bundle."""

    def free(self, claim: Any) -> None:
        """Let the key be used again, unless an answer is kept under it."""


def register(app: Flask, keys: Keys) -> None:
    """Make these the keys of the app."""
    app.extensions["idempotency"] = keys


def _keys() -> Keys:
    return cast(Keys, current_app.extensions["idempotency"])


def once(view: View, *, required: bool, guest: Callable[[], str | None] | None) -> View:
    """The view, run once for each key.

    `guest` names callers without an account, such as `carts/5`; without one they have no keys.

    Raises:
        KeyRequired: there is no key.
        Malformed: the key is not one, or it is nobody's.
    """

    @functools.wraps(view)
    def run(*args: Any, **kwargs: Any) -> Any:
        key = request.headers.get(HEADER)
        if key is None:
            if required:
                raise KeyRequired(f"Send {HEADER} with a value that no other request has.")
            return view(*args, **kwargs)
        if not _KEY.match(key):
            raise Malformed(f"{HEADER} takes 1 to {LONGEST_KEY} printable ASCII characters.")
        found = _keys().claim(_caller(guest), _operation(), key, _fingerprint())
        return _replay(found) if isinstance(found, Kept) else _run(found, view, args, kwargs)

    setattr(run, TAKES_KEYS, True)
    return cast(View, run)


def _caller(guest: Callable[[], str | None] | None) -> str:
    name = current_caller().name or (guest() if guest is not None else None)
    if name is None:
        raise Malformed(f"{HEADER} is for callers who can be told apart: sign in, or leave it out.")
    return name


def _operation() -> str:
    return f"{request.method} {request.url_rule}"


def _fingerprint() -> str:
    """What makes a request the same: its address and the value of its body.

    The value and not the bytes, so that a client may write the same JSON in another way.
    """
    value = orjson.dumps(body_value(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(request.full_path.encode() + b"\n" + value).hexdigest()


def _run(claim: Any, view: View, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    g.idempotency_claim, g.idempotency_kept = claim, None
    try:
        answer = view(*args, **kwargs)
    except BaseException:
        # Whether a commit that broke has happened after all is known to the database: freeing
        # leaves a key alone under which an answer is kept.
        _free(claim)
        raise
    else:
        if g.idempotency_kept is not answer:
            _free(claim)
        return answer
    finally:
        del g.idempotency_claim, g.idempotency_kept


def _free(claim: Any) -> None:
    # The answer is more important, and a claim ends by itself.
    with contextlib.suppress(Unavailable):
        try:
            _keys().free(claim)
        except SQLAlchemyError as error:
            log.warning("idempotency.not-freed", reason=reason(error))


def keep_answer(answer: Response, bundle: Bundle | None = None) -> Response:
    """Keep this answer under the key of the request, if it has one; answers it.

    Call it last inside the transaction of the effects, or with a bundle that is sent there. When
    the claim was lost meanwhile it refuses, so that they are rolled back.
    """
    claim = g.get("idempotency_claim")
    if claim is not None:
        headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
        body = answer.get_data(as_text=True)
        _keys().keep(claim, Kept(answer.status_code, orjson.dumps(headers).decode(), body), bundle)
        g.idempotency_kept = answer
    return answer


def _replay(kept: Kept) -> Response:
    headers = orjson.loads(kept.headers) | {REPLAYED: "true"}
    answer = Response(kept.body, kept.status, headers)
    answer.autocorrect_location_header = False
    return answer
