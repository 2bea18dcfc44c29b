"""A shop with something in it, and callers that survive what they call."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shop.users.models import User
from shop.users.one_time import RESET_PASSWORD, VERIFY_EMAIL
from tests import factories
from tests.orders.checks import act, placed, variant
from tests.users.checks import (
    KEYS,
    ME,
    SESSIONS,
    mailed_token,
    sign_in,
)

#: How many there are of each kind of thing, with ids from 1.
THINGS = 10
#: What ends its own caller, or changes the password that it asks for.
SELF_DESTRUCTIVE = {"logout", "erase_me", "end_my_sessions", "end_my_session", "change_password"}
ADDRESS = {
    "name": "Anna", "line1": "Elm Street 1", "city": "Uppsala", "postal_code": "75310",
    "country": "SE",
}  # fmt: skip


class World:
    """A shop, and one caller of a role, whose own things have the ids that are asked for."""

    def __init__(self, app: Flask, role: str) -> None:
        """Fill an empty shop; role `anonymous` calls without headers."""
        self.app, self.role = app, role
        self._client: FlaskClient = app.test_client()
        # Victims: others demote, close and sign them out, so that the caller stays who it is.
        roles = ("customer", "staff", "admin", "customer", "staff") * 2
        self._victims = [factories.create_user(app, role=role) for role in roles]
        self._fill_catalogue()
        self._fill_transfers()
        self._headers: dict[str, str] = {}
        if role != "anonymous":
            self._headers = self._newcomer()
        for _ in range(THINGS):
            self._client.post(f"{ME}/addresses", json=ADDRESS, headers=self._headers)
        self._fill_reviews()
        self._fill_orders()
        self._fill_ads()
        self._fill_notifications()

    def _fill_catalogue(self) -> None:
        admin = factories.sign_in(self.app, "admin")
        for number in range(THINGS):
            status = ("active", "draft", "archived", "active")[number % 4]
            factories.create_product(self._client, admin, status=status)
            shelf = {"name": f"Shelf {number}", "parent_id": 1 if number > THINGS // 2 else None}
            made = self._client.post("/api/v1/categories", json=shelf, headers=admin)
            assert made.status_code == 201
            wood = {"code": f"wood_{number}", "name": "Wood", "kind": "text"}
            made = self._client.post("/api/v1/attributes", json=wood, headers=admin)
            assert made.status_code == 201
            body = {"name": f"till {number}", "scopes": ["products:write"]}
            assert self._client.post(KEYS, json=body, headers=admin).status_code == 201

    def _fill_transfers(self) -> None:
        """Half of them are over, and half are waiting."""
        admin = factories.sign_in(self.app, "admin")
        for number in range(THINGS):
            if number == THINGS // 2:
                self.app.extensions["shop"].transfers(self.app).work()
            begun = self._client.post(
                "/api/v1/products/imports", data=b"{}\n", headers=admin,
                content_type="application/x-ndjson",
            )  # fmt: skip
            assert begun.status_code == 202
            wanted = {"format": "csv"}
            begun = self._client.post("/api/v1/products/exports", json=wanted, headers=admin)
            assert begun.status_code == 202

    def _fill_reviews(self) -> None:
        """By others and approved; then two by the caller, who leaves products to review."""
        admin = factories.sign_in(self.app, "admin")
        for _ in range(THINGS):
            headers = factories.sign_in(self.app, "customer")
            where = self._review(1, headers).headers["Location"]
            assert self._client.post(f"{where}/approve", headers=admin).status_code == 200
        for number in (1, 4) if self._headers else ():
            assert self._review(number, self._headers).status_code == 201

    def _fill_orders(self) -> None:
        """The caller's own, in several states, so that something can be done with each."""
        admin = factories.sign_in(self.app, "admin")
        self.skus = [variant(self._client, admin, stock=10**6)["sku"] for _ in range(2)]
        buyer = self._headers or admin
        for number in range(THINGS):
            order = placed(self._client, buyer, (self.skus[0], 5))
            if number > 1:
                provider = "manual" if number < 4 else "test"
                answer = act(self._client, buyer, order, "payments", provider=provider)
                assert answer.status_code == 201
            if number > 6:
                assert act(self._client, admin, order, "ship").status_code == 200

    def _fill_ads(self) -> None:
        """Most of them are open."""
        admin = factories.sign_in(self.app, "admin")
        for number in range(THINGS):
            status = ("active", "active", "paused", "draft")[number % 4]
            ad = {"name": "Oak week", "target_url": "https://example.com/", "status": status}
            made = self._client.post("/api/v1/ads", json=ad, headers=admin)
            assert made.status_code == 201

    def _fill_notifications(self) -> None:
        """To the caller."""
        admin = factories.sign_in(self.app, "admin")
        me = self._client.get(ME, headers=self._headers or admin).get_json()["id"]
        for number in range(THINGS):
            message = {"title": f"Sale {number}", "text": "Today.", "user_id": me}
            sent = self._client.post("/api/v1/notifications", json=message, headers=admin)
            assert sent.status_code == 202

    def sent(self, operation_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """The body about things that are there, where it is about any."""
        if operation_id != "place_order":
            return body
        found = dict(body)
        if isinstance(body.get("items"), list):
            found["items"] = [
                item | {"sku": self.skus[0]}
                if isinstance(item, dict) and _is_sku(item.get("sku"))
                else item
                for item in body["items"]
            ]
        if type(body.get("address_id")) is int and 0 < body["address_id"] < 2**63:
            found["address_id"] = body["address_id"] % THINGS + 1
        return found

    def _review(self, product: int, headers: dict[str, str]) -> TestResponse:
        url = f"/api/v1/products/{product}/reviews"
        return self._client.post(url, json={"rating": 5, "title": "Good"}, headers=headers)

    def _newcomer(self) -> dict[str, str]:
        return factories.sign_in(self.app, self.role)

    def headers(self, operation_id: str) -> dict[str, str]:
        """Headers of a caller of the role, whatever it or others did before."""
        if self.role == "anonymous":
            return {}
        if operation_id in SELF_DESTRUCTIVE:
            return self._newcomer()
        me = self._client.get(ME, headers=self._headers)
        if me.status_code != 200 or me.get_json()["role"] != self.role:
            self._headers = self._newcomer()
        return self._headers

    def own_session(self, headers: dict[str, str]) -> int | None:
        """The session of these headers."""
        answer = self._client.get(SESSIONS, headers=headers)
        items = answer.get_json()["items"] if answer.status_code == 200 else []
        return next((item["id"] for item in items if item["current"]), None)

    def secret(self, operation_id: str) -> dict[str, Any]:
        """What only somebody knows who has an account, a mail, or a session."""
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            "login": self._credentials,
            "refresh": lambda: {"refresh_token": sign_in(self._client, self._account()).refresh},
            "reset_password": lambda: self._mailed(RESET_PASSWORD),
            "verify_email": lambda: self._mailed(VERIFY_EMAIL),
            "change_password": lambda: {"current_password": factories.PASSWORD},
        }
        return makers[operation_id]() if operation_id in makers else {}

    def _mailed(self, purpose: str) -> dict[str, Any]:
        return {"token": mailed_token(self.app, self._account(), purpose)}

    def _account(self) -> User:
        return factories.create_user(self.app)

    def _credentials(self) -> dict[str, Any]:
        return {"email": self._account().email, "password": factories.PASSWORD}


def _is_sku(value: Any) -> bool:
    form = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
    return isinstance(value, str) and re.fullmatch(form, value) is not None
