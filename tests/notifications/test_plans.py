"""How the engines find somebody's notifications among many: by indexes, without sorting."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, insert, text

from shop import clock
from shop.db import writing
from shop.notifications import queries
from shop.notifications.models import Notification
from tests import factories


@pytest.fixture
def owner(app: Flask, engine: Engine) -> int:
    """Somebody with thousands of notifications, one of ten of them hidden or unread."""
    user = factories.create_user(app)
    other = factories.create_user(app)
    moment = clock.now()
    rows = [
        {
            "user_id": user.id if number % 2 else other.id, "kind": "order-delivered",
            "key": f"k{number}", "data": {"number": "A", "order_id": number},
            "hidden": number % 10 == 5, "created_at": moment,
            "read_at": None if number % 10 == 1 else moment, "message_id": None,
        }
        for number in range(6000)
    ]  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(Notification), rows)
        if engine.dialect.name == "sqlite":
            connection.execute(text("ANALYZE"))
        else:
            connection.execute(text("ANALYZE TABLE notifications")).all()
    return user.id


@pytest.mark.parametrize("question", ["NEWEST", "NEWEST_UNREAD", "UNREAD", "ADDED_FOR"])
def test_a_page_and_a_count_are_found_by_an_index(
    engine: Engine, owner: int, question: str
) -> None:
    values: dict[str, Any] = {"user_id": owner}
    if question.startswith("NEWEST"):
        values |= {"before": 2**62, "limit": 21}
    if question == "ADDED_FOR":
        values |= {"behind": 0, "through": 2**62, "limit": 21}
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    statement = getattr(queries, question).params(**values)
    compiled = statement.compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"{explain} {compiled}".replace("%", "%%")).all()

    told = str(plan)
    assert "ix_notifications_user_id" in told, told
    assert "filesort" not in told, told
    assert "TEMP B-TREE" not in told, told
