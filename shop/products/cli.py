"""`flask shop demo`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import with_appcontext
from rich.progress import Progress
from sqlalchemy import func, select

from shop import provenance
from shop.audit.capture import AuditedWrites
from shop.db import db, transactional
from shop.products import categories as tree
from shop.products import listings, operations
from shop.products.demo import (
    DEPARTMENTS,
    PersonIdea,
    ProductIdea,
    invent_people,
    invent_products,
)
from shop.products.models import Product
from shop.users.models import User, normalise_email
from shop.users.passwords import hash_password

_BATCH = 250
Idea = TypeVar("Idea", ProductIdea, PersonIdea)


@click.command()
@click.option("--products", "n_products", default=200, show_default=True, type=click.IntRange(0))
@click.option("--users", "n_users", default=0, show_default=True, type=click.IntRange(0))
@click.option("--seed", default=1, show_default=True, help="The same seed invents the same.")
@click.option("--if-empty", is_flag=True, help="Do nothing when there are products already.")
@with_appcontext
def demo(n_products: int, n_users: int, seed: int, if_empty: bool) -> None:
    """Fill the shop with an invented catalogue, audited like any other change."""
    there = db.session.execute(select(func.count(Product.id))).scalar_one()
    if if_empty and there:
        return
    provenance.actor.set("cli")
    ever = db.session.execute(select(func.coalesce(func.max(Product.id), 0))).scalar_one()
    known = db.session.execute(select(func.coalesce(func.max(User.id), 0))).scalar_one()
    with Progress() as progress:
        add = progress.add_task("products", total=n_products)
        ideas = invent_products(n_products, seed=seed, start=ever)
        _store(ideas, _product_adder(_shelves()), lambda done: progress.advance(add, done))
        if n_users:
            add_users = progress.add_task("users", total=n_users)
            people = invent_people(n_users, seed=seed, start=known)
            _store(people, _person_adder(), lambda done: progress.advance(add_users, done))


def _store(
    ideas: Iterator[Idea],
    add: Callable[[AuditedWrites, list[Idea]], None],
    advance: Callable[[int], None],
) -> None:
    @transactional
    def store(batch: list[Idea]) -> None:
        with AuditedWrites(db.session()) as writes:
            add(writes, batch)

    while batch := list(islice(ideas, _BATCH)):
        store(batch)
        advance(len(batch))


@transactional
def _shelves() -> dict[str, int]:
    """The category of each department, made where there is none of that name."""
    known = {item.name: item.id for item in tree.locked_tree(db.session())}
    for name in sorted(DEPARTMENTS - set(known)):
        new = {"name": name, "parent_id": None, "position": 0}
        known[name] = tree.create_category(db.session(), new).id
    return known


def _product_adder(
    shelves: dict[str, int],
) -> Callable[[AuditedWrites, list[ProductIdea]], None]:
    currency = current_app.config["CURRENCY"]

    def add(writes: AuditedWrites, ideas: list[ProductIdea]) -> None:
        bodies = [
            _body_of(idea, currency) | {"category_id": shelves[idea.attributes["department"]]}
            for idea in ideas
        ]
        created = operations.insert_products(writes, bodies)
        listings.open_listings(writes, [(it.product, it.variants) for it in created])

    return add


def _body_of(idea: ProductIdea, currency: str) -> dict[str, Any]:
    """A loaded `ProductIn`."""
    variants = [
        {
            "sku": variant.sku,
            "name": variant.name,
            "price": {"amount": variant.price_amount, "currency": currency},
            "stock": variant.stock,
            "attributes": {},
        }
        for variant in idea.variants
    ]
    return {
        "name": idea.name,
        "slug": idea.slug,
        "description": idea.description,
        "status": idea.status,
        "attributes": idea.attributes,
        "variants": variants,
    }


def _person_adder() -> Callable[[AuditedWrites, list[PersonIdea]], None]:
    # Nobody signs in as an invented person: one hash of a forgotten password serves all.
    password_hash = hash_password(secrets.token_urlsafe(24))

    def add(writes: AuditedWrites, people: list[PersonIdea]) -> None:
        rows = [
            {
                "email": normalise_email(person.email),
                "name": person.name,
                "password_hash": password_hash,
                "role": "customer",
            }
            for person in people
        ]
        writes.insert_many(User, rows, by="email")

    return add
