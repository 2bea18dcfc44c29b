"""Makers of things that tests are about, with distinctive data."""

from __future__ import annotations

import itertools
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token

from shop.db import db, transactional
from shop.users import operations
from shop.users.models import User
from shop.users.passwords import hash_password

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
    user = create_user(app, role=role)
    with app.app_context():
        return {"Authorization": f"Bearer {create_access_token(str(user.id))}"}


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
