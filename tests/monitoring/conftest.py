"""A shop that is watched."""

from __future__ import annotations

import pytest
from flask import Flask

from shop.monitoring.readiness import Watch


@pytest.fixture
def watched(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """A shop whose events should go to MQTT; nobody publishes them."""
    watch: Watch = app.extensions["watch"]
    monkeypatch.setitem(app.extensions, "watch", Watch(("mqtt",), watch.plans))
    return app
