"""Health: whether the process lives, whether it can serve, and what is late."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert, update
from sqlalchemy.orm import Session

from config import Config
from shop import clock, create_app
from shop.audit.models import AuditSink
from shop.audit.sequencer import stamp
from shop.audit.troubles import SinkTrouble
from shop.jobs import operations
from shop.jobs.models import JobRun
from shop.jobs.slots import slot_name
from shop.leases import Lease
from tests import factories
from tests.servers import free_port


def test_a_shop_with_its_database_is_ready(client: FlaskClient) -> None:
    answer = client.get("/health/ready")

    assert answer.status_code == 200
    assert answer.get_json() == {
        "status": "ready", "dependencies": {"database": "up"}, "jobs": {"late": []},
    }  # fmt: skip


def test_a_shop_without_its_database_lives_but_is_not_ready(tmp_path: Path) -> None:
    url = f"mysql+pymysql://root@127.0.0.1:{free_port()}/shop"
    client = create_app(Config(env="testing", var=tmp_path, database_url=url)).test_client()

    live, ready = client.get("/health/live"), client.get("/health/ready")

    assert (live.status_code, live.get_json()) == (200, {"status": "live"})
    assert ready.status_code == 503
    assert ready.get_json() == {"status": "unavailable", "dependencies": {"database": "down"}}
    assert int(ready.headers["Retry-After"]) > 0


def test_health_is_never_kept_by_a_cache(client: FlaskClient) -> None:
    for path in ("/health/live", "/health/ready"):
        assert client.get(path).headers["Cache-Control"] == "no-store"


def test_readiness_shows_the_backlog_its_age_and_that_nobody_leads(
    watched: Flask, engine: Engine, session: Session
) -> None:
    """DO-06: degraded is not down."""
    client = watched.test_client()
    for _ in range(3):
        factories.create_user(watched)
    pending = client.get("/health/ready").get_json()
    stamp(engine)
    session.add(AuditSink(name="mqtt", position=1, updated_at=clock.now()))
    session.commit()
    stamped = client.get("/health/ready").get_json()

    assert pending["status"] == stamped["status"] == "degraded"
    assert pending["drain"]["backlog"] == 3
    assert stamped["drain"] == {
        "leader": False, "backlog": 2, "oldest_seconds": stamped["drain"]["oldest_seconds"],
    }  # fmt: skip
    assert 0 < stamped["drain"]["oldest_seconds"] < 60
    assert stamped["dependencies"] == {"database": "up", "mqtt": "unknown"}


def test_readiness_shows_whether_a_sink_fails(
    watched: Flask, engine: Engine, session: Session
) -> None:
    lease = Lease(engine, "drain", 30)
    assert lease.acquire()
    client = watched.test_client()
    sound = client.get("/health/ready").get_json()
    session.add(AuditSink(name="mqtt", position=0, updated_at=clock.now()))
    session.add(
        SinkTrouble(sink="mqtt", failures=2, parked=0, since=clock.now(), reason="no broker")
    )
    session.commit()
    failing = client.get("/health/ready")
    session.execute(update(SinkTrouble).values(since=None))
    session.commit()
    again = client.get("/health/ready").get_json()
    lease.release()

    assert (sound["status"], sound["dependencies"]["mqtt"]) == ("ready", "up")
    assert failing.status_code == 200
    assert failing.get_json()["status"] == "degraded"
    assert failing.get_json()["dependencies"]["mqtt"] == "down"
    assert (again["status"], again["dependencies"]["mqtt"]) == ("ready", "up")


@pytest.mark.parametrize(
    ("status", "minutes", "late"),
    [("done", 0, False), ("done", 5, True), ("failed", 0, False), ("failed", 5, True),
     ("waiting", 5, True), ("skipped", 0, False), ("skipped", 5, True)],
)  # fmt: skip
def test_a_job_whose_last_slot_is_long_over_and_not_done_is_late(
    client: FlaskClient, session: Session, status: str, minutes: int, late: bool
) -> None:
    slot = clock.now() - timedelta(minutes=minutes)
    values = {
        "job": "publish", "slot": slot_name(slot), "status": status, "attempts": 1, "owner": "me",
        "heartbeat_ms": 0, "started_at": slot, "finished_at": slot,
    }  # fmt: skip
    session.execute(insert(JobRun).values(values))
    session.commit()

    answer = client.get("/health/ready")

    assert answer.status_code == 200
    assert answer.get_json()["jobs"] == {"late": ["publish"] if late else []}
    assert answer.get_json()["status"] == ("degraded" if late else "ready")
    operations.switch(session, "publish", False, "users/3")
    session.commit()
    assert client.get("/health/ready").get_json()["jobs"] == {"late": []}, "it is switched off"
