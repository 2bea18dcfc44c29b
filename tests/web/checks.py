"""What tests of several areas check about answers."""

from __future__ import annotations

from typing import Any

from werkzeug.test import TestResponse

from shop.web.problems import PROBLEMS


def assert_problem(answer: TestResponse, slug: str, *pointers: str) -> dict[str, Any]:
    """The answer is this problem, complete and telling nothing internal; its body."""
    status, title, _meaning = PROBLEMS[slug]
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body: dict[str, Any] = answer.get_json()
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "request_id"}
    assert (body["type"], body["title"], body["status"]) == (f"/problems/{slug}", title, status)
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert [fault["pointer"] for fault in body.get("errors", [])] == list(pointers)
    for internal in ("Traceback", "SELECT", "INSERT", "sqlalchemy", "site-packages", ".py"):
        assert internal not in answer.text
    return body
