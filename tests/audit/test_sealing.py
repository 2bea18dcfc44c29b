"""DO-22: what is done to sealed entries by SQL is found, and named by its position."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from shop.audit import sealing
from shop.audit.models import Seal
from shop.audit.sealing import seal
from shop.audit.sequencer import stamp
from shop.audit.sinks.memory import MemorySink
from shop.db import writing
from shop.leases import Lease
from tests import factories
from tests.audit.running import RunningDrain, cursor, eventually, rename


@pytest.fixture
def lease(engine: Engine) -> Lease:
    """That of the drain."""
    lease = Lease(engine, "drain", 60)
    assert lease.acquire()
    return lease


@pytest.fixture
def sealed(app: Flask, engine: Engine, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine entries under three seals."""
    monkeypatch.setattr(sealing, "MOST", 3)
    for _ in range(3):
        rename(app, factories.create_user(app), times=2)
    while stamp(engine):
        pass
    assert [seal(engine, lease) for _ in range(4)] == [3, 3, 3, 0]


def findings(app: Flask, name: str = "audit-seals") -> list[dict[str, Any]]:
    result = app.test_cli_runner().invoke(args=["shop", "verify"])
    (check,) = [it for it in json.loads(result.stdout)["checks"] if it["name"] == name]
    found: list[dict[str, Any]] = check["findings"]
    assert result.exit_code == (1 if found else result.exit_code)
    return found


HARM: dict[str, tuple[str, dict[str, Any]]] = {
    "data": (
        "UPDATE audit_log SET data = REPLACE(data, '***', '###') WHERE position = 5",
        {"what": "changed", "position": 5},
    ),
    "who did it": (
        "UPDATE audit_log SET actor = 'nobody' WHERE position = 6",
        {"what": "changed", "position": 6},
    ),
    "when": (
        "UPDATE audit_log SET created_at = '2020-01-01 00:00:00.000000' WHERE position = 1",
        {"what": "changed", "position": 1},
    ),
    "what was done": (
        "UPDATE audit_log SET action = 'delete' WHERE position = 2",
        {"what": "changed", "position": 2},
    ),
    "removed": ("DELETE FROM audit_log WHERE position = 4", {"what": "missing", "position": 4}),
    "removed the last": (
        "DELETE FROM audit_log WHERE position = 9", {"what": "missing", "position": 9},
    ),
    "another in its place": (
        "UPDATE audit_log SET event_id = '01JD0000000000000000000000' WHERE position = 8",
        {"what": "changed", "position": 8},
    ),
    "a seal removed": (
        "DELETE FROM audit_seals WHERE through = 6",
        {"what": "a seal is missing", "position": 4, "to": 6},
    ),
    "the first seal removed": (
        "DELETE FROM audit_seals WHERE through = 3",
        {"what": "a seal is missing", "position": 1, "to": 3},
    ),
    "a seal made to fit": (
        "UPDATE audit_seals SET content = REPEAT('a', 64) WHERE through = 6",
        {"what": "a seal was changed", "position": 4, "to": 6},
    ),
    "said to be removed for its age": (
        "UPDATE audit_seals SET pruned_at = sealed_at WHERE through = 3",
        {"what": "slipped in", "position": 1},
    ),
    "the head set back": (
        "UPDATE audit_head SET position = 7",
        {"what": "sealed behind the head", "position": 8, "to": 9},
    ),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.usefixtures("sealed")
def test_what_was_done_to_sealed_entries_is_found(app: Flask, engine: Engine, harm: str) -> None:
    statement, finding = HARM[harm]
    assert findings(app) == []
    if engine.dialect.name == "sqlite":
        statement = statement.replace("REPEAT('a', 64)", f"'{'a' * 64}'")
    with writing(engine) as connection:
        assert connection.execute(text(statement)).rowcount > 0

    assert finding in findings(app)


@pytest.mark.usefixtures("sealed")
def test_two_entries_that_changed_places_are_both_found(app: Flask, engine: Engine) -> None:
    with writing(engine) as connection:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            connection.execute(
                text(f"UPDATE audit_log SET position = {new} WHERE position = {old}")
            )

    assert [it["position"] for it in findings(app)] == [2, 3]


@pytest.mark.usefixtures("sealed")
def test_a_digest_covers_all_before_it(engine: Engine) -> None:
    with Session(engine) as session:
        first, second, third = session.scalars(select(Seal).order_by(Seal.through))

    assert (first.previous, first.through, first.entries) == (0, 3, 3)
    assert third.digest == sealing.chained(second.digest, 6, 9, third.content)
    assert second.digest == sealing.chained(first.digest, 3, 6, second.content)
    assert first.digest == sealing.chained(sealing.GENESIS, 0, 3, first.content)


def test_the_leader_seals_behind_the_stamping(app: Flask, engine: Engine) -> None:
    for _ in range(4):
        factories.create_user(app)

    def through() -> int:
        with Session(engine) as session:
            return max(session.scalars(select(Seal.through)), default=0)

    with RunningDrain(engine, MemorySink()):
        eventually(lambda: cursor(engine) == 4 and through() == 4)
        factories.create_user(app)
        eventually(lambda: through() == 5)

    assert findings(app) == []


def test_who_does_not_lead_seals_nothing(app: Flask, engine: Engine, lease: Lease) -> None:
    factories.create_user(app)
    stamp(engine)
    lease.release()

    assert seal(engine, lease) == 0


def test_what_has_a_hole_is_not_sealed(app: Flask, engine: Engine, lease: Lease) -> None:
    for _ in range(3):
        factories.create_user(app)
    stamp(engine)
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM audit_log WHERE position = 2"))

    assert seal(engine, lease) == 0
    assert findings(app, "audit-positions") != []
