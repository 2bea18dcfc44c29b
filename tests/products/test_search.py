"""Search finds what a person expects, and any input is safe."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from shop.db import db, transactional
from shop.products import jobs
from shop.products.models import ProductListing
from tests import factories

URL = "/api/v1/products"
Headers = dict[str, str]


def found(client: FlaskClient, text: str) -> list[str]:
    """Names that a search finds."""
    answer = client.get(URL, query_string={"q": text, "sort": "name"})
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.get_json()["items"]]


@pytest.fixture
def names(client: FlaskClient, staff: Headers) -> list[str]:
    """Products in several alphabets."""
    made = ["Café crème", "Straße nach Süden", "Ёлка и стул", "木の椅子", "Tea 🍵 set", "USB-C hub",
            "100% wool", "50 % off", "Under_score", "The Who", "x", "한국어 사전",
            "Naïve Düsseldorf"]  # fmt: skip
    for name in made:
        factories.create_product(client, staff, name=name)
    return made


@pytest.mark.parametrize(
    ("text", "name"),
    [("cafe", "Café crème"), ("CRÈME café", "Café crème"), ("cre", "Café crème"),
     ("strasse", "Straße nach Süden"), ("sud", "Straße nach Süden"), ("елка", "Ёлка и стул"),
     ("СТУ", "Ёлка и стул"), ("椅子", "木の椅子"), ("木", "木の椅子"), ("🍵", "Tea 🍵 set"),
     ("usb c", "USB-C hub"), ("usb-c", "USB-C hub"), ("the who", "The Who"), ("who", "The Who"),
     ("x", "x"), ("한국", "한국어 사전"), ("dusseld", "Naïve Düsseldorf"),
     ("naive", "Naïve Düsseldorf"), ("score", "Under_score")],
)  # fmt: skip
def test_accents_case_and_the_end_of_the_last_word_do_not_matter(
    client: FlaskClient, names: list[str], text: str, name: str
) -> None:
    assert found(client, text) == [name]


def test_all_words_must_be_there_and_only_the_last_may_be_unfinished(
    client: FlaskClient, names: list[str]
) -> None:
    assert found(client, "tea hub") == []
    assert found(client, "caf crème") == []
    assert found(client, "crème caf") == ["Café crème"]


def test_signs_of_patterns_are_only_signs(client: FlaskClient, names: list[str]) -> None:
    """IN-08. No sign stands for anything else than itself, on both engines."""
    assert found(client, "100%") == ["100% wool"]
    for text in ("%", "_", "\\", "%%", "__", "*", '"'):
        assert found(client, text) == []
    assert found(client, "0%") == []


OPERATORS = ["+", "-", "@", "~", "<", ">", "(", ")", "*", '"']


def test_operators_of_full_text_search_are_only_signs(
    client: FlaskClient, names: list[str]
) -> None:
    """IN-07. All combinations up to three, and of four of the worst, around a word and alone."""
    combinations = [
        "".join(signs) for n in (1, 2, 3) for signs in itertools.product(OPERATORS, repeat=n)
    ]
    combinations += ["".join(signs) for signs in itertools.product('+-*"(', repeat=4)]
    for number, signs in enumerate(combinations):
        # All of them by one question each, around a word or alone in turn.
        text = (f"{signs}wool", f"wool{signs}", f"wool {signs} wool", signs)[number % 4]
        assert found(client, text) == (["100% wool"] if "wool" in text else []), text


@pytest.mark.parametrize(
    "text",
    ["wool AND wool", "NOT", "NEAR(a b)", "words:wool", "a" * 500, "wool " * 100, "the of and",
     "木" * 500, "🍵" * 250, "\u0301\u0301", "\u200b", "' OR 1=1 --", "wool\n\twool", "ﷺ" * 30],
)  # fmt: skip
def test_whatever_is_typed_is_answered(client: FlaskClient, names: list[str], text: str) -> None:
    """IN-07. Words of the query languages, many terms, long ones, stop words, any alphabet."""
    assert client.get(URL, query_string={"q": text}).status_code == 200


@pytest.mark.parametrize("text", ["a" * 501, "wool " * 2000, "\x00", "木" * 3400])
def test_what_is_too_long_or_no_text_is_refused(client: FlaskClient, text: str) -> None:
    """IN-07. Up to 10 kB and beyond."""
    assert client.get(URL, query_string={"q": text}).status_code == 422


def test_an_empty_search_is_none(client: FlaskClient, names: list[str]) -> None:
    assert len(found(client, "")) == len(found(client, "  ")) == len(names)


def test_a_draft_is_found_by_staff_only(client: FlaskClient, staff: Headers) -> None:
    factories.create_product(client, staff, name="Secret lamp", status="draft")

    assert found(client, "secret") == []
    answer = client.get(f"{URL}?q=secret&status=draft", headers=staff)
    assert [item["name"] for item in answer.get_json()["items"]] == ["Secret lamp"]


def test_listings_of_an_earlier_version_are_made_anew(
    app: Flask, client: FlaskClient, staff: Headers, session: Session
) -> None:
    factories.create_product(client, staff, name="Oak", attributes={"wood": "oak"})
    stale: dict[str, Any] = {"words": "", "words_version": 0, "name": "?"}
    session.execute(update(ProductListing).values(stale))
    session.commit()
    assert found(client, "oak") == []

    with app.app_context():
        done = transactional(jobs.refresh_stale)(db.session(), None)  # type: ignore[arg-type]
        again = transactional(jobs.refresh_stale)(db.session(), None)  # type: ignore[arg-type]

    assert (done["refreshed"], again["refreshed"]) == (1, 0)
    assert found(client, "oak") == ["Oak"]
