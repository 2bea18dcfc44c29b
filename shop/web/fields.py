"""Strict fields: a value is taken as it is or refused, never bent into shape."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from email_validator import EmailNotValidError, validate_email
from flask import current_app
from marshmallow import RAISE, Schema, ValidationError, fields, validate

#: What MariaDB's BIGINT and SQLite's INTEGER hold, less nothing: 2^63 - 1.
LARGEST_ID = 2**63 - 1
#: Far above any price, far below overflow: amounts can be multiplied and summed safely.
LARGEST_AMOUNT = 10**12

_ID = re.compile("[1-9][0-9]{0,18}")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,18})\Z", re.ASCII)
# C0 controls other than tab and line feed, and DEL, never make sense in a text. (Surrogates do not
# get past the JSON parser.) In each pattern neighbouring repetitions have no character in common:
# matching takes one pass, however long and hostile the text is.
_TEXT = r"^[^\x00-\x08\x0b-\x1f\x7f]*$"
_BLANK = r"\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_BREAK = r"\x00-\x1f\x7f\x85\u2028\u2029"
_LINE = rf"^[ {_BLANK}]*[^ {_BLANK}{_BREAK}][^{_BREAK}]*$"


def read_id(text: str) -> int:
    """The row id that is spelt so: ASCII digits, 1 to 2^63 - 1, one spelling for each.

    Raises:
        ValueError: none is.
    """
    # Looked at before it becomes a number: Python refuses thousands of digits its own way.
    if not _ID.fullmatch(text) or (number := int(text)) > LARGEST_ID:
        raise ValueError("not the spelling of an id")
    return number


def id_or_text(text: str) -> int | str:
    """A row id when the text is spelt like one, else the text itself (a slug, a number ...)."""
    try:
        return read_id(text)
    except ValueError:
        return text


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


class Boolean(fields.Boolean):
    """A JSON boolean: no 1, no "yes"."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> bool:
        if type(value) is not bool:
            raise self.make_error("invalid", input=value)
        return value


class Instant(fields.AwareDateTime):
    """An RFC 3339 time with its offset; answers it in UTC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        try:
            return super()._deserialize(value, attr, data, **kwargs).astimezone(UTC)
        except OverflowError as error:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from error


class QueryInteger(fields.Integer):
    """A whole number in a query string: ASCII digits only, no plus, no leading zero."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(validate=validate.Range(low, high), **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not _DIGITS.match(value):
            raise self.make_error("invalid", input=value)
        return int(value)


class Form(validate.Validator):
    """A text of some length, all of which is of one form. Longer ones are not looked at.

    apispec documents a validator with these attributes as minLength, maxLength and pattern.
    """

    equal = None

    def __init__(self, pattern: str, shortest: int, longest: int) -> None:
        self.regex = re.compile(pattern)
        self.min, self.max = shortest, longest

    def __call__(self, value: str) -> str:
        if not self.min <= len(value) <= self.max:
            raise ValidationError(f"Length must be between {self.min} and {self.max}.")
        # Not `match`: its `$` would let a line feed follow.
        if not self.regex.fullmatch(value):
            raise ValidationError("Not of this form, or with characters that cannot be here.")
        return value


class Code(fields.String):
    """A code: `pattern` decides, nothing is dropped or folded.

    Use patterns in which neighbouring repetitions have no character in common.
    """

    def __init__(self, pattern: str, longest: int, *, shortest: int = 1, **kwargs: Any) -> None:
        super().__init__(validate=Form(pattern, shortest, longest), **kwargs)


class Text(Code):
    """Text of several lines, without control characters; surrounding space is dropped."""

    def __init__(self, longest: int, **kwargs: Any) -> None:
        super().__init__(_TEXT, longest, shortest=0, **kwargs)

    def deserialize(self, *args: Any, **kwargs: Any) -> Any:
        # After the rules: what the document calls too long stays too long.
        value = super().deserialize(*args, **kwargs)
        return value.strip() if isinstance(value, str) else value


class Line(Text):
    """Text of one line with something visible in it."""

    def __init__(self, longest: int, **kwargs: Any) -> None:
        Code.__init__(self, _LINE, longest, **kwargs)


class Secret(Code):
    """A password or the like: taken as it is, space and all; no NUL, which C would end at."""

    def __init__(self, longest: int, *, shortest: int = 1, **kwargs: Any) -> None:
        super().__init__(r"^[^\x00]*$", longest, shortest=shortest, **kwargs)


class Email(fields.String):
    """An e-mail address, in Unicode's compatible spelling (NFKC) without surrounding space."""

    default_error_messages = {"invalid": "Not an e-mail address."}  # noqa: RUF012
    longest = 254

    def __init__(self, *, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        described = {"format": "email", **(metadata or {})}
        bounds = validate.Length(3, self.longest)
        super().__init__(validate=bounds, metadata=described, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs).strip()
        if len(text) <= self.longest:
            # What it becomes is what must be an address: a letter can turn into a sentence.
            text = unicodedata.normalize("NFKC", text).strip()
        # The library takes its time for long texts, and none of them is an address.
        if len(text) > self.longest:
            raise self.make_error("invalid")
        try:
            validate_email(text, check_deliverability=False, test_environment=True)
        except EmailNotValidError as error:
            raise self.make_error("invalid") from error
        return text


class Choice(fields.String):
    """One of a few words."""

    def __init__(self, words: Sequence[str], **kwargs: Any) -> None:
        super().__init__(validate=validate.OneOf(words), **kwargs)


class Currency(fields.String):
    """The shop's currency (ISO 4217); any other is refused."""

    default_error_messages = {"other": "This shop sells in {currency}."}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        currency: str = current_app.config["CURRENCY"]
        if value != currency:
            raise self.make_error("other", currency=currency)
        return currency


class Money(StrictSchema):
    """An amount in integer minor units: `{"amount": 1990, "currency": "EUR"}` is 19.90 euros."""

    amount = Integer(0, LARGEST_AMOUNT, required=True)
    currency = Currency(required=True)


class Value(fields.Field[Any]):
    """A text, a whole number, or true or false; what it is, it stays.

    Whole numbers are those that every JSON reader takes as they are: 2^53 - 1 at most.
    """

    default_error_messages = {"invalid": "Not a string, an integer or a boolean."}  # noqa: RUF012
    largest = 2**53 - 1

    def __init__(self, longest: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest, self.text = longest, Text(longest)
        self.number = Integer(-self.largest, self.largest)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self.number.deserialize(value, attr, data, **kwargs)
        if isinstance(value, str):
            return self.text.deserialize(value, attr, data, **kwargs)
        raise self.make_error("invalid")


class Attributes(fields.Dict):
    """Up to 50 named values, such as `{"material": "oak", "drawers": 3, "outdoor": false}`."""

    most = 50
    longest = 200
    names = Form(r"^[a-z][a-z0-9_]*$", 1, 40)

    def __init__(self, **kwargs: Any) -> None:
        keys, self.value = fields.String(validate=self.names), Value(self.longest)
        super().__init__(keys=keys, values=self.value, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, Mapping) and len(value) > self.most:
            raise ValidationError(f"At most {self.most} of them.")
        try:
            return super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]
        except ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            # marshmallow sets apart what is wrong with a name and with its value.
            flat = {
                name: [message for part in parts.values() for message in part]
                for name, parts in error.messages.items()
            }
            raise ValidationError(flat) from error


class Metadata(Attributes):
    """Up to 50 named values that the shop keeps for other systems, and shows to everybody."""

    longest = 500
    names = Form(r"^[A-Za-z][A-Za-z0-9_.-]*$", 1, 40)


def document(field: fields.Field[Any]) -> Mapping[str, Any]:
    """For apispec: what it cannot see by itself."""
    if isinstance(field, Currency):
        return {"enum": [current_app.config["CURRENCY"]]}
    if isinstance(field, Value):
        text = {"type": "string", "maxLength": field.longest, "pattern": _TEXT}
        number = {"type": "integer", "minimum": -field.largest, "maximum": field.largest}
        return {"anyOf": [text, number, {"type": "boolean"}]}
    if isinstance(field, Attributes):
        names = {"pattern": field.names.regex.pattern, "maxLength": field.names.max}
        return {"maxProperties": field.most, "propertyNames": names}
    return {}
