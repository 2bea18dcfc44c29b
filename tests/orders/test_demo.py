"""Invented orders are plausible, audited, and add up."""

from __future__ import annotations

from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.orders.checks import CHECKS
from shop.orders.models import Order


def test_the_demo_has_orders_in_every_common_state(app: Flask, session: Session) -> None:
    arguments = ["--products", "60", "--users", "20", "--orders", "120", "--seed", "3"]

    result = app.test_cli_runner().invoke(args=["shop", "demo", *arguments])

    assert result.exit_code == 0, result.output
    states = session.execute(
        select(Order.status, Order.payment_status, func.count())
        .group_by(Order.status, Order.payment_status)
    ).all()  # fmt: skip
    assert sum(count for *_, count in states) == 120
    found = {(status, payment) for status, payment, _ in states}
    assert found >= {("completed", "paid"), ("placed", "paid"), ("placed", "unpaid"),
                     ("cancelled", "unpaid")}  # fmt: skip
    assert not any(check.examine(session).findings for check in CHECKS)
    audited = select(func.count()).where(AuditEntry.table_name == "orders")
    assert (
        session.execute(audited).scalar_one()
        == session.execute(select(func.sum(Order.version))).scalar_one()
    )


def test_orders_without_customers_are_not_invented(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["shop", "demo", "--products", "5", "--orders", "5"])

    assert result.exit_code == 1
    assert "--users" in result.output
