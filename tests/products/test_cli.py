"""`flask shop demo`: an invented catalogue, audited like any other change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.audit.capture import Audited
from shop.audit.models import AuditEntry
from shop.db import Base
from shop.products.demo import invent_people, invent_products
from shop.products.models import Product, StockLevel, Variant
from shop.users.models import User
from tests import factories
from tests.conftest import create_shop


@pytest.fixture
def demo(app: Flask) -> Callable[..., None]:
    """Runs the command."""

    def run(*arguments: str) -> None:
        result = app.test_cli_runner().invoke(args=["shop", "demo", *arguments])
        assert result.exit_code == 0, result.output

    return run


def counts(session: Session) -> dict[str, int]:
    """Rows of each table that the command fills."""
    session.rollback()
    models: tuple[type[Base], ...] = (Product, User)
    return {
        model.__tablename__: session.scalar(select(func.count()).select_from(model)) or 0
        for model in models
    }


def test_it_makes_as_many_as_it_is_told(demo: Callable[..., None], session: Session) -> None:
    # More than one batch, and not a whole number of them.
    demo("--products", "260", "--users", "7")

    assert counts(session) == {"products": 260, "users": 7}


def test_what_it_makes_is_what_the_inventor_invented(
    demo: Callable[..., None], session: Session
) -> None:
    demo("--products", "20", "--users", "3", "--seed", "5")

    # Ids go on from earlier tests of this database; only an untouched one starts at 0.
    made = session.scalars(select(Product).order_by(Product.id)).all()
    people = session.scalars(select(User).order_by(User.id)).all()
    ideas = list(invent_products(20, seed=5))
    assert [product.slug for product in made] == [idea.slug for idea in ideas]
    assert [person.email for person in people] == [
        person.email.lower() for person in invent_people(3, seed=5)
    ]
    for product, idea in zip(made, ideas, strict=True):
        assert (product.name, product.status, product.attributes) == (
            idea.name, idea.status, idea.attributes,
        )  # fmt: skip
        assert [(v.sku, v.price_amount, v.stock.on_hand) for v in product.variants] == [
            (v.sku, v.price_amount, v.stock) for v in idea.variants
        ]


def test_a_second_run_goes_on_where_the_first_ended(
    demo: Callable[..., None], session: Session
) -> None:
    demo("--products", "15", "--users", "4")
    demo("--products", "25", "--users", "2")

    assert counts(session) == {"products": 40, "users": 6}
    slugs = session.scalars(select(Product.slug)).all()
    assert len(set(slugs)) == 40


def test_it_runs_after_products_were_deleted(
    demo: Callable[..., None], client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    demo("--products", "3")
    for product in session.scalars(select(Product)).all()[1:]:
        client.delete(f"/api/v1/products/{product.id}", headers=staff | {"If-Match": "*"})

    demo("--products", "3")

    assert counts(session)["products"] == 4


def test_it_leaves_a_shop_with_products_alone_if_told_so(
    demo: Callable[..., None], client: FlaskClient, staff: dict[str, str], session: Session
) -> None:
    demo("--products", "2", "--if-empty")
    before = counts(session)
    demo("--products", "2", "--users", "2", "--if-empty")

    assert counts(session) == before


def test_every_row_is_audited(demo: Callable[..., None], session: Session) -> None:
    demo("--products", "30", "--users", "5")

    models: tuple[type[Audited], ...] = (Product, Variant, StockLevel, User)
    for model in models:
        table = model.__tablename__
        rows = session.scalar(select(func.count()).select_from(model))
        entries = session.scalars(select(AuditEntry).where(AuditEntry.table_name == table)).all()
        assert len({entry.row_id for entry in entries}) == len(entries) == rows
        assert {(e.action, e.sequence, e.actor) for e in entries} == {("insert", 1, "cli")}


def test_every_price_is_positive_and_in_the_currency_of_the_shop(
    demo: Callable[..., None], session: Session
) -> None:
    demo("--products", "200")

    variants = session.scalars(select(Variant)).all()

    assert all(variant.price_amount > 0 for variant in variants)
    assert {variant.currency for variant in variants} == {"EUR"}
    assert all(level.on_hand >= 0 for level in session.scalars(select(StockLevel)))


def test_what_it_makes_can_be_read(
    demo: Callable[..., None], client: FlaskClient, staff: dict[str, str]
) -> None:
    demo("--products", "50")

    items = client.get("/api/v1/products?limit=100", headers=staff).get_json()["items"]

    assert len(items) == 50
    for item in items:
        assert client.get(f"/api/v1/products/{item['slug']}", headers=staff).get_json() == item


def test_nobody_can_sign_in_as_an_invented_person(
    demo: Callable[..., None], client: FlaskClient, session: Session
) -> None:
    demo("--products", "0", "--users", "1")
    email = session.scalars(select(User.email)).one()

    for password in (factories.PASSWORD, "password", email):
        answer = client.post("/api/v1/auth/login", json={"email": email, "password": password})
        assert answer.status_code == 401


@pytest.mark.parametrize("arguments", [["--products", "-1"], ["--users", "x"], ["--seed", "x"]])
def test_a_number_that_is_none_is_refused(app: Flask, arguments: list[str]) -> None:
    result = app.test_cli_runner().invoke(args=["shop", "demo", *arguments])

    assert result.exit_code == 2


def test_two_shops_filled_with_the_same_seed_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    listings = []
    for name in ("one", "two"):
        app = create_shop(tmp_path_factory.mktemp(name))
        app.test_cli_runner().invoke(args=["shop", "demo", "--products", "40", "--seed", "9"])
        items = app.test_client().get("/api/v1/products?limit=100").get_json()["items"]
        listings.append([{k: v for k, v in item.items() if k[-3:] != "_at"} for item in items])
        app.extensions["shop"].engine.dispose()

    assert listings[0] == listings[1]
    assert len(listings[0]) > 30
