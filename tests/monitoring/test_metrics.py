"""Metrics: names and values of the contract, over workers, restarts and hostile addresses."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, exc, text
from sqlalchemy.orm import Session

from config import Config
from shop import clock, create_app
from shop.audit.models import AuditSink
from shop.audit.sequencer import stamp
from shop.audit.sinks.base import SinkDown
from shop.audit.troubles import SinkTrouble, Troubles, count_parked
from shop.db import writing
from shop.jobs.models import JobRun
from tests import factories
from tests.monitoring.checks import NAMES, Scrape
from tests.orders.checks import placed
from tests.servers import free_port

LIVE = {"method": "GET", "route": "/health/live", "status": "200"}


def scrape(client: FlaskClient) -> Scrape:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    return Scrape(answer.get_data(as_text=True))


def test_every_metric_of_the_contract_is_there(watched: Flask) -> None:
    """OP-13."""
    found = scrape(watched.test_client())

    assert set(found.types) >= NAMES
    assert found.value("shop_database_up") == 1
    for name in ("published", "failed", "parked"):
        assert found.types[f"shop_audit_{name}_total"] == "counter"
        assert [*found.found(f"shop_audit_{name}_total", {})] == [({"sink": "mqtt"}, 0)]


def test_requests_are_counted_with_their_time_by_route(client: FlaskClient) -> None:
    labels = {"method": "GET", "route": "/api/v1/products/{id}", "status": "404"}
    before = scrape(client)
    for number in range(5):
        client.get(f"/api/v1/products/{7000 + number}")
    after = scrape(client)

    count = after.value("shop_http_requests_total", **labels)
    assert count - before.value("shop_http_requests_total", **labels) == 5
    assert after.value("shop_http_request_seconds_count", **labels) == count
    assert after.value("shop_http_request_seconds_bucket", **labels, le="+Inf") == count
    took = after.value("shop_http_request_seconds_sum", **labels)
    assert took > before.value("shop_http_request_seconds_sum", **labels)
    rising = [value for _, value in after.found("shop_http_request_seconds_bucket", labels)]
    assert rising == sorted(rising)


def test_a_thousand_hostile_addresses_add_no_label(client: FlaskClient) -> None:
    odd = ['"', "\\", "\n", "{x}", "%00", "é", "../..", "shop_audit_backlog 1"]

    def labels() -> set[tuple[tuple[str, str], ...]]:
        found = scrape(client).found("shop_http_requests_total", {})
        return {tuple(sorted(label.items())) for label, _ in found}

    client.get("/nowhere")
    client.open("/nowhere", method="BREW")
    client.get("/api/v1/products/none")
    client.get("/problems/none")
    labels()
    before = labels()
    for number in range(250):
        word = f"{secrets.token_hex(8)}{odd[number % len(odd)]}"
        client.get(f"/{word}")
        client.get(f"/api/v1/products/{word.replace('/', '')}".partition("\n")[0])
        client.get(f"/problems/{number}", headers={"X-Forwarded-Host": word.strip()})
        client.open("/nowhere", method=f"BREW{number}")

    assert labels() - before == set()
    assert ("method", "other") in {pair for label in labels() for pair in label}


def test_the_log_and_its_sinks_are_counted_in_the_database(
    watched: Flask, engine: Engine, session: Session
) -> None:
    client = watched.test_client()
    for _ in range(4):
        factories.create_user(watched)
    pending = scrape(client)
    stamp(engine)
    session.add(AuditSink(name="mqtt", position=3, updated_at=clock.now()))
    session.commit()
    troubles = Troubles(engine, "mqtt")
    for _ in range(2):
        troubles.note(SinkDown("no broker"))
    with writing(engine) as connection:
        count_parked(connection, "mqtt", 1)
    stamped = scrape(client)
    troubles.over()

    assert pending.value("shop_audit_backlog") == 4
    assert pending.value("shop_audit_oldest_seconds") > 0
    assert stamped.value("shop_audit_backlog") == 1
    assert stamped.value("shop_audit_published_total", sink="mqtt") == 2
    assert stamped.value("shop_audit_parked_total", sink="mqtt") == 1
    assert stamped.value("shop_audit_failed_total", sink="mqtt") == 2
    with engine.connect() as connection:
        assert connection.execute(text("SELECT since FROM audit_troubles")).scalar_one() is None
    session.query(AuditSink).update({"position": 4})
    session.commit()
    assert scrape(client).value("shop_audit_backlog") == 0
    assert scrape(client).value("shop_audit_oldest_seconds") == 0


def test_the_database_is_no_fault_of_the_sink(engine: Engine, session: Session) -> None:
    Troubles(engine, "mqtt").note(exc.OperationalError("SELECT 1", {}, Exception("gone")))

    assert session.query(SinkTrouble).count() == 0


def test_runs_of_jobs_are_counted_when_the_runs_are_forgotten(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    began = time.time()
    runner = app.test_cli_runner()
    for _ in range(2):
        # A run by hand has the present second for its slot.
        time.sleep(1.01 - time.time() % 1)
        result = runner.invoke(args=["jobs", "run", "reconcile"])
        assert result.exit_code == 0, result.output
    last = scrape(client).value("shop_job_last_success_timestamp", job="reconcile")
    lasted = scrape(client).value("shop_job_last_duration_seconds", job="reconcile")
    assert 0 < lasted < time.time() - began
    session.execute(delete(JobRun))
    session.commit()

    assert began - 1 < last < time.time() + 1
    assert scrape(client).value("shop_job_runs_total", job="reconcile", status="done") == 2


def test_orders_are_counted_the_settled_ones_once(
    app: Flask, client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    product = factories.create_product(client, staff)
    buyer = factories.sign_in(app, "customer")
    sku = product["variants"][0]["sku"]
    before = scrape(client).value("shop_orders_total")
    for _ in range(3):
        placed(client, buyer, (sku, 1))
    session.execute(text("UPDATE orders SET created_at = '2020-11-22 14:00:00.000000'"))
    session.commit()
    assert scrape(client).value("shop_orders_total") == before + 3
    placed(client, buyer, (sku, 1))

    assert scrape(client).value("shop_orders_total") == before + 4
    assert scrape(client).value("shop_orders_total") == before + 4


def test_connections_in_use_are_counted(app: Flask, engine: Engine, client: FlaskClient) -> None:
    before = scrape(client).value("shop_db_pool_in_use")
    with engine.connect(), engine.connect():
        during = scrape(client).value("shop_db_pool_in_use")

    assert during - before == 2
    assert scrape(client).value("shop_db_pool_in_use") == before


def test_without_the_database_the_server_is_still_measured(tmp_path: Path) -> None:
    url = f"mysql+pymysql://root@127.0.0.1:{free_port()}/shop"
    client = create_app(Config(env="testing", var=tmp_path, database_url=url)).test_client()
    client.get("/health/live")

    found = scrape(client)

    assert found.value("shop_database_up") == 0
    assert set(found.types) >= NAMES
    assert found.value("shop_http_requests_total", **LIVE) > 0


@pytest.mark.parametrize(("expose", "status"), [((), 404), (("docs",), 404), (("metrics",), 200)])
def test_production_shows_metrics_only_when_it_is_told_to(
    tmp_path: Path, expose: tuple[str, ...], status: int
) -> None:
    """IN-27."""
    config = Config(
        env="production", var=tmp_path, secret_key="k" * 40, sinks=("none",), expose=expose
    )

    assert create_app(config).test_client().get("/metrics").status_code == status


@pytest.mark.parametrize("engine_name", ["mariadb"])
def test_a_scrape_looks_at_a_bounded_part_of_the_log(watched: Flask, engine: Engine) -> None:
    """No statement of a scrape reads the log from end to end."""
    client = watched.test_client()
    _fill_log(engine, 3000)
    before = _rows_read(engine)
    scrape(client)

    assert _rows_read(engine) - before < 500


def _fill_log(engine: Engine, entries: int) -> None:
    columns = "position, event_id, table_name, row_id, sequence, action, type, data, created_at"
    values = ", ".join(
        f"({n}, '{n:026}', 'users', {n}, 1, 'create', 'shop.user.created', '{{}}', NOW(6))"
        for n in range(1, entries + 1)
    )
    with engine.connect() as connection, connection.begin():
        connection.execute(text(f"INSERT INTO audit_log ({columns}) VALUES {values}"))
        connection.execute(text(f"UPDATE audit_head SET position = {entries}"))
        connection.execute(text(f"INSERT INTO audit_sinks VALUES ('mqtt', {entries - 10}, NOW(6))"))


def _rows_read(engine: Engine) -> int:
    statement = text("SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Handler_read%'")
    with engine.connect() as connection:
        return sum(int(row[1]) for row in connection.execute(statement))
