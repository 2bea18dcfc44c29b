"""Strict fields: a value is taken as it is or refused, never bent into shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flask import current_app
from marshmallow import RAISE, Schema, fields, validate

#: What MariaDB's BIGINT and SQLite's INTEGER hold, less nothing: 2^63 - 1.
LARGEST_ID = 2**63 - 1
#: Far above any price, far below overflow: amounts can be multiplied and summed safely.
LARGEST_AMOUNT = 10**12

_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,18})\Z", re.ASCII)
# C0 controls other than tab and line feed, DEL, and surrogates never make sense in a text.
_TEXT = r"^[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]*$"
_LINE = r"^[^\x00-\x1f\x7f\ud800-\udfff]*[^\x00-\x20\x7f\ud800-\udfff][^\x00-\x1f\x7f\ud800-\udfff]*$"


class StrictSchema(Schema):
    """Unknown fields are refused."""

    class Meta:
        unknown = RAISE


class Integer(fields.Integer):
    """A JSON integer: no 1.0, no "5", no true. `low` and `high` are inclusive."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(validate=validate.Range(low, high), **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if type(value) is not int:
            raise self.make_error("invalid", input=value)
        return value


class QueryInteger(fields.Integer):
    """A whole number in a query string: ASCII digits only, no plus, no leading zero."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(validate=validate.Range(low, high), **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not _DIGITS.match(value):
            raise self.make_error("invalid", input=value)
        return int(value)


class Text(fields.String):
    """Text of several lines, without control characters; surrounding space is dropped."""

    pattern = _TEXT

    def __init__(self, longest: int, shortest: int = 0, **kwargs: Any) -> None:
        rules = [
            validate.Length(shortest, longest),
            validate.Regexp(self.pattern, error="Has characters that a text cannot have."),
        ]
        super().__init__(validate=rules, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        return value.strip()


class Line(Text):
    """Text of one line with something visible in it."""

    pattern = _LINE

    def __init__(self, longest: int, **kwargs: Any) -> None:
        super().__init__(longest, 1, **kwargs)


class Secret(fields.String):
    """A password or the like: taken as it is, space and all."""

    def __init__(self, longest: int, **kwargs: Any) -> None:
        super().__init__(validate=validate.Length(1, longest), **kwargs)


class Code(fields.String):
    """A code: `pattern` decides, nothing is dropped or folded."""

    def __init__(self, pattern: str, longest: int, **kwargs: Any) -> None:
        rules = [validate.Length(1, longest), validate.Regexp(pattern, error="Not of this form.")]
        super().__init__(validate=rules, **kwargs)


class Choice(fields.String):
    """One of a few words."""

    def __init__(self, words: Sequence[str], **kwargs: Any) -> None:
        super().__init__(validate=validate.OneOf(words), **kwargs)


class Currency(fields.String):
    """The shop's currency (ISO 4217); any other is refused."""

    default_error_messages = {"other": "This shop sells in {currency}."}

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        currency: str = current_app.config["CURRENCY"]
        if value != currency:
            raise self.make_error("other", currency=currency)
        return currency


class Money(StrictSchema):
    """An amount in integer minor units: `{"amount": 1990, "currency": "EUR"}` is 19.90 euros."""

    amount = Integer(0, LARGEST_AMOUNT, required=True)
    currency = Currency(required=True)


class Attributes(fields.Dict):
    """Up to 50 named texts, such as `{"material": "oak"}`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            keys=Code(r"^[a-z][a-z0-9_]*$", 40),
            values=Text(200),
            validate=validate.Length(max=50),
            **kwargs,
        )


def document_currency(field: fields.Field[Any], **_kwargs: Any) -> Mapping[str, Any]:
    """For apispec: the one value that a currency field takes."""
    return {"enum": [current_app.config["CURRENCY"]]} if isinstance(field, Currency) else {}
