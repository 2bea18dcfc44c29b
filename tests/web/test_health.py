"""Health: whether the process lives, and whether it can serve."""

from __future__ import annotations

from pathlib import Path

from flask.testing import FlaskClient

from config import Config
from shop import create_app
from tests.servers import free_port


def test_a_shop_with_its_database_is_ready(client: FlaskClient) -> None:
    answer = client.get("/health/ready")

    assert answer.status_code == 200
    assert answer.get_json() == {"status": "ready", "dependencies": {"database": "up"}}


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
