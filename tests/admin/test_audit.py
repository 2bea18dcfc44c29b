"""The doors on the audit log: who did what when, who knows of it, and catching up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, insert, text

from shop import clock
from shop.admin.views.audit import _conditions
from shop.app import start, stop
from shop.audit import queries
from shop.audit.events import events_after, stamped
from shop.audit.models import AuditEntry, AuditSink, ParkedEvent
from shop.audit.sequencer import stamp
from shop.db import READER, db, writing
from tests import factories
from tests.audit.running import eventually
from tests.conftest import create_shop
from tests.servers import MariaDB
from tests.users.checks import api_key, bearer
from tests.web.checks import assert_problem

AUDIT, EVENTS = "/api/v1/audit", "/api/v1/audit/events"
Headers = dict[str, str]


@pytest.fixture
def story(app: Flask, client: FlaskClient, staff: Headers, engine: Engine) -> dict[str, Any]:
    """Two products, the second of which was changed and deleted; all of it is stamped."""
    factories.create_product(client, staff, name="Ash chair")
    product = factories.create_product(client, staff, name="Oak table")
    where = f"/api/v1/products/{product['id']}"
    changed = client.patch(where, json={"name": "Elm"}, headers=staff | {"If-Match": "*"})
    assert changed.status_code == 200
    assert client.delete(where, headers=staff | {"If-Match": "*"}).status_code == 204
    stamp(engine)
    return product


def entries(client: FlaskClient, staff: Headers, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"{AUDIT}?{query}", headers=staff)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.get_json()["items"]
    return found


def steps(found: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(entry["table"], entry["sequence"], entry["action"]) for entry in found]


def test_a_row_tells_its_story_newest_first(
    client: FlaskClient, staff: Headers, story: dict[str, Any]
) -> None:
    found = entries(client, staff, f"table=products&row_id={story['id']}")

    assert steps(found) == [
        ("products", 3, "delete"), ("products", 2, "update"), ("products", 1, "insert"),
    ]  # fmt: skip
    gone, changed, made = found
    assert changed["before"]["name"] == "Oak table"
    assert changed["after"]["name"] == "Elm"
    assert (made["before"], gone["after"]) == (None, None)
    assert changed["actor"].startswith("users/")
    assert changed["type"] == "shop.product.updated"
    assert changed["request_id"]
    assert changed["created_at"].endswith("Z")


def test_filters_go_together(client: FlaskClient, staff: Headers, story: dict[str, Any]) -> None:
    everything = entries(client, staff, "limit=100")
    boss = next(entry["actor"] for entry in everything if entry["actor"])
    update = next(entry for entry in everything if entry["action"] == "update")

    assert len(entries(client, staff, "table=products&action=insert")) == 2
    assert all(e["actor"] == boss for e in entries(client, staff, f"actor={quote(boss)}"))
    assert entries(client, staff, "actor=users/999999999") == []
    later = entries(client, staff, f"after={update['id']}&limit=100")
    assert later == everything[: everything.index(update)]
    since = entries(client, staff, f"since={quote(update['created_at'])}&limit=100")
    assert update in since
    assert since == everything[: len(since)]
    future = (clock.now() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert entries(client, staff, f"since={quote(future)}") == []


def test_pages_show_each_entry_once(
    client: FlaskClient, staff: Headers, story: dict[str, Any]
) -> None:
    everything = entries(client, staff, "limit=100")
    seen, cursor = [], ""
    while True:
        shown = client.get(f"{AUDIT}?limit=3{cursor}", headers=staff).get_json()
        seen += shown["items"]
        if shown["next_cursor"] is None:
            break
        cursor = f"&cursor={shown['next_cursor']}"

    assert seen == everything


def test_each_entry_says_which_sinks_have_it(
    client: FlaskClient, staff: Headers, story: dict[str, Any], engine: Engine
) -> None:
    moment = clock.now()
    refused = {
        "event_id": "x", "table_name": "users", "row_id": 1, "sequence": 1, "reason": "large",
        "attempts": 1, "announced": True, "parked_at": moment, "changed_at": moment,
    }  # fmt: skip
    with writing(engine) as connection:
        for name, position in (("mqtt", 4), ("tape", 1)):
            row = {"name": name, "position": position, "updated_at": moment}
            connection.execute(insert(AuditSink).values(row))
        for position, state in ((1, "sent"), (2, "parked"), (3, "requeued")):
            at = {"sink": "mqtt", "position": position, "state": state}
            connection.execute(insert(ParkedEvent).values(refused | at))
    factories.create_product(client, staff)

    found = {entry["position"]: entry["sinks"] for entry in entries(client, staff, "limit=100")}

    def of(name: str) -> list[str]:
        ordered = [found[position] for position in (1, 2, 3, 4, 5, None)]
        return [sink["state"] for sinks in ordered for sink in sinks if sink["name"] == name]

    assert of("mqtt") == [
        "acknowledged", "parked", "requeued", "acknowledged", "waiting", "waiting",
    ]  # fmt: skip
    assert of("tape") == ["acknowledged"] + ["waiting"] * 5


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("row_id=4", "/row_id"),
        ("after=01JD0000000000000000000000", "/after"),
        ("after=oak", "/after"),
        ("table=Products", "/table"),
        ("table=products&row_id=0", "/row_id"),
        ("action=steal", "/action"),
        ("since=yesterday", "/since"),
        ("since=2026-11-22T14:00:00", "/since"),
        ("actor=%00", "/actor"),
        ("limit=101", "/limit"),
        ("cursor=oak", "/cursor"),
        ("colour=red", "/colour"),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: FlaskClient, staff: Headers, query: str, pointer: str
) -> None:
    assert_problem(client.get(f"{AUDIT}?{query}", headers=staff), "validation", pointer)


def test_secrets_are_not_there_and_personal_data_is_masked(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    factories.create_user(app, email="nobody.knows@example.com")

    answer = client.get(f"{AUDIT}?table=users", headers=staff)

    assert "nobody.knows" not in answer.text
    assert answer.get_json()["items"][0]["after"]["email"] == "n***@example.com"
    assert "password" not in answer.text


@pytest.mark.parametrize("url", [AUDIT, EVENTS])
def test_staff_and_keys_with_the_scope_may_read(
    app: Flask, client: FlaskClient, customer: Headers, staff: Headers, url: str
) -> None:
    assert client.get(url).status_code == 401
    assert client.get(url, headers=customer).status_code == 403
    assert client.get(url, headers=staff).status_code == 200
    assert client.get(url, headers=bearer(api_key(app, "products:write"))).status_code == 403
    assert client.get(url, headers=bearer(api_key(app, "audit:read"))).status_code == 200


def test_events_are_what_sinks_get_byte_for_byte(
    client: FlaskClient, staff: Headers, story: dict[str, Any], engine: Engine
) -> None:
    with engine.connect() as connection:
        sent = [found.message() for found in events_after(connection, 0, 100)]
    assert len(sent) > 8

    seen: list[bytes] = []
    url: str | None = f"{EVENTS}?after=2&limit=4"
    while url is not None:
        answer = client.get(url, headers=staff)
        body = answer.get_json()
        assert (body["first"], body["last"]) == (1, len(sent))
        last = int(body["items"][-1]["position"])
        assert all(message in answer.data for message in sent[last - len(body["items"]) : last])
        seen += sent[last - len(body["items"]) : last]
        link = answer.headers.get("Link")
        url = link and link[1 : link.index(">")]

    assert seen == sent[2:]


def test_who_has_everything_gets_nothing(
    client: FlaskClient, staff: Headers, story: dict[str, Any], engine: Engine
) -> None:
    last = client.get(EVENTS, headers=staff).get_json()["last"]
    for after in (last, last + 5, 2**63 - 1):
        body = client.get(f"{EVENTS}?after={after}", headers=staff).get_json()
        assert (body["items"], body["next_cursor"], body["last"]) == ([], None, last)


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=9223372036854775808", "limit=0"])
def test_positions_are_numbers(client: FlaskClient, staff: Headers, query: str) -> None:
    answer = client.get(f"{EVENTS}?{query}", headers=staff)

    assert_problem(answer, "validation", f"/{query.partition('=')[0]}")


def test_what_has_no_position_yet_is_no_event_yet(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    assert client.get(EVENTS, headers=staff).get_json()["items"] == []
    assert entries(client, staff)[0]["position"] is None


def test_a_shop_without_a_broker_has_its_events_all_the_same(
    app: Flask, client: FlaskClient, staff: Headers
) -> None:
    assert app.extensions["shop"].config.active_sinks == ()
    start(app)
    try:
        user = factories.create_user(app, email="new@example.com")
        eventually(lambda: f"users/{user.id}" in client.get(EVENTS, headers=staff).text)
    finally:
        stop(app)


@pytest.mark.parametrize("url", [f"{AUDIT}?limit=", f"{EVENTS}?limit="])
def test_a_long_page_costs_as_many_questions_as_a_short_one(
    app: Flask, client: FlaskClient, staff: Headers, story: dict[str, Any], url: str
) -> None:
    asked: list[str] = []
    with app.app_context():
        reader = db.engines[READER]

    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        # Who calls may be remembered, or not.
        if "audit_" in statement:
            asked.append(statement)

    client.get(f"{url}1", headers=staff)
    event.listen(reader, "before_cursor_execute", count)
    try:
        client.get(f"{url}1", headers=staff)
        short = len(asked)
        client.get(f"{url}100", headers=staff)
    finally:
        event.remove(reader, "before_cursor_execute", count)

    assert len(asked) == 2 * short
    assert 0 < short <= 4


PLANS: dict[str, tuple[dict[str, Any], str]] = {
    "all": ({}, "PRIMARY"),
    "a table": ({"table": "users"}, "ix_audit_log_table_name_id"),
    "a row": ({"table": "orders", "row_id": 77}, "uq_audit_log_table_name_row_id_sequence"),
    "an actor": ({"actor": "users/9"}, "ix_audit_log_actor_id"),
    "since": ({"since": clock.now() - timedelta(seconds=30)}, "ix_audit_log_created_at"),
}


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Engine]:
    """Twenty thousand entries of the last days, few of them of what is asked for."""
    url = mariadb.create_database("long_log")
    engine: Engine = (
        create_shop(tmp_path_factory.mktemp("log"), database_url=url).extensions["shop"].engine
    )
    moment = clock.now()
    with writing(engine) as connection:
        for first in range(0, 20_000, 5000):
            rows = [_entry(n, moment - timedelta(seconds=10 * (20_000 - n)))
                    for n in range(first, first + 5000)]  # fmt: skip
            connection.execute(insert(AuditEntry), rows)
        connection.execute(text("ANALYZE TABLE audit_log")).all()
    yield engine
    mariadb.drop_database("long_log")


def _entry(n: int, moment: Any) -> dict[str, Any]:
    return {
        "position": n + 1, "event_id": f"01JD{n:022}", "row_id": n + 1, "sequence": 1,
        "table_name": "users" if n % 100 == 0 else "orders", "action": "insert", "type": "x",
        "data": "{}", "actor": "users/9" if n % 100 == 0 else "users/1", "created_at": moment,
    }  # fmt: skip


@pytest.mark.parametrize("question", PLANS)
def test_lists_are_found_by_an_index(long_log: Engine, question: str) -> None:
    wanted, index = PLANS[question]
    statement = queries.newest(2**63 - 1, 21, *_conditions(**wanted))

    assert _plan(long_log, statement) == index


def test_events_are_found_by_their_positions(long_log: Engine) -> None:
    behind = AuditEntry.position > 15_000, AuditEntry.position > queries.PRUNED_UP_TO

    assert _plan(long_log, stamped(*behind).limit(101)) == "uq_audit_log_position"


def _plan(engine: Engine, statement: Any) -> str:
    sql = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN {sql.replace('%', '%%')}").mappings().all()
    (row,) = [row for row in plan if row["table"] == "audit_log"]
    assert row["type"] != "ALL", plan
    return str(row["key"])
