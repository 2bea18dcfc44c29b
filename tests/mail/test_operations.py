"""A claim is one's own, and what one knows of it does not change behind one's back."""

from __future__ import annotations

from flask import Flask
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from shop.db import writing
from shop.mail import operations
from shop.mail.models import OutgoingMail


def claim(session: Session) -> OutgoingMail | None:
    mail = operations.claim(session, session.scalars(select(OutgoingMail.id)).one(), 60)
    session.commit()
    return mail


def test_a_mail_has_one_claim_at_a_time(app: Flask, session: Session) -> None:
    operations.enqueue(session, "verify_email", "ann@example.com")
    session.commit()

    mail = claim(session)

    assert mail is not None
    assert (mail.kind, mail.recipient, mail.data, mail.attempts) == (
        "verify_email", "ann@example.com", {}, 1,
    )  # fmt: skip
    assert claim(session) is None


def test_a_claim_that_was_lost_stays_lost_whatever_is_rolled_back(
    app: Flask, engine: Engine, session: Session
) -> None:
    operations.enqueue(session, "verify_email", "ann@example.com")
    session.commit()
    mine = claim(session)
    assert mine is not None
    with writing(engine) as connection:
        connection.execute(update(OutgoingMail).values(claim="another's"))

    session.execute(text("SELECT 1"))
    session.rollback()

    assert not operations.remove(session, mine)
    assert not operations.postpone(session, mine, "away", 60)
    session.rollback()
    assert session.scalars(select(OutgoingMail.claim)).all() == ["another's"]
