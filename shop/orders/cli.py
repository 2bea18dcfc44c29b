"""`flask shop demo`, with orders."""

from __future__ import annotations

from itertools import islice
from typing import Any, cast

import click
from flask import current_app
from flask.cli import with_appcontext
from rich.progress import Progress

from shop import provenance
from shop.db import db, transactional
from shop.orders import queries
from shop.orders.demo import OrderIdea, invent_orders, store_order
from shop.orders.terms import Terms
from shop.products import cli as catalogue

_BATCH = 20


@click.command("demo", params=list(catalogue.demo.params))
@click.option("--orders", "n_orders", default=0, show_default=True, type=click.IntRange(0))
@click.pass_context
@with_appcontext
def demo(context: click.Context, /, n_orders: int, seed: int, **others: Any) -> None:
    """Fill the shop with an invented catalogue, people and orders, audited like any change."""
    context.invoke(catalogue.demo, seed=seed, **others)
    if not n_orders:
        return
    buyers = [(row.id, row.name) for row in db.session.execute(queries.some_customers(1000))]
    stocked = [(row.sku, row.on_hand) for row in db.session.execute(queries.some_stocked(5000))]
    if not buyers or not stocked:
        raise click.ClickException("Orders need customers (--users) and products in stock.")
    provenance.actor.set("cli")
    ideas = invent_orders(n_orders, buyers, stocked, seed)
    with Progress() as progress:
        task = progress.add_task("orders", total=n_orders)
        while batch := list(islice(ideas, _BATCH)):
            _store(batch)
            progress.advance(task, len(batch))


@transactional
def _store(ideas: list[OrderIdea]) -> None:
    terms = cast(Terms, current_app.extensions["orders"])
    for idea in ideas:
        store_order(db.session(), idea, currency=terms.currency, patience=terms.patience)
