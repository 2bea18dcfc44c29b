"""What is written as a literal is what the server reads."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from pymysql.converters import convert_datetime
from sqlalchemy import Engine

from shop.literals import escaping, reading_times

_ODD = [
    "\\",
    "'",
    '"',
    "\0",
    "\n",
    "\r",
    "\x1a",
    "%",
    ";",
    "--",
    "/*",
    "\\'",
    "é",
    "\u2028",
    "🛋️",
    "𝔸",
]


def test_every_text_comes_back_as_it_was_sent(engine: Engine) -> None:
    """IN-01: no text ends its literal."""
    chance = random.Random(20261126)
    texts = [chr(n) for n in range(256)] + _ODD
    texts += [
        "".join(chance.choices([*_ODD, "a", " "], k=chance.randint(2, 12))) for _ in range(500)
    ]
    mark = "?" if engine.dialect.name == "sqlite" else "%s"

    with engine.connect() as connection:
        for first in range(0, len(texts), 50):
            part = tuple(texts[first : first + 50])
            query = "SELECT " + ", ".join([mark] * len(part))
            assert tuple(connection.exec_driver_sql(query, part).one()) == part


def _other(value: Any, mapping: Any = None) -> str:
    return f"<{value}>"


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (5, "5"), (-(2**63), str(-(2**63))), (None, "NULL"), ("O'Hara", r"'O\'Hara'"),
        (datetime(999, 1, 2, 3, 4, 5), "'0999-01-02 03:04:05'"),  # noqa: DTZ001
        (datetime(2026, 1, 2, 3, 4, 5, 60), "'2026-01-02 03:04:05.000060'"),  # noqa: DTZ001
        # PyMySQL's own way.
        (True, "<True>"), (1.5, "<1.5>"), (b"x", "<b'x'>"),
        (datetime(2026, 1, 2, tzinfo=UTC), "<2026-01-02 00:00:00+00:00>"),
    ],
)  # fmt: skip
def test_what_is_seldom_is_left_to_the_driver(value: Any, literal: str) -> None:
    assert escaping(_other)(value) == literal


@pytest.mark.parametrize(
    "text",
    ["2026-11-22 14:00:00", "2026-11-22 14:00:00.5", "2026-11-22 14:00:00.123456",
     "1000-01-01 00:00:00", "9999-12-31 23:59:59.999999", "0000-00-00 00:00:00",
     "2026-00-22 14:00:00", "not a time", ""],
)  # fmt: skip
def test_times_are_read_as_pymysql_reads_them(text: str) -> None:
    assert reading_times(convert_datetime)(text) == convert_datetime(text)
