"""What is the same account, on both engines."""

from __future__ import annotations

import unicodedata

import pytest
from flask import Flask
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.users import queries
from shop.users.models import User, normalise_email
from shop.users.operations import EmailTaken
from tests import factories

SAME = (
    ("ann@example.com", "ANN@Example.COM"),
    ("ann@example.com", " ann@example.com\t"),
    ("ann@example.com", "ann@example.com  "),
    ("josé@example.com", unicodedata.normalize("NFD", "José@example.com")),
    ("ann@example.com", "ａｎｎ＠example.com"),
    ("ann@example.com", "ann\u2003@example.com".replace("\u2003", "") + "\u2003"),
    ("ﬁn@example.com", "FIN@example.com"),
)
DIFFERENT = (
    ("jose@example.com", "josé@example.com"),
    ("muller@example.com", "müller@example.com"),
    ("🦊@example.com", "🐻@example.com"),
    ("ann@example.com", "ann@example.com.au"),
    ("ann@example.com", "a.nn@example.com"),
    ("ann@example.com", "an\u200bn@example.com"),
    ("ann_@example.com", "annx@example.com"),
    ("ann%@example.com", "ann@example.com"),
)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_spellings_of_an_address_are_one_account(
    app: Flask, session: Session, one: str, other: str
) -> None:
    user = factories.create_user(app, email=one)

    assert session.execute(queries.by_email(other)).scalar_one().id == user.id
    with pytest.raises(EmailTaken):
        factories.create_user(app, email=other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_addresses_are_two_accounts(app: Flask, session: Session, one: str, other: str) -> None:
    first, second = (factories.create_user(app, email=address) for address in (one, other))

    assert first.id != second.id
    assert session.execute(queries.by_email(one)).scalar_one().id == first.id
    assert session.execute(queries.by_email(other)).scalar_one().id == second.id


@given(st.text())
@example("\u01f0@example.com")
@example("\u0390@example.com")
def test_a_normal_spelling_stays_as_it_is(address: str) -> None:
    once = normalise_email(address)

    assert normalise_email(once) == once


def test_secrets_and_the_whole_address_never_enter_the_audit_log(
    app: Flask, session: Session
) -> None:
    user = factories.create_user(app, email="canary@example.com")
    session.get_one(User, user.id).password_hash = "another-canary"
    session.commit()

    entries = session.scalars(select(AuditEntry).where(AuditEntry.table_name == "users")).all()

    assert [entry.action for entry in entries] == ["insert", "update"]
    for entry in entries:
        assert "canary" not in str(entry.data)
        assert "c***@example.com" in str(entry.data)
