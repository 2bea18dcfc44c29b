"""Makers of things that tests are about, with distinctive data."""

from __future__ import annotations

import itertools
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from shop.db import db, transactional
from shop.users import operations, sessions
from shop.users.models import User
from shop.users.passwords import hash_password
from shop.web.callers import access_token

_numbers = itertools.count(1)
PASSWORD = "correct horse battery"
# One hash for all: hashing is slow on purpose, and most tests are about something else.
_HASH = hash_password(PASSWORD)


def create_user(app: Flask, *, email: str | None = None, role: str = "customer") -> User:
    """A committed account whose password is `PASSWORD`."""
    address = email or f"{role}{next(_numbers)}@example.com"

    @transactional
    def create() -> User:
        return operations.create_user(db.session(), address, role.title(), _HASH, role)

    with app.app_context():
        return create()


def sign_in(app: Flask, role: str) -> dict[str, str]:
    """Headers of a new account with this role."""
    return headers_of(app, create_user(app, role=role))


def headers_of(app: Flask, user: User) -> dict[str, str]:
    """Headers of a new session of this account."""

    @transactional
    def open_session() -> int:
        opened = sessions.open_session(
            db.session(), user, user_agent="tests", address="127.0.0.1",
            lifetimes=sessions.Lifetimes(3600, 3600),
        )  # fmt: skip
        return opened.session_id

    with app.test_request_context():
        return {"Authorization": f"Bearer {access_token(user.id, open_session())}"}


def variant_body(**changes: Any) -> dict[str, Any]:
    """A variant as a client sends it."""
    number = next(_numbers)
    price = {"amount": 19900, "currency": "EUR"}
    return {"sku": f"OAK-{number}", "price": price, "stock": 7} | changes


def product_body(**changes: Any) -> dict[str, Any]:
    """A product as a client sends it."""
    return {"name": f"Oak table {next(_numbers)}", "variants": [variant_body()]} | changes


def create_product(client: FlaskClient, staff: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A product made over HTTP; what the API answered."""
    answer = client.post("/api/v1/products", json=product_body(**changes), headers=staff)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.get_json()
    return created
