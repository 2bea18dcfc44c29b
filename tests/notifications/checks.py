"""What tests about notifications do at the doors of the shop, and look up behind them."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from shop import clock
from shop.audit import queries as audit_queries
from shop.audit.models import AuditReader
from shop.audit.sequencer import stamp
from shop.db import writing
from shop.mail.models import OutgoingMail
from shop.notifications.queries import READER

Headers = dict[str, str]
NOTIFICATIONS = "/api/v1/notifications"
PREFERENCES = f"{NOTIFICATIONS}/preferences"


def begin(engine: Engine) -> None:
    """The reader begins here, as it does when it is migrated."""
    stamp(engine)
    with writing(engine) as connection:
        head = connection.execute(audit_queries.HEAD).scalar_one()
        moment = clock.now()
        row = {"position": head, "began_behind": head, "began_at": moment, "updated_at": moment}
        connection.execute(insert(AuditReader).values(name=READER, **row))


def read_on(app: Flask) -> None:
    """What the drain and the reader do by themselves in a shop that runs."""
    shop = app.extensions["shop"]
    stamp(shop.engine)
    while shop.readers(app).work():
        pass


def inbox(client: FlaskClient, headers: Headers, **query: Any) -> list[dict[str, Any]]:
    """The notifications of somebody, newest first."""
    answer = client.get(NOTIFICATIONS, query_string={"limit": 100} | query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.get_json()["items"]
    return found


def kinds(client: FlaskClient, headers: Headers, **query: Any) -> list[str]:
    """Their kinds, oldest first."""
    return [item["kind"] for item in reversed(inbox(client, headers, **query))]


def unread(client: FlaskClient, headers: Headers) -> int:
    """What the shop says how many are not read."""
    answer = client.get(f"{NOTIFICATIONS}/unread-count", headers=headers)
    assert answer.status_code == 200
    count: int = answer.get_json()["unread"]
    return count


def choose(client: FlaskClient, headers: Headers, **wishes: Any) -> Any:
    """The answer to a choice of preferences; `order_placed` stands for `order-placed`."""
    body = {"preferences": {kind.replace("_", "-"): it for kind, it in wishes.items()}}
    return client.put(PREFERENCES, json=body, headers=headers)


def mails(engine: Engine) -> list[tuple[str, str]]:
    """Address and kind of the notifications that are owed by mail, in their order."""
    with Session(engine) as session:
        found = session.scalars(
            select(OutgoingMail).where(OutgoingMail.kind == "notification").order_by("id")
        )
        return [(mail.recipient, mail.data["kind"]) for mail in found]
