"""What nobody waits for any more is forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop import clock
from shop.mail import jobs
from shop.mail.models import OutgoingMail


def left(session: Session) -> list[str]:
    return list(session.scalars(select(OutgoingMail.recipient).order_by(OutgoingMail.recipient)))


def test_old_mail_is_forgotten_what_was_given_up_later(app: Flask, session: Session) -> None:
    now = clock.now()
    for days, due_ms in ((2.9, 0), (3.1, 0), (3.1, None), (29.9, None), (30.1, None), (31, 0)):
        name = f"{days} {'given up' if due_ms is None else 'unsent'}"
        made = now - timedelta(days=days)
        session.add(
            OutgoingMail(kind="k", recipient=name, data={}, created_at=made, due_ms=due_ms)
        )  # fmt: skip
    session.commit()

    assert jobs.forget_mail(session, now) == {"forgotten": 3}

    assert left(session) == ["2.9 unsent", "29.9 given up", "3.1 given up"]
    assert jobs.forget_mail(session, now) == {"forgotten": 0}


def test_one_run_forgets_a_bounded_number_the_oldest_first(
    app: Flask, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_BATCH", 2)
    now = clock.now()
    for days in (40, 60, 50):
        made = now - timedelta(days=days)
        session.add(
            OutgoingMail(kind="k", recipient=str(days), data={}, created_at=made, due_ms=0)
        )  # fmt: skip
    session.commit()

    assert jobs.forget_mail(session, now) == {"forgotten": 2}

    assert left(session) == ["40"]
