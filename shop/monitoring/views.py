"""Whether the process lives, whether the shop can serve, and its metrics."""

from __future__ import annotations

from typing import cast

from flask import Blueprint, Response, current_app

from shop.monitoring.exposition import CONTENT_TYPE
from shop.monitoring.metrics import exposed
from shop.monitoring.readiness import Watch, readiness
from shop.web.answers import answer

health = Blueprint("health", __name__)
#: A blueprint of its own: it may be left out.
pages = Blueprint("metrics", __name__)

_NEWS = {"Cache-Control": "no-store"}


def _watch() -> Watch:
    return cast(Watch, current_app.extensions["watch"])


@health.get("/health/live")
def live() -> Response:
    """200 while the process answers at all."""
    return answer({"status": "live"}, headers=_NEWS)


@health.get("/health/ready")
def ready() -> Response:
    """200 when requests can be served; 503 when the database is away.

    `degraded` is 200 too: customers are served, and events or jobs are late.
    """
    body = readiness(_watch())
    if body["status"] == "unavailable":
        return answer(body, 503, headers=_NEWS | {"Retry-After": "2"})
    return answer(body, headers=_NEWS)


@pages.get("/metrics")
def metrics() -> Response:
    """For Prometheus; not for the public."""
    return Response(exposed(_watch()), content_type=CONTENT_TYPE, headers=_NEWS)
