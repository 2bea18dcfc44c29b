"""The tour of the README works as it is written, on the embedded default and on the real parts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.running import ROOT, RunningShop
from tests.servers import MariaDB, Mosquitto, free_port


def tour() -> str:
    """The shell blocks between the `tour` marks of the README, as one script."""
    readme = (ROOT / "README.md").read_text()
    between = readme.split("<!-- tour -->")[1]
    return "\n".join(re.findall(r"```sh\n(.*?)```", between, re.S))


def take(shop: RunningShop, broker_url: str, folder: Path) -> str:
    """Run the tour against a shop that is elsewhere than a reader's; answer what it printed."""
    script = tour()
    for written, here in {
        "http://127.0.0.1:8000": shop.url,
        ".venv/bin/python": sys.executable,
        ".venv/bin/flask": f"{sys.executable} -m flask --app wsgi",
        '"$(cat var/mqtt.url)"': broker_url,
        "/tmp/created": str(folder / "created"),
    }.items():
        assert written in script, f"the tour no longer says {written}"
        script = script.replace(written, here)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT, env=shop.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def events(printed: str) -> list[dict[str, Any]]:
    """The events that the subscriber of the tour printed."""
    lines = re.findall(r"shop/products/\d+ (\{.*\})$", printed, re.M)
    return [json.loads(line) for line in lines]


def check(shop: RunningShop, broker_url: str, folder: Path) -> None:
    printed = take(shop, broker_url, folder)

    assert "HTTP/1.1 201" in printed
    created, renamed = events(printed)[-2:]
    assert (created["type"], renamed["type"]) == ("shop.product.created", "shop.product.updated")
    assert (created["sequence"], renamed["sequence"]) == ("1", "2")
    assert renamed["data"]["before"] == {"name": "Oak side table"}
    assert renamed["data"]["after"]["name"] == "Walnut side table"
    assert renamed["actor"] == "users/1"


def test_the_tour_works_on_the_embedded_default(tmp_path: Path) -> None:
    with RunningShop(tmp_path / "var", "", None, mqtt_port=free_port()) as shop:
        shop.flask("shop", "demo", "--products", "20")
        broker_url = (tmp_path / "var" / "mqtt.url").read_text().strip()
        check(shop, broker_url, tmp_path)


def test_the_tour_works_on_mariadb_and_mosquitto(
    tmp_path: Path, mariadb: MariaDB, mosquitto: Mosquitto
) -> None:
    database = mariadb.create_database("tour")
    with RunningShop(tmp_path / "var", database, mosquitto.url) as shop:
        shop.flask("shop", "demo", "--products", "20")
        check(shop, mosquitto.url, tmp_path)
