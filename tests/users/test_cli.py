"""`flask shop create-admin`: the first administrator, and no default one."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from shop.audit.models import AuditEntry
from shop.users import cli
from shop.users.models import User
from shop.users.passwords import verify_password
from tests import factories

EMAIL = "Boss@Example.com"


def create_admin(app: Flask, *arguments: str, typed: str | None = None) -> Result:
    """Run the command."""
    return app.test_cli_runner().invoke(args=["shop", "create-admin", *arguments], input=typed)


def users(session: Session) -> list[User]:
    """All accounts."""
    return list(session.scalars(select(User).order_by(User.id)))


def test_a_new_shop_has_no_account_at_all(session: Session) -> None:
    """AU-18."""
    assert users(session) == []


def test_without_a_terminal_a_password_is_generated_and_shown_once(
    app: Flask, session: Session
) -> None:
    result = create_admin(app, EMAIL)

    assert result.exit_code == 0, result.output
    (admin,) = users(session)
    assert (admin.email, admin.role, admin.disabled) == ("boss@example.com", "admin", False)
    shown = re.search(r"Password \(shown once\): (\S{16,})", result.output)
    assert shown is not None
    assert verify_password(admin.password_hash, shown[1])


def test_a_password_is_read_from_standard_input(app: Flask, session: Session) -> None:
    result = create_admin(app, EMAIL, "--password-stdin", typed=" correct horse \nsecond line\n")

    assert result.exit_code == 0, result.output
    assert verify_password(users(session)[0].password_hash, " correct horse ")
    assert "horse" not in result.output


@pytest.mark.parametrize("typed", ["correct horse", ""])
def test_at_a_terminal_it_is_asked_for_without_echo(
    app: Flask, session: Session, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    asked: list[dict[str, Any]] = []

    def prompt(_text: str, **options: Any) -> str:
        asked.append(options)
        return typed

    monkeypatch.setattr(cli, "_is_terminal", lambda: True)
    monkeypatch.setattr(click, "prompt", prompt)
    result = create_admin(app, EMAIL)

    assert result.exit_code == 0, result.output
    assert [options["hide_input"] for options in asked] == [True]
    (admin,) = users(session)
    assert verify_password(admin.password_hash, typed) == bool(typed)
    assert ("shown once" in result.output) == (not typed)


@pytest.mark.parametrize("typed", ["short\n", "\n", "", "x" * 129 + "\n"])
def test_a_weak_password_is_refused(app: Flask, session: Session, typed: str) -> None:
    result = create_admin(app, EMAIL, "--password-stdin", typed=typed)

    assert result.exit_code != 0
    assert "8 to 128 characters" in result.output
    assert users(session) == []


@pytest.mark.parametrize(
    "password", ["password1234", "PassWord1234", "x" * 20, "boss@example.com", "BOSS@EXAMPLE.COM"]
)
def test_a_password_that_is_guessed_first_is_refused_and_not_repeated(
    app: Flask, session: Session, password: str
) -> None:
    """AU-11: the first account is the one that matters most."""
    result = create_admin(app, EMAIL, "--password-stdin", typed=f"{password}\n")

    assert result.exit_code != 0
    assert password not in result.output
    assert users(session) == []


def test_a_generated_password_is_strong_and_never_the_same(app: Flask) -> None:
    """AU-18."""
    shown = set()
    for number in range(3):
        result = create_admin(app, f"boss{number}@example.com", "--force")
        (password,) = re.findall(r"shown once\): (\S+)", result.output)
        assert len(password) >= 16
        shown.add(password)
    assert len(shown) == 3


@pytest.mark.parametrize(
    "address",
    ["", "boss", "boss@", "@example.com", "boss@localhost", "a b@example.com", "boss@example.com\n",
     "boss@exa mple.com", "<boss@example.com>", "boss@[127.0.0.1]", "b" * 250 + "@example.com",
     "ﷺ" * 60 + "@example.com", "boss＠example.com@evil.example"],
)  # fmt: skip
def test_what_is_no_address_is_refused(app: Flask, session: Session, address: str) -> None:
    result = create_admin(app, address)

    assert result.exit_code != 0
    assert "EMAIL" in result.output
    assert users(session) == []


def test_a_second_administrator_needs_force(app: Flask, session: Session) -> None:
    """AU-18."""
    create_admin(app, EMAIL)
    again = create_admin(app, EMAIL)
    assert again.exit_code != 0

    refused = create_admin(app, "second@example.com")
    assert refused.exit_code != 0
    assert "--force" in refused.output
    assert len(users(session)) == 1

    forced = create_admin(app, "second@example.com", "--force")
    assert forced.exit_code == 0, forced.output
    session.rollback()
    assert [user.role for user in users(session)] == ["admin", "admin"]


@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_a_taken_address_is_refused_and_its_account_stays_as_it_is(
    app: Flask, session: Session, flags: list[str]
) -> None:
    factories.create_user(app, email="boss@example.com")

    result = create_admin(app, EMAIL, *flags)

    assert result.exit_code != 0
    assert "There is an account" in result.output
    assert [user.role for user in users(session)] == ["customer"]


def test_a_disabled_administrator_does_not_lock_the_shop(app: Flask, session: Session) -> None:
    create_admin(app, EMAIL)
    users(session)[0].disabled = True
    session.commit()

    assert create_admin(app, "second@example.com").exit_code == 0


def test_the_command_line_stands_in_the_audit_log(app: Flask, session: Session) -> None:
    create_admin(app, EMAIL)

    (entry,) = session.scalars(select(AuditEntry))

    assert (entry.table_name, entry.action, entry.actor) == ("users", "insert", "cli")
