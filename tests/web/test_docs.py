"""The human page of the API needs nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from config import Config
from shop import create_app
from tests.web.checks import assert_problem

FOLDER = Path(__file__).parents[2] / "shop" / "web" / "static"


def test_the_page_and_all_that_it_loads_come_from_the_shop(client: FlaskClient) -> None:
    page = client.get("/docs", buffered=True)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert page.content_type.startswith("text/html")
    assert "://" not in page.text
    assert len(loaded) == 4
    for address in loaded:
        assert address == "data:," or client.get(address, buffered=True).status_code == 200


def test_the_page_shows_the_document_of_this_shop(client: FlaskClient) -> None:
    script = client.get("/docs/docs.js", buffered=True).text

    assert 'url: "/openapi.json"' in script
    # Swagger UI would send the document to a validator of its makers.
    assert "validatorUrl: null" in script
    assert client.get("/openapi.json").status_code == 200


def test_the_style_sheet_loads_nothing_from_elsewhere() -> None:
    text = (FOLDER / "swagger-ui.css").read_text()

    assert not re.findall(r"""url\(["']?(?!data:|["']?data:)[a-z]+:""", text)
    assert "@import" not in text


def test_a_browser_is_forbidden_to_load_anything_from_elsewhere(client: FlaskClient) -> None:
    policy = client.get("/docs", buffered=True).headers["Content-Security-Policy"]

    assert "http" not in policy
    assert "script-src 'self';" in policy


@pytest.mark.parametrize("name", ["docs.html", "LICENSE", "nothing.js", "..%2Fdocs.py", "%00"])
def test_nothing_else_of_the_folder_is_served(client: FlaskClient, name: str) -> None:
    assert_problem(client.get(f"/docs/{name}"), "not-found")


@pytest.mark.parametrize(
    ("env", "expose", "status"),
    [("production", (), 404), ("production", ("docs",), 200), ("development", (), 200)],
)
def test_production_has_the_page_only_if_it_is_exposed(
    tmp_path: Path, env: str, expose: tuple[str, ...], status: int
) -> None:
    app = create_app(Config(env=env, expose=expose, var=tmp_path))

    for path in ("/docs", "/docs/docs.js"):
        assert app.test_client().get(path, buffered=True).status_code == status
