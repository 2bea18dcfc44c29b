"""The revision of ads, on tables that have something in them."""

from __future__ import annotations

import time
from pathlib import Path

import flask_migrate
import pytest
from sqlalchemy import inspect, text

from shop import clock
from shop.ads.models import Kind
from tests import factories
from tests.ads.checks import ADS, create_ad, happened
from tests.conftest import create_shop
from tests.servers import MariaDB

FOLDER = str(Path(__file__).parent.parent.parent / "migrations")
TABLES = {
    "ads", "ad_events", "ad_late_events", "ad_hours", "ad_days", "ad_stats_hourly",
    "ad_stats_daily",
}  # fmt: skip


def test_ads_come_and_go_and_leave_the_rest_as_it_is(
    engine_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = ""
    if engine_name == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        url = server.create_database(f"ads{time.monotonic_ns()}")
    app = create_shop(tmp_path, database_url=url)
    engine = app.extensions["shop"].engine
    client, staff = app.test_client(), factories.sign_in(app, "staff")
    product = factories.create_product(client, staff)["id"]
    ad = create_ad(client, staff, product_id=product)
    happened(app, ad, Kind.CLICK, clock.now())

    with app.app_context():
        # To before ads, whatever came after them.
        flask_migrate.downgrade(directory=FOLDER, revision="0014")
        flask_migrate.downgrade(directory=FOLDER, revision="-1")
    assert not TABLES & set(inspect(engine).get_table_names())
    assert client.get(f"/api/v1/products/{product}").status_code == 200

    with app.app_context():
        flask_migrate.upgrade(directory=FOLDER)
    assert set(inspect(engine).get_table_names()) >= TABLES
    with engine.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM ads")).scalar_one() == 0
    assert client.get(ADS).get_json()["items"] == []
