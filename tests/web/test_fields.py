"""Strict fields: a value is taken as it is or refused, never bent into shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from marshmallow import ValidationError, fields

from shop.web.fields import Boolean, Email, Instant, Line, Secret, StrictSchema, Text

AT_ONCE = 0.05


def load(field: fields.Field[Any], value: Any) -> Any:
    """What becomes of a value, as part of a body."""
    return StrictSchema.from_dict({"it": field})().load({"it": value})["it"]


def is_refused(field: fields.Field[Any], value: Any) -> bool:
    """Whether a value is refused, in the way in which values are refused."""
    try:
        load(field, value)
    except ValidationError as error:
        return list(error.messages_dict) == ["it"]
    return False


def quickest(field: fields.Field[Any], value: Any) -> float:
    """Seconds that it takes to judge a value, by the best of three tries on a busy machine."""
    tries = []
    for _ in range(3):
        began = time.perf_counter()
        is_refused(field, value)
        tries.append(time.perf_counter() - began)
    return min(tries)


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_taken_as_it_is(value: bool) -> None:
    assert load(Boolean(), value) is value


@pytest.mark.parametrize(
    "value",
    [1, 0, 1.0, 0.0, -1, 2, "true", "false", "True", "1", "0", "on", "off", "yes", "no", "t", "y",
     "", None, [], {}, [True], {"": True}, "null"],
)  # fmt: skip
def test_what_only_resembles_a_boolean_is_refused(value: object) -> None:
    """M17: marshmallow takes `on`, `t` and 1.0 for true."""
    assert is_refused(Boolean(), value)


def test_a_boolean_that_may_be_null_may() -> None:
    assert load(Boolean(allow_none=True), None) is None


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-22T14:00:00Z", datetime(2026, 11, 22, 14, tzinfo=UTC)),
        ("2026-11-22T14:00:00+00:00", datetime(2026, 11, 22, 14, tzinfo=UTC)),
        ("2026-11-22T14:00:00-00:00", datetime(2026, 11, 22, 14, tzinfo=UTC)),
        ("2026-11-22T14:00:00+05:30", datetime(2026, 11, 22, 8, 30, tzinfo=UTC)),
        ("2026-11-22T23:30:00-01:00", datetime(2026, 11, 23, 0, 30, tzinfo=UTC)),
        ("2026-11-22T14:00:00.5Z", datetime(2026, 11, 22, 14, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-22T14:00:00.123456Z", datetime(2026, 11, 22, 14, 0, 0, 123_456, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00-14:00", datetime(1, 1, 1, 14, tzinfo=UTC)),
    ],
)
def test_an_instant_is_taken_to_the_microsecond_and_put_into_utc(
    text: str, instant: datetime
) -> None:
    """M11."""
    found = load(Instant(), text)

    assert found == instant
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        # No zone, or half of one.
        "2026-11-22T14:00:00", "2026-11-22 14:00:00", "2026-11-22", "2026-11-22T14:00:00+05",
        "2026-11-22T14:00:00+0530", "2026-11-22T14:00:00 +05:30", "2026-11-22T14:00:00CET",
        "2026-11-22T14:00:00+05:30:15", "2026-11-22T14:00:00+05:30:15.5",
        # Other spellings.
        "2026-11-22 14:00:00Z", "2026-11-22t14:00:00z", "20261122T140000Z", "2026-11-22T14:00Z",
        "2026-W47-7T14:00:00Z", "2026-326T14:00:00Z", "22.11.2026 14:00", "Sun, 22 Nov 2026 14:00",
        " 2026-11-22T14:00:00Z", "2026-11-22T14:00:00Z\n", "2026-11-22T14:00:00,5Z",
        "2026-11-22T14:00:00.Z", "2026-11-22T14:00:00.1234567Z", "+2026-11-22T14:00:00Z",
        "٢٠٢٦-11-22T14:00:00Z", "12026-11-22T14:00:00Z", "2026-11-22T14:00:00ZZ", "now", "",
        # No such instant.
        "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-10T00:00:00Z",
        "2026-11-31T00:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22T23:60:00Z",
        "2016-12-31T23:59:60Z", "2026-11-22T14:00:00+24:00", "2026-11-22T14:00:00+99:99",
        "0000-01-01T00:00:00Z",
        # Out of the calendar once in UTC.
        "0001-01-01T00:00:00+00:01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59-14:00",
        # Other types.
        0, 1, 1_795_355_200, 1_795_355_200.5, -1, 1e300, True, None, {}, ["2026-11-22T14:00:00Z"],
    ],
)  # fmt: skip
def test_what_is_no_instant_of_rfc_3339_is_refused(value: object) -> None:
    """M11, M17."""
    assert is_refused(Instant(), value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann.Larsson+shop@Example.COM\t", "Ann.Larsson+shop@Example.COM"),
        ("josé@bücher.example", "josé@bücher.example"),
        ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("o'neil@example.com", "o'neil@example.com"),
        ("a@b.co", "a@b.co"),
        ("ａnn＠example.com", "ann@example.com"),
        ("jose\u0301@example.com", "jos\u00e9@example.com"),
        ("1234567890@example.museum", "1234567890@example.museum"),
        ("ann@mail.test", "ann@mail.test"),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
    ],
)
def test_an_address_is_taken_as_it_is_spelt_but_for_unicodes_variants(
    text: str, address: str
) -> None:
    assert load(Email(), text) == address


@pytest.mark.parametrize(
    "value",
    ["", " ", "@", "a@", "@b.co", "ann", "ann@localhost", "ann@example", "ann@@example.com",
     "ann@exa_mple.com", "ann@-example.com", "ann@example..com", "ann@.example.com",
     ".ann@example.com", "ann.@example.com", "an..n@example.com", "an n@example.com",
     "ann@exam ple.com", "ann@example.com,bert@example.com", "ann@example.com\nBcc: b@example.com",
     "ann\r\n@example.com", "ann@example.com\0", "an\0n@example.com", "ann@[127.0.0.1]",
     "ann@[IPv6:::1]", "ann@127.0.0.1", "ann@1", '"ann"@example.com', '"a b"@example.com',
     "<ann@example.com>", "Ann <ann@example.com>", "mailto:ann@example.com",
     "an\u200bn@example.com", "ann@exa\u00admple.com", "a\u202en@example.com",
     "eve＠example.com@evil.example", "ﷺ@example.com",
     "ann@example.com?bcc=b@example.com", "ann@example.com.", "ann(comment)@example.com",
     "x" * 244 + "@example.com", "ann@" + "x" * 64 + ".com", "ann@" + "a." * 130 + "com",
     1, 1.5, True, None, [], {}, ["ann@example.com"], {"email": "ann@example.com"}],
)  # fmt: skip
def test_what_is_no_address_is_refused(value: object) -> None:
    """M17: marshmallow's own takes `a@localhost`."""
    assert is_refused(Email(), value)


HUGE: dict[str, Callable[[int], str]] = {
    "name": lambda length: "a" * length + "@example.com",
    "domain": lambda length: "a@" + "b" * length + ".com",
    "labels": lambda length: "a@" + "b." * (length // 2) + "com",
    "at-signs": lambda length: "@" * length,
    "dots": lambda length: "." * length + "@example.com",
    "quoted": lambda length: '"' + "\\ " * (length // 2) + '"@example.com',
    "foreign": lambda length: "a@" + "ü" * length + ".com",
    "unfolding": lambda length: "ﷺ" * length + "@example.com",
    "spaces": lambda length: "a" + " " * length + "@example.com",
    "comments": lambda length: "(" * length + "@example.com",
    "marks": lambda length: "a" + "\u0301" * length + "@example.com",
    "punycode": lambda length: "a@xn--" + "a" * length + ".com",
}


@pytest.mark.parametrize("length", [240, 10_000, 1_000_000])
@pytest.mark.parametrize("what", HUGE)
def test_long_and_hostile_addresses_are_refused_at_once(what: str, length: int) -> None:
    """M16."""
    text = HUGE[what](length)

    # Shorter ones may be addresses.
    assert length < 254 or is_refused(Email(), text)
    assert quickest(Email(), text) < AT_ONCE


@pytest.mark.parametrize(
    "text", [" ", "  spaces  ", "tab\tline\nbell\x07", "🦊🐻", "é", "e\u0301", "\u2028", "x" * 100]
)
def test_a_secret_is_taken_as_it_is(text: str) -> None:
    assert load(Secret(100), text) == text


@pytest.mark.parametrize("value", ["", "a\0b", "\0", "x" * 101, 1, True, None, [], {}, ["x"], 1.5])
def test_what_cannot_be_a_secret_is_refused(value: object) -> None:
    """AU-16: never a match by another type."""
    assert is_refused(Secret(100), value)


LINE_ENDS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")


@pytest.mark.parametrize("end", LINE_ENDS)
def test_a_line_has_no_end_in_it(end: str) -> None:
    """IN-21."""
    for text in (f"a{end}b", f"{end}b", f"a{end}"):
        assert is_refused(Line(100), text)


@pytest.mark.parametrize("text", ["", " ", "\u3000", "\xa0", "\t", "\u2003 \u2003"])
def test_a_line_has_something_to_be_seen(text: str) -> None:
    assert is_refused(Line(100), text)


@pytest.mark.parametrize("field", [Line(100), Text(100), Secret(100)])
def test_hostile_texts_are_taken_as_they_are(field: fields.Field[Any]) -> None:
    """IN-21."""
    for text in (
        "<script>",
        "{{7*7}}",
        "=cmd()",
        "' OR 1=1 --",
        "\\r\\n",
        "%0d%0a",
        "🦊",
        "a\u202eb",
    ):
        assert load(field, text) == text


@pytest.mark.parametrize("field", [Line(200), Text(200), Secret(200)])
@pytest.mark.parametrize("piece", ["a", " ", "\xa0", "a ", "\n", "\0", "\u3000a", "(", "\\"])
def test_long_and_hostile_texts_are_refused_at_once(field: fields.Field[Any], piece: str) -> None:
    """M16."""
    text = piece * (1_000_000 // len(piece)) + "\0"

    assert is_refused(field, text)
    assert quickest(field, text) < AT_ONCE
