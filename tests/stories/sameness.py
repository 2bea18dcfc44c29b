"""Answers in a form that is the same for two shops that did the same.

Ids and what chance made are told by where they were seen first: number 3 of its kind is number 3
at both shops, whatever its id is. Everything else, times and order of members included, stays.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections import defaultdict
from typing import Any

from tests.stories.trace import Answer

#: What chance makes, by the name of the member.
_BY_CHANCE = {
    "access_token",
    "refresh_token",
    "token",
    "key",
    "lookup",
    "number",
    "reference",
    "signature",
}
_KINDS = {
    "parent_id": "categories", "category_id": "categories", "category": "categories",
    "product_id": "products", "variant_id": "variants", "user_id": "users", "order_id": "orders",
    "order": "orders", "ad_id": "ads",
}  # fmt: skip
_COLLECTIONS = {
    "users", "addresses", "sessions", "api-keys", "products", "imports", "exports", "variants",
    "movements", "categories", "attributes", "reviews", "reports", "errors", "orders", "payments",
    "refunds", "ads", "notifications", "messages",
}  # fmt: skip
_HEADERS = (
    "Content-Type", "Location", "Link", "Allow", "Retry-After", "Cache-Control", "Vary",
    "Last-Modified", "WWW-Authenticate", "Idempotency-Replayed", "X-Request-ID",
    "Content-Disposition",
)  # fmt: skip
_SLUG_BY_CHANCE = re.compile(r"(?<=-)[0-9a-f]{8}$")
_IN_A_PATH = re.compile(
    r"\b(users|products|variants|categories|reviews|attributes|imports|exports|addresses|api-keys"
    r"|orders|payments|ads|messages)"
    r"/([1-9]\d*)\b"
)
_IN_A_SENTENCE = re.compile(
    r"\b(account|API key|product|variant|category|review|attribute|import|export|order"
    r"|payment|refund|ad|notification|message) ([1-9]\d*)\b"
)
_REFERENCE = re.compile(r"\b(?:pay|re)_[A-Za-z0-9_-]{22}")
_IN_A_FILE_NAME = re.compile(r"(?<=filename=products-)\d+")
_CURSOR = re.compile(r"(?<=cursor=)[A-Za-z0-9_-]+")


class Normal:
    """The normal forms of one shop's answers, which must come in their order."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, dict[Any, int]] = defaultdict(dict)

    def of(self, answer: Answer) -> str:
        """Status, headers and body of an answer, in lines."""
        kind = _kind(answer.path)
        headers = {name: self._text(answer.headers.get(name, "")) for name in _HEADERS}
        tag = answer.headers.get("ETag", "")
        if answer.path.endswith("/file"):
            # That of the file on the disk, which has a clock of its own.
            headers["Last-Modified"] = ""
        # The digest is that of a body with the ids in it.
        headers["ETag"] = re.sub(r"(^\"|-)[0-9a-f]{16}\"$", r"\1...", tag)
        body = self._value(_read(answer), "", kind)
        lines = [str(answer.status), *(f"{name}: {it}" for name, it in headers.items() if it)]
        if isinstance(body, str):
            return "\n".join([*lines, body])
        return "\n".join([*lines, json.dumps(body, ensure_ascii=False, indent=1)])

    def _value(self, value: Any, name: str, kind: str) -> Any:
        if isinstance(value, dict):
            inner = kind if name in ("", "items") else _KINDS.get(name, name)
            return {key: self._value(part, key, inner) for key, part in value.items()}
        if isinstance(value, list):
            # Members of a list of things are called as the list is.
            return [self._value(part, name, kind) for part in value]
        if isinstance(value, str):
            return self._string(value, name)
        is_id = name == "id" or name in _KINDS or name == "created_by"
        if is_id and kind == "rows":
            # Products and variants stand side by side.
            return "<row>"
        if is_id and type(value) is int:
            return self._label(_KINDS.get(name, "users" if name == "created_by" else kind), value)
        return value

    def _string(self, value: str, name: str) -> str:
        if name in _BY_CHANCE:
            return self._label(name, value)
        if name == "next_cursor":
            return self._cursor(value)
        if name == "slug":
            return _SLUG_BY_CHANCE.sub(lambda found: self._label("slug", found[0]), value)
        if name in _KINDS and value.isdecimal():
            return self._label(_KINDS[name], int(value))
        return self._text(value)

    def _text(self, text: str) -> str:
        text = _CURSOR.sub(lambda found: self._cursor(found[0]), text)
        text = _REFERENCE.sub(lambda found: self._label("reference", found[0]), text)
        text = _IN_A_FILE_NAME.sub(lambda found: self._label("exports", int(found[0])), text)
        text = _IN_A_SENTENCE.sub(
            lambda found: f"{found[1]} {self._label(_plural(found[1]), int(found[2]))}", text
        )
        return _IN_A_PATH.sub(
            lambda found: f"{found[1]}/{self._label(found[1], int(found[2]))}", text
        )

    def _cursor(self, cursor: str) -> str:
        scope, *key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        # A rating or a price may be among the numbers: numbering them tells as much.
        parts = [
            self._label(f"{scope} {place}", part) if isinstance(part, int) else part
            for place, part in enumerate(key)
        ]
        return f"<cursor {scope} {parts}>"

    def _label(self, kind: str, value: Any) -> str:
        seen = self._seen[kind]
        return f"<{kind} {seen.setdefault(value, len(seen) + 1)}>"


def _plural(name: str) -> str:
    odd = {"account": "users", "API key": "api-keys", "category": "categories"}
    return odd.get(name, f"{name}s")


def _kind(path: str) -> str:
    """What the things are that are answered at this address."""
    if path.endswith("/bulk"):
        return "rows"
    named = [part for part in path.split("/") if part in _COLLECTIONS]
    return named[-1] if named else path


def _read(answer: Answer) -> Any:
    """The body; of a file of products its rows, of the log what does not tell ids."""
    if answer.path.endswith("/audit") and answer.status == 200:
        told = ("table", "sequence", "action", "type", "actor", "position", "sinks")
        items = [{name: item[name] for name in told} for item in answer.body["items"]]
        return answer.body | {"items": items}
    if not answer.path.endswith("/file") or answer.status != 200:
        return answer.body
    if answer.headers["Content-Type"].startswith("text/csv"):
        return list(csv.DictReader(io.StringIO(answer.body)))
    return [json.loads(line) for line in answer.body.splitlines()]
