"""The database's own log of what it did against the audit log: is every change there, and only it?

Nobody has to think of the code that could write past the audit: whatever the shop does while
visitors use all of it is in MariaDB's binary log, row by row and transaction by transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text

from shop.audit.capture import Audited
from shop.db import Base, writing
from tests import factories
from tests.audit.binlog import ARGUMENTS, OPTIONS, Change, Transaction, told, transactions
from tests.chaos.history import tell
from tests.conftest import create_shop
from tests.servers import MariaDB, require
from tests.stories.buyers import visits
from tests.stories.test_engines_agree import operations, reached
from tests.stories.trace import Player, playing

#: What the contract says is audited, as far as the shop has it.
PROMISED = {
    "users", "addresses", "categories", "products", "variants", "stock_levels", "orders",
    "order_items", "payments", "refunds", "shipments", "reviews", "files", "ads", "vouchers",
    "security_events",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB that logs the whole of each changed row."""
    require("mariadb", "that no change goes past the audit log", private=True)
    with MariaDB(tmp_path_factory.mktemp("binlog"), *ARGUMENTS, **OPTIONS) as server:
        yield server


@pytest.fixture(scope="module")
def app(server: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """A shop on it, whose visitors come once."""
    yield from shop_on(server, tmp_path_factory.mktemp("var"))


def shop_on(server: MariaDB, folder: Path) -> Iterator[Flask]:
    """A fresh shop."""
    app = create_shop(
        folder, database_url=server.create_database(f"oracle{secrets.randbits(32)}"),
        rate_limits="off", access_token_seconds=86_400, propagate_errors=False,
    )  # fmt: skip
    yield app
    app.extensions["shop"].engine.dispose()
    app.extensions["shop"].reader.dispose()


@contextmanager
def logging(server: MariaDB, app: Flask) -> Iterator[list[Transaction]]:
    """What is done meanwhile; filled when the block is left."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("RESET MASTER")
    before = entries(app)
    found: list[Transaction] = []
    yield found
    database = app.extensions["shop"].engine.url.database
    found += transactions(server, str(database), keys())
    read = sum(it.recorded.total() for it in found)
    assert read == entries(app) - before, "the binary log was not read to its end"


def entries(app: Flask) -> int:
    """How long the audit log is."""
    with app.extensions["shop"].engine.connect() as connection:
        count: int = connection.execute(text("SELECT COUNT(*) FROM audit_log")).scalar_one()
    return count


def keys() -> dict[str, str]:
    """The primary key of each audited table."""
    models = [it.class_ for it in Base.registry.mappers if issubclass(it.class_, Audited)]
    return {it.__tablename__: it.__table__.primary_key.columns.keys()[0] for it in models}


def unmatched(found: list[Transaction]) -> list[Transaction]:
    return [it for it in found if any(it.unmatched)]


def visited(app: Flask, seed: int, requests: int) -> Player:
    with playing(app) as player:
        visits(player, seed, requests)
    return player


def changing(app: Flask) -> set[str]:
    """The operations that may change something."""
    changes = {"POST", "PUT", "PATCH", "DELETE"}
    return {r.endpoint for r in app.url_map.iter_rules() if changes & (r.methods or set())} & (
        operations(app)
    )


def check(server: MariaDB, app: Flask, seed: int, requests: int) -> None:
    with logging(server, app) as found:
        player = visited(app, seed, requests)

    wrong = unmatched(found)
    assert not wrong, told(wrong)
    assert changing(app) <= set(reached(player))
    changes = sum(it.changed.total() for it in found)
    touched = {change.table for it in found for change in it.changed}
    assert touched >= (PROMISED & set(keys())), "visitors have not changed all that is audited"
    tell(
        f"seed {seed}: {len(player.requests)} requests, {len(found)} transactions, {changes}"
        f" changed rows of {len(touched)} tables: each has its entry, and no entry more"
    )


def test_each_transaction_records_what_it_changes_and_nothing_else(
    server: MariaDB, app: Flask
) -> None:
    """DO-01, and the oracle of completeness."""
    check(server, app, 20261122, 400)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_each_of_thousands_of_transactions_records_what_it_changes(
    server: MariaDB, tmp_path: Path, seed: int
) -> None:
    for app in shop_on(server, tmp_path):
        check(server, app, seed, 2000)


def test_a_write_past_the_audit_is_found(server: MariaDB, app: Flask) -> None:
    user = factories.create_user(app).id
    past_the_audit = {
        Change("users", user, "update", 2): "UPDATE users SET version = 2 WHERE id = :id",
        Change("users", user, "update", 3): "UPDATE users SET name = 'I', version = 3"
        " WHERE id = :id",
        Change("users", user, "delete", 4): "DELETE FROM users WHERE id = :id",
    }

    with logging(server, app) as found:
        factories.create_user(app)
        for statement in past_the_audit.values():
            with writing(app.extensions["shop"].engine) as connection:
                connection.execute(text(statement), {"id": user})

    assert [it.unmatched[0] for it in unmatched(found)] == [{it: 1} for it in past_the_audit]
    assert len(found) == 1 + len(past_the_audit)


def test_an_entry_for_what_was_not_changed_is_found(server: MariaDB, app: Flask) -> None:
    user = factories.create_user(app).id
    copied = text(
        "INSERT INTO audit_log (event_id, table_name, row_id, sequence, action, type, data,"
        " created_at) SELECT 'invented', table_name, row_id, 2, 'update', type, data, created_at"
        " FROM audit_log WHERE table_name = 'users' AND row_id = :id"
    )
    with logging(server, app) as found, writing(app.extensions["shop"].engine) as connection:
        connection.execute(copied, {"id": user})

    (wrong,) = unmatched(found)
    assert wrong.unmatched[1] == {Change("users", user, "update", 2): 1}


def test_what_the_contract_promises_is_audited() -> None:
    there = PROMISED & set(Base.metadata.tables)

    assert there <= set(keys())


def test_no_audited_row_is_changed_by_the_database_itself() -> None:
    """What a foreign key cascades to is in no log: not in the ORM's, not in the binary one."""
    cascading = [
        (table.name, key.column.table.name)
        for table in Base.metadata.tables.values()
        if table.name in keys()
        for key in table.foreign_keys
        if key.ondelete or key.onupdate
    ]
    assert cascading == []
