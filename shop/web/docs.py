"""The human page of the API: Swagger UI 5.35.0 from this folder, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, abort, send_from_directory

pages = Blueprint("docs", __name__)

_FOLDER = Path(__file__).parent / "static"
_ASSETS = {"swagger-ui-bundle.js", "swagger-ui.css", "docs.js"}
# Swagger UI styles its parts inline and carries its icons as data URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


@pages.get("/docs")
def docs_page() -> Response:
    """Swagger UI on /openapi.json."""
    response = send_from_directory(_FOLDER, "docs.html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@pages.get("/docs/<name>")
def docs_asset(name: str) -> Response:
    """A file of the page."""
    if name not in _ASSETS:
        abort(404)
    return send_from_directory(_FOLDER, name, max_age=86_400)
