"""Fixtures: the shop over both engines, with real servers behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, insert, update
from sqlalchemy.orm import Session

from config import Config
from shop import create_app
from shop.audit.models import AuditHead
from shop.db import Base
from shop.products.models import Category
from tests import factories
from tests.servers import MariaDB, Mosquitto, external_url, require

ENGINES = ("sqlite", "mariadb")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> None:
    """Settings of the developer's shell must not reach the shops under test."""
    for name in list(os.environ):
        if name.startswith("SHOP_") and not name.startswith("SHOP_TEST_"):
            del os.environ[name]


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A private MariaDB that lives as long as the test run. Tests of their own may kill theirs."""
    require("mariadb", "the shop on MariaDB", private=True)
    with MariaDB(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A private Mosquitto that lives as long as the test run."""
    require("mosquitto", "publishing to a real MQTT broker", private=True)
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as server:
        yield server


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Each test that needs a database runs on both engines."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def apps() -> dict[str, Flask]:
    """The app of each engine, made once a run."""
    return {}


@pytest.fixture
def app(
    engine_name: str,
    apps: dict[str, Flask],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Flask:
    """A migrated shop without a row, nothing started."""
    if engine_name not in apps:
        folder = tmp_path_factory.mktemp(engine_name)
        url = ""
        if engine_name == "mariadb":
            url = external_url("mariadb") or request.getfixturevalue("mariadb").create_database(
                "shop"
            )
        apps[engine_name] = create_shop(folder, database_url=url)
    empty(apps[engine_name].extensions["shop"].engine)
    return apps[engine_name]


def create_shop(folder: Path, **settings: Any) -> Flask:
    """An app over a freshly migrated database."""
    defaults: dict[str, Any] = {"env": "testing", "sinks": (), "propagate_errors": True}
    app = create_app(Config(**{**defaults, "var": folder, **settings}))
    with app.app_context():
        flask_migrate.upgrade(directory=str(Path(__file__).parent.parent / "migrations"))
    return app


def empty(engine: Engine) -> None:
    """Delete every row, and set the head of positions back."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        # A category may be below another one: no order of rows would do on MariaDB.
        connection.execute(update(Category).values(parent_id=None))
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))
        connection.execute(insert(AuditHead).values(id=1, position=0))


@pytest.fixture
def engine(app: Flask) -> Engine:
    """The engine of the shop under test."""
    found: Engine = app.extensions["shop"].engine
    return found


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session of the test's own, apart from the shop's."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Somebody who is not signed in."""
    return app.test_client()


@pytest.fixture
def staff(app: Flask) -> dict[str, str]:
    """Headers of a member of staff."""
    return factories.sign_in(app, role="staff")


@pytest.fixture
def admin(app: Flask) -> dict[str, str]:
    """Headers of an administrator."""
    return factories.sign_in(app, role="admin")


@pytest.fixture
def customer(app: Flask) -> dict[str, str]:
    """Headers of a customer."""
    return factories.sign_in(app, role="customer")
