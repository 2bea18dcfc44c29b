"""What the scheduler does with the audit log."""

from __future__ import annotations

from flask import Flask
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from shop import clock
from shop.audit import jobs
from shop.audit.models import AuditHead
from shop.audit.sequencer import stamp
from tests import factories


def test_a_sound_log_reconciles(app: Flask, engine: Engine, session: Session) -> None:
    factories.create_user(app)
    stamp(engine)

    report = jobs.reconcile(session, clock.now())

    assert report == {"head": 1, "highest": 1, "count": 1, "sound": True}


def test_a_log_whose_head_disagrees_does_not_reconcile(app: Flask, session: Session) -> None:
    session.execute(update(AuditHead).values(position=7))

    assert jobs.reconcile(session, clock.now())["sound"] is False
