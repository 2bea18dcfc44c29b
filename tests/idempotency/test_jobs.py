"""Keys that have expired are forgotten; a closed account's at once."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from shop import clock
from shop.db import database_ms, writing
from shop.idempotency import jobs
from shop.idempotency.jobs import forget_keys
from shop.idempotency.models import IdempotencyKey
from tests import factories
from tests.users.checks import ME
from tests.users.test_addresses import BOOK


def store(engine: Engine, ms_left: int, *names: str) -> None:
    """Claimed keys that expire in so many milliseconds."""
    with writing(engine) as connection:
        for name in names:
            values = {
                "caller": "users/1", "operation": "POST /x", "idempotency_key": name, "claim": 1,
                "fingerprint": "", "created_at": clock.now(),
                "expires_ms": database_ms() + ms_left,
            }  # fmt: skip
            connection.execute(insert(IdempotencyKey).values(values))


def left(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(select(IdempotencyKey.idempotency_key)))


def test_only_what_has_expired_is_forgotten(session: Session, engine: Engine) -> None:
    store(engine, 0, "over", "just over")
    store(engine, 60_000, "runs")

    assert forget_keys(session, clock.now()) == 2
    session.commit()

    assert left(engine) == {"runs"}


def test_a_flood_is_forgotten_in_pieces_and_the_rest_the_next_time(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_BATCH", 2)
    monkeypatch.setattr(jobs, "_MOST_BATCHES", 2)
    store(engine, 0, *(f"key {number}" for number in range(7)))

    assert [forget_keys(session, clock.now()) for _ in range(3)] == [4, 3, 0]


def test_the_job_that_forgets_forgets_keys(app: Flask, engine: Engine) -> None:
    store(engine, 0, "over")

    result = app.test_cli_runner().invoke(args=["jobs", "run", "forget"])

    assert result.exit_code == 0, result.output
    assert left(engine) == set()


def test_a_closed_account_leaves_no_answers(
    app: Flask, client: FlaskClient, engine: Engine
) -> None:
    address = {
        "name": "Anna", "line1": "Elm Street 1", "city": "Uppsala", "postal_code": "75310",
        "country": "SE",
    }  # fmt: skip
    users = [factories.headers_of(app, factories.create_user(app)) for _ in range(2)]
    for number, headers in enumerate(users):
        key = {"Idempotency-Key": f"key {number}"}
        assert client.post(BOOK, json=address, headers=headers | key).status_code == 201
    assert left(engine) == {"key 0", "key 1"}

    body = {"current_password": factories.PASSWORD}
    answer = client.delete(ME, json=body, headers=users[0])

    assert answer.status_code == 204, answer.text
    assert left(engine) == {"key 1"}
