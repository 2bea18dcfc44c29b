"""What a mail says: every kind, with hostile values, under one name as long as it says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from shop import clock
from shop.mail import letters
from shop.mail.models import OutgoingMail

TEMPLATES = Path(letters.__file__).parent / "templates"
KINDS = sorted(path.stem for path in TEMPLATES.glob("*.txt"))
WITH_CODE = ("verify_email", "reset_password", "confirm_new_email")
TOLD = ("notification",)
NOTICES = ("email_change_asked", "email_changed", "password_changed")
HOSTILE = 'Ann\r\nBcc: eve@example.com\n\n<img src=x onerror="a()">\x00\u2028&'
LINK = "https://oak.example/account?a=1&b=2#c0de"


def mail(kind: str = "verify_email", **changes: Any) -> OutgoingMail:
    made = {"id": 7, "recipient": "ann@example.com", "created_at": clock.now()} | changes
    return OutgoingMail(kind=kind, **made)


def values(**changes: Any) -> dict[str, Any]:
    said = {"title": "Sale", "lines": ["Oak is cheap."]}
    return said | {"name": "Ann", "code": "c0de", "link": None, "minutes": 60} | changes


def test_every_kind_is_there_as_text_and_as_html() -> None:
    assert sorted((*WITH_CODE, *NOTICES, *TOLD)) == KINDS
    assert sorted(path.stem for path in TEMPLATES.glob("*.html")) == sorted([*KINDS, "layout"])


@pytest.mark.parametrize("kind", WITH_CODE)
def test_a_code_stands_on_a_line_of_its_own(kind: str) -> None:
    letter = letters.write(mail(kind), values(), "oak.example")

    assert letter.recipient == "ann@example.com"
    assert letter.text.startswith("Hello Ann,\n\n")
    assert "\n\nc0de\n\n" in letter.text
    assert "<code>c0de</code>" in letter.html
    assert "\n\n\n" not in letter.text


@pytest.mark.parametrize("kind", WITH_CODE)
def test_a_link_is_there_when_there_is_one(kind: str) -> None:
    without = letters.write(mail(kind), values(), "oak.example")
    with_link = letters.write(mail(kind), values(link=LINK), "oak.example")

    assert f"\n\n{LINK}\n\n" in with_link.text
    assert 'href="https://oak.example/account?a=1&amp;b=2#c0de"' in with_link.html
    for said in (without.text, without.html):
        assert "page" not in said
        assert "None" not in said
        assert "href" not in said


@pytest.mark.parametrize("kind", NOTICES)
def test_a_notice_needs_no_values(kind: str) -> None:
    letter = letters.write(mail(kind), {}, "oak.example")

    assert letter.text.startswith("Hello,\n\n")
    assert "<p>Hello,</p>" in letter.html
    assert letters.write(mail(kind), {"name": "Ann"}, "oak.example").text.startswith("Hello Ann,")


@pytest.mark.parametrize("kind", KINDS)
def test_lines_fit_a_screen_and_end_with_an_end(kind: str) -> None:
    letter = letters.write(mail(kind), values(), "oak.example")

    assert max(len(line) for line in letter.text.splitlines()) <= 100
    assert letter.text.endswith(".\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_subject_says_the_same_to_everybody(kind: str) -> None:
    hostile = letters.write(mail(kind), values(name=HOSTILE, code=HOSTILE), "oak.example")
    harmless = letters.write(mail(kind), values(), "oak.example")

    assert hostile.subject == harmless.subject
    assert len(hostile.subject.splitlines()) == 1
    assert f"<title>{harmless.subject}</title>" in hostile.html


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_cannot_say_more_than_a_name(kind: str) -> None:
    letter = letters.write(mail(kind), values(name=HOSTILE), "oak.example")

    first, *_ = letter.text.splitlines()
    assert first == 'Hello Ann Bcc: eve@example.com <img src=x onerror="a()"> &,'
    assert "<img" not in letter.html
    assert "&lt;img src=x onerror=&#34;a()&#34;&gt; &amp;,</p>" in letter.html


def test_what_staff_writes_stays_text() -> None:
    told = values(title=HOSTILE, lines=["<b>Oak</b>", HOSTILE])
    letter = letters.write(mail("notification"), told, "oak.example")

    assert letter.subject == 'Ann Bcc: eve@example.com <img src=x onerror="a()"> &'
    assert "\n<b>Oak</b>\n" in letter.text
    assert "<p>&lt;b&gt;Oak&lt;/b&gt;</p>" in letter.html
    assert "<img" not in letter.html


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        letters.write(mail(), {"name": "Ann", "code": "c0de"}, "oak.example")


def test_the_same_text_has_the_same_name_and_another_one_another() -> None:
    one = mail()
    first = letters.write(one, values(), "oak.example").message_id

    assert letters.write(one, values(), "oak.example").message_id == first
    others = {
        letters.write(one, values(code="new"), "oak.example").message_id,
        letters.write(mail(id=8, created_at=one.created_at), values(), "oak.example").message_id,
        letters.write(mail(), values(), "oak.example").message_id,
    }
    assert len({first, *others}) == 4
    assert "c0de" not in first
