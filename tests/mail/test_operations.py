"""A claim is one's own, and what one knows of it does not change behind one's back."""

from __future__ import annotations

from typing import Any

from flask import Flask
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from shop.db import writing
from shop.mail import operations, queries
from shop.mail.models import OutgoingMail


def due(session: Session) -> Any:
    found = session.execute(queries.DUE, {"limit": 1}).one()
    session.commit()
    return found


def claim(session: Session, seen: Any, sent: OutgoingMail | None = None) -> OutgoingMail | None:
    mail = operations.claim(session, seen, 60, sent)
    session.commit()
    return mail


def test_a_mail_has_one_claim_at_a_time(app: Flask, session: Session) -> None:
    operations.enqueue(session, "verify_email", "ann@example.com")
    session.commit()

    seen = due(session)
    mail = claim(session, seen)

    assert mail is not None
    assert (mail.kind, mail.recipient, mail.data, mail.attempts) == (
        "verify_email", "ann@example.com", {}, 1,
    )  # fmt: skip
    assert claim(session, seen) is None
    assert session.execute(queries.DUE, {"limit": 1}).all() == []


def test_a_mail_that_was_tried_since_it_was_seen_is_not_claimed(
    app: Flask, session: Session
) -> None:
    operations.enqueue(session, "verify_email", "ann@example.com")
    session.commit()
    seen = due(session)
    others = claim(session, seen)
    assert others is not None
    operations.postpone(session, others, "refused", 0)
    session.commit()

    assert claim(session, seen) is None
    again = claim(session, due(session))
    assert again is not None
    assert again.attempts == 2


def test_what_was_sent_goes_with_the_next_claim(app: Flask, session: Session) -> None:
    for name in ("ann", "bob"):
        operations.enqueue(session, "verify_email", f"{name}@example.com")
        session.flush()
    session.commit()
    first = claim(session, due(session))

    second = claim(session, due(session), first)

    assert second is not None
    assert session.scalars(select(OutgoingMail.recipient)).all() == ["bob@example.com"]


def test_a_claim_that_was_lost_stays_lost_whatever_is_rolled_back(
    app: Flask, engine: Engine, session: Session
) -> None:
    operations.enqueue(session, "verify_email", "ann@example.com")
    session.commit()
    mine = claim(session, due(session))
    assert mine is not None
    with writing(engine) as connection:
        connection.execute(update(OutgoingMail).values(claim="another's"))

    session.execute(text("SELECT 1"))
    session.rollback()

    assert not operations.remove(session, mine)
    assert not operations.postpone(session, mine, "away", 60)
    session.rollback()
    assert session.scalars(select(OutgoingMail.claim)).all() == ["another's"]
