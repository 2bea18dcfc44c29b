"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

from flask import Blueprint, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shop.db import db
from shop.web.answers import answer

pages = Blueprint("health", __name__)

_NEWS = {"Cache-Control": "no-store"}


@pages.get("/health/live")
def live() -> Response:
    """200 while the process answers at all."""
    return answer({"status": "live"}, headers=_NEWS)


@pages.get("/health/ready")
def ready() -> Response:
    """200 when requests can be served; 503 when the database is away."""
    try:
        db.session.execute(text("SELECT 1"))
        database = "up"
    except SQLAlchemyError:
        db.session.rollback()
        database = "down"
    body = {"status": "ready", "dependencies": {"database": database}}
    if database == "up":
        return answer(body, headers=_NEWS)
    return answer(body | {"status": "unavailable"}, 503, headers=_NEWS | {"Retry-After": "2"})
