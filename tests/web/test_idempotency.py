"""Operations that ask for a key, and callers without an account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient
from sqlalchemy import func, select

from shop.audit.models import AuditHead
from shop.db import db, transactional
from shop.web.answers import answer
from shop.web.api import LOCATION, Blueprint
from shop.web.callers import EVERYONE
from shop.web.idempotency import keep_answer
from tests.conftest import create_shop
from tests.web.checks import assert_problem
from tests.web.test_callers import documented

shed = Blueprint("shed", __name__, description="Only for this test")
#: What was built; the effect, as far as this test cares.
built: list[int] = []


def cart() -> str | None:
    """Who calls, when nobody is signed in."""
    token = request.headers.get("X-Cart")
    return None if token is None else f"carts/{token}"


@shed.post("/sheds")
@shed.allow(*EVERYONE)
@shed.response(201, headers=LOCATION)
@shed.idempotent(required=True, guest=cart)
@transactional
def build_shed() -> Response:
    """Build a shed."""
    built.append(len(built))
    status = int(request.headers.get("X-Status", 201))
    made = answer({"number": len(built)}, status, location=f"/sheds/{len(built)}")
    return keep_answer(made) if status in (201, 402) else made


@shed.post("/sheds/slow")
@shed.allow(*EVERYONE)
@shed.response(201)
@shed.idempotent(guest=cart)
def build_slowly() -> Response:
    """Build a shed in two transactions, with work between them."""
    _count()
    return _finish()


@transactional
def _count() -> int:
    return db.session.execute(select(func.count()).select_from(AuditHead)).scalar_one()


@transactional
def _finish() -> Response:
    built.append(len(built))
    return keep_answer(answer({"number": len(built)}, 201))


@pytest.fixture
def sheds(tmp_path: Path) -> FlaskClient:
    """A shop that builds sheds."""
    app = create_shop(tmp_path)
    app.register_blueprint(shed)
    built.clear()
    return app.test_client()


def build(client: FlaskClient, path: str = "/api/v1/sheds", **headers: Any) -> Any:
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return client.post(path, headers=named)


def test_a_key_is_asked_for_where_it_must_be_there(sheds: FlaskClient) -> None:
    """BL-19."""
    assert_problem(build(sheds), "idempotency-key-required")
    assert built == []


def test_callers_without_an_account_are_told_apart(sheds: FlaskClient) -> None:
    """BL-16."""
    one = build(sheds, Idempotency_Key="k", X_Cart="a")
    other = build(sheds, Idempotency_Key="k", X_Cart="b")
    again = build(sheds, Idempotency_Key="k", X_Cart="a")

    assert [it.get_json()["number"] for it in (one, other, again)] == [1, 2, 1]
    assert again.headers["Location"] == "/sheds/1"


def test_a_key_of_nobody_is_refused(sheds: FlaskClient) -> None:
    assert_problem(build(sheds, Idempotency_Key="k"), "malformed")
    assert built == []


def test_what_the_view_keeps_is_kept_though_it_is_a_refusal(sheds: FlaskClient) -> None:
    """BL-15: a declined payment, say."""
    first = build(sheds, Idempotency_Key="k", X_Cart="a", X_Status=402)
    again = build(sheds, Idempotency_Key="k", X_Cart="a")

    assert (again.status_code, again.data) == (402, first.data)
    assert again.headers["Idempotency-Replayed"] == "true"


def test_what_the_view_does_not_keep_frees_the_key(sheds: FlaskClient) -> None:
    build(sheds, Idempotency_Key="k", X_Cart="a", X_Status=200)
    again = build(sheds, Idempotency_Key="k", X_Cart="a")

    assert again.status_code == 201
    assert again.get_json()["number"] == 2


def test_a_view_of_several_transactions_claims_once_and_keeps_in_the_last(
    sheds: FlaskClient,
) -> None:
    answers = [
        build(sheds, "/api/v1/sheds/slow", Idempotency_Key="k", X_Cart="a") for _ in range(2)
    ]

    assert [it.get_json()["number"] for it in answers] == [1, 1]
    assert build(sheds, "/api/v1/sheds/slow").get_json()["number"] == 2


def test_the_document_says_which_operations_take_keys(app: Flask) -> None:
    found = {}
    for _method, _path, operation in documented(app):
        for parameter in operation.get("parameters", []):
            if parameter["name"] == "Idempotency-Key":
                found[operation["operationId"]] = operation
    assert {"create_product", "add_variant", "change_stock", "create_category",
            "write_review", "add_my_address"} <= set(found)  # fmt: skip
    for operation in found.values():
        assert {"400", "409", "422"} <= set(operation["responses"])
        (success,) = (it for status, it in operation["responses"].items() if status < "300")
        assert "Idempotency-Replayed" in success["headers"]
