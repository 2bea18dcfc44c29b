"""Where a request comes from, as far as counting cares."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask, Request, Response, request
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from config import Config
from shop import create_app
from shop.limits.networks import client_network

ANNA, PROXY, FORGED = "203.0.113.7", "10.0.0.1", "198.51.100.66"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", "unknown"),
        (None, "unknown"),
        ("unix:", "unknown"),
        ("<script>", "unknown"),
    ],
)
def test_an_address_is_counted_under_its_network(address: str | None, network: str) -> None:
    environ = EnvironBuilder(environ_overrides={"REMOTE_ADDR": address}).get_environ()
    if address is None:
        del environ["REMOTE_ADDR"]

    assert client_network(Request(environ)) == network


def asking(app: Flask) -> FlaskClient:
    """Somebody whom the app tells where it thinks that they are."""
    app.add_url_rule("/network", view_func=lambda: Response(client_network(request)))
    return app.test_client()


def network(client: FlaskClient, peer: str, forwarded: str | None) -> str:
    """Where a request from this peer seems to come from."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    headers |= {"X-Real-IP": FORGED, "Forwarded": f"for={FORGED}"}
    return client.get("/network", headers=headers, environ_overrides={"REMOTE_ADDR": peer}).text


def test_without_trusted_proxies_nobody_forges_an_address(tmp_path: Path) -> None:
    client = asking(create_app(Config(env="testing", var=tmp_path)))

    for forwarded in (None, FORGED, f"{FORGED}, {ANNA}", "nonsense"):
        assert network(client, ANNA, forwarded) == ANNA


def test_behind_a_trusted_proxy_only_its_own_word_counts(tmp_path: Path) -> None:
    client = asking(create_app(Config(env="testing", var=tmp_path, trusted_proxies=1)))

    assert network(client, PROXY, ANNA) == ANNA
    assert network(client, PROXY, f"{FORGED}, {ANNA}") == ANNA
    assert network(client, PROXY, f"{FORGED}, {FORGED}, 2001:db8:1:2:3::1") == "2001:db8:1:2::/64"
    assert network(client, ANNA, None) == ANNA
