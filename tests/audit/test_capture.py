"""Every change of an audited row has its entry, in the same transaction."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, exc, insert, select, text, update
from sqlalchemy.orm import Session

from shop import provenance
from shop.audit.capture import Audited, UnauditedWrite, mask_email
from shop.audit.models import AuditEntry
from shop.db import Base, db, transactional, writing
from shop.products.models import Product, StockLevel
from shop.users.models import User
from tests import factories


def entries(session: Session, table: str) -> list[AuditEntry]:
    session.rollback()
    found = select(AuditEntry).where(AuditEntry.table_name == table).order_by(AuditEntry.id)
    return list(session.scalars(found))


def data(entry: AuditEntry) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(entry.data)
    return loaded


def test_a_product_and_all_it_owns_are_audited(
    client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    product = factories.create_product(client, staff, name="Walnut bench")

    (entry,) = entries(session, "products")

    assert (entry.action, entry.sequence, entry.row_id) == ("insert", 1, product["id"])
    assert entry.type == "shop.product.created"
    assert data(entry)["before"] is None
    assert data(entry)["after"]["name"] == "Walnut bench"
    assert data(entry)["after"]["created_at"].endswith("Z")
    assert len(entries(session, "variants")) == 1
    (stock,) = entries(session, "stock_levels")
    assert stock.type == "shop.stock_level.created"
    assert stock.row_id == product["variants"][0]["id"]


def test_an_update_shows_what_changed_and_what_is(
    client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    product = factories.create_product(client, staff, name="Walnut bench")
    client.patch(
        f"/api/v1/products/{product['id']}", json={"name": "Oak bench"},
        headers=staff | {"If-Match": '"1"'},
    )  # fmt: skip

    entry = entries(session, "products")[-1]

    assert (entry.action, entry.sequence) == ("update", 2)
    assert data(entry)["before"] == {"name": "Walnut bench"}
    assert data(entry)["after"]["name"] == "Oak bench"
    assert data(entry)["after"]["version"] == 2


def test_rows_that_change_together_have_their_entries_in_one_order(
    app: Flask, session: Session
) -> None:
    users = [factories.create_user(app) for _ in range(20)]
    ids = [user.id for user in users]
    # Loaded, and so placed in memory, in another order than that of their ids.
    loaded = [session.get_one(User, user_id) for user_id in (*ids[1::2], *ids[-2::-2])]
    for user in loaded:
        user.name = "Anna"
    session.commit()

    changed = [entry.row_id for entry in entries(session, "users") if entry.action == "update"]

    assert changed == ids


def test_a_patch_that_changes_nothing_leaves_no_entry(
    client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    product = factories.create_product(client, staff, name="Walnut bench")
    answer = client.patch(
        f"/api/v1/products/{product['id']}", json={"name": "Walnut bench"},
        headers=staff | {"If-Match": '"1"'},
    )  # fmt: skip

    assert answer.get_json()["version"] == 1
    assert len(entries(session, "products")) == 1


def test_a_delete_is_the_last_version_plus_one_with_the_row_as_it_was(
    client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    product = factories.create_product(client, staff, name="Walnut bench")
    client.delete(f"/api/v1/products/{product['id']}", headers=staff | {"If-Match": "*"})

    entry = entries(session, "products")[-1]

    assert (entry.action, entry.sequence, entry.type) == ("delete", 2, "shop.product.deleted")
    assert data(entry)["after"] is None
    assert data(entry)["before"]["name"] == "Walnut bench"
    assert [e.action for e in entries(session, "variants")] == ["insert", "delete"]
    assert [e.action for e in entries(session, "stock_levels")] == ["insert", "delete"]


def test_a_change_that_is_rolled_back_leaves_no_entry(app: Flask, session: Session) -> None:
    @transactional
    def create_and_fail() -> None:
        user = User(email="eva@example.com", name="Eva", password_hash="x", role="customer")
        db.session.add(user)
        db.session.flush()
        raise LookupError("after the flush")

    with app.app_context(), pytest.raises(LookupError):
        create_and_fail()

    assert entries(session, "users") == []


def test_secrets_never_enter_the_log_and_addresses_are_masked(app: Flask, session: Session) -> None:
    user = factories.create_user(app, email="margarethe@example.com")

    @transactional
    def change_password() -> None:
        found = db.session.get_one(User, user.id)
        found.password_hash = "canary-hash"
        found.email = "greta@example.com"

    with app.app_context():
        change_password()

    created, changed = entries(session, "users")
    assert data(created)["after"]["email"] == "m***@example.com"
    assert data(changed)["before"] == {"email": "m***@example.com"}
    assert data(changed)["after"]["email"] == "g***@example.com"
    log = created.data + changed.data
    for secret in ("canary-hash", "argon2", "password_hash", "margarethe", "greta"):
        assert secret not in log


def test_a_change_of_nothing_but_a_secret_still_has_its_entry(app: Flask, session: Session) -> None:
    user = factories.create_user(app)

    @transactional
    def change_password() -> None:
        db.session.get_one(User, user.id).password_hash = "canary-hash"

    with app.app_context():
        change_password()

    changed = entries(session, "users")[-1]
    assert (changed.sequence, data(changed)["before"]) == (2, {})


def test_an_entry_names_who_did_it_and_under_which_request(
    client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    factories.create_product(client, staff | {"X-Request-ID": "till-7"})

    (entry,) = entries(session, "products")

    assert entry.request_id == "till-7"
    assert entry.actor is not None
    assert entry.actor.startswith("users/")
    assert provenance.actor.get() is None or provenance.actor.get() == entry.actor


def test_several_flushes_of_one_transaction_count_on(app: Flask, session: Session) -> None:
    user = factories.create_user(app)

    @transactional
    def rename_twice() -> None:
        found = db.session.get_one(User, user.id)
        for name in ("Ann", "Anna"):
            found.name = name
            db.session.flush()

    with app.app_context():
        rename_twice()

    assert [entry.sequence for entry in entries(session, "users")] == [1, 2, 3]


@pytest.mark.parametrize("statement", [update(User).values(name="x"), delete(User), insert(User)])
def test_a_bulk_write_that_would_bypass_the_log_fails(session: Session, statement: Any) -> None:
    with pytest.raises(UnauditedWrite, match="User"):
        session.execute(statement)


def test_a_write_from_a_stale_copy_fails(app: Flask, session: Session) -> None:
    user = factories.create_user(app)
    stale = session.get_one(User, user.id)

    @transactional
    def rename() -> None:
        db.session.get_one(User, user.id).name = "Ann"

    with app.app_context():
        rename()
    session.commit()
    stale.name = "Berta"

    with pytest.raises(exc.SQLAlchemyError):
        session.commit()


def test_one_row_cannot_have_two_entries_of_the_same_sequence(
    app: Flask, session: Session, engine: Engine
) -> None:
    factories.create_user(app)
    (entry,) = entries(session, "users")
    session.rollback()
    copy = text(
        "INSERT INTO audit_log (event_id, table_name, row_id, sequence, action, type, data,"
        " created_at) SELECT 'another', table_name, row_id, sequence, action, type, data,"
        " created_at FROM audit_log WHERE id = :id"
    )

    with pytest.raises(exc.IntegrityError), writing(engine) as connection:
        connection.execute(copy, {"id": entry.id})


def test_what_must_be_audited_is_and_what_must_not_is_not() -> None:
    audited = {
        str(mapper.class_.__tablename__)
        for mapper in Base.registry.mappers
        if issubclass(mapper.class_, Audited)
    }

    assert audited == {
        "users", "addresses", "security_events", "categories", "reviews", "products", "variants",
        "stock_levels", "attribute_definitions", "orders", "order_items", "payments", "refunds",
        "shipments", "ads",
    }  # fmt: skip
    assert issubclass(Product, Audited)
    assert issubclass(StockLevel, Audited)


@pytest.mark.parametrize(
    ("address", "masked"),
    [("ann@example.com", "a***@example.com"), ("", "***"), ("a@b@c", "a***@b@c")],
)
def test_a_masked_address_keeps_its_domain(address: str, masked: str) -> None:
    assert mask_email(address) == masked
