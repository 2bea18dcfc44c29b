"""`flask shop create-admin`."""

from __future__ import annotations

import secrets
import sys
from unicodedata import normalize

import click
from email_validator import EmailNotValidError, validate_email
from flask.cli import with_appcontext

from shop import provenance
from shop.db import db, transactional
from shop.errors import Invalid, Refusal
from shop.users import operations
from shop.users.models import User
from shop.users.passwords import check_password, hash_password


@click.command("create-admin")
@click.argument("email")
@click.option("--force", is_flag=True, help="Make one even when an administrator exists.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@with_appcontext
def create_admin(email: str, force: bool, password_stdin: bool) -> None:
    """Create the first administrator.

    Asks for a password; an empty one, or no terminal to ask at, means that one is generated and
    shown once.
    """
    try:
        address = validate_email(
            normalize("NFKC", email[:1000]), check_deliverability=False, test_environment=True
        )
    except EmailNotValidError as error:
        raise click.BadParameter(str(error), param_hint="EMAIL") from error
    password, generated = _choose_password(password_stdin)
    try:
        check_password(password, email=address.normalized)
    except Invalid as refusal:
        raise click.ClickException(refusal.faults[0].message) from refusal
    password_hash = hash_password(password)
    provenance.actor.set("cli")

    @transactional
    def create() -> User:
        return operations.create_first_admin(
            db.session(), address.normalized, password_hash, force=force
        )

    try:
        user = create()
    except Refusal as refusal:
        raise click.ClickException(refusal.detail) from refusal
    click.echo(f"{user.email} is an administrator now.")
    if generated:
        click.echo(f"Password (shown once): {password}")


def _choose_password(from_stdin: bool) -> tuple[str, bool]:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif _is_terminal():
        password = click.prompt("Password (empty: generate one)", default="", hide_input=True)
    else:
        password = ""
    if not password and not from_stdin:
        return secrets.token_urlsafe(12), True
    return password, False


def _is_terminal() -> bool:
    return sys.stdin.isatty()
