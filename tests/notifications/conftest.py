"""A shop whose reader of the log has begun."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy import Engine

from tests import factories
from tests.notifications.checks import begin


@pytest.fixture(autouse=True)
def _reader(request: pytest.FixtureRequest) -> None:
    """Nothing is told of what was there before."""
    if "app" in request.fixturenames:
        app: Flask = request.getfixturevalue("app")
        engine: Engine = app.extensions["shop"].engine
        begin(engine)


@pytest.fixture
def anna(app: Flask) -> dict[str, str]:
    """Headers of a customer whose address is anna@example.com."""
    user = factories.create_user(app, email="anna@example.com")
    return factories.headers_of(app, user)
