"""A broker that is away shows in readiness and metrics, and so does its return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shop.app import start, stop
from tests import factories
from tests.audit.running import eventually
from tests.conftest import create_shop
from tests.monitoring.checks import Scrape
from tests.servers import Mosquitto, require


def test_a_broker_that_is_away_degrades_the_shop_until_it_is_back(tmp_path: Path) -> None:
    """DO-06, OP-13."""
    require("mosquitto", "readiness without a broker", private=True)
    broker = Mosquitto(tmp_path / "broker")
    app = create_shop(tmp_path / "var", sinks=("mqtt",), mqtt_url=broker.url)
    client = app.test_client()

    def ready() -> dict[str, Any]:
        answer = client.get("/health/ready")
        assert answer.status_code == 200
        body: dict[str, Any] = answer.get_json()
        return body

    def scrape() -> Scrape:
        return Scrape(client.get("/metrics").get_data(as_text=True))

    assert ready()["drain"]["leader"] is False
    start(app)
    try:
        factories.create_user(app)
        eventually(lambda: ready()["dependencies"]["mqtt"] == "down")
        away = ready()
        assert (away["status"], away["drain"]["leader"]) == ("degraded", True)
        assert away["drain"]["backlog"] == 1
        first = scrape()
        assert first.value("shop_audit_failed_total", sink="mqtt") >= 1
        assert first.value("shop_audit_backlog") == 1
        with broker:
            eventually(lambda: ready()["status"] == "ready")
            eventually(lambda: scrape().value("shop_audit_published_total", sink="mqtt") == 1)
            back = ready()
            assert back["dependencies"] == {"database": "up", "mqtt": "up"}
            assert (back["drain"]["backlog"], back["drain"]["oldest_seconds"]) == (0, 0)
    finally:
        stop(app)
