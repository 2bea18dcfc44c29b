"""Twelve secrets and a person go through every flow; none is left where others can read it."""

from __future__ import annotations

import base64
import io
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from sqlalchemy import Engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop.audit.events import events_after
from shop.audit.models import AuditEntry
from shop.audit.sequencer import stamp
from shop.mail.delivery import Delivery
from shop.mail.letters import Letter
from shop.mail.models import OutgoingMail
from shop.users.mails import composers
from shop.users.models import User
from shop.users.tokens import digest
from tests import factories
from tests.conftest import create_shop
from tests.mail.servers import MailServer
from tests.servers import HOST
from tests.users.checks import (
    FORGOT,
    KEYS,
    LOGIN,
    LOGOUT,
    ME,
    PASSWORD,
    PRODUCTS,
    REFRESH,
    RESEND,
    RESET,
    USERS,
    VERIFY,
    bearer,
)
from tests.users.test_addresses import BOOK, HOSTILE
from tests.users.test_mail_flows import code_in
from tests.users.test_personal import TOLD

_databases = itertools.count(1)
OLD, NEW, WRONG = "canary-password-8f2k", "canary-renewed-3x9q", "canary-mistyped-7d1v"
SHOP_KEY = "canary-key-of-the-shop-5w8z-which-is-long-enough"
SMTP, DATABASE = "canary-smtp-2m6t", "canary-database-4n0b"
EMAIL, OTHER_EMAIL = "anna.canary@example.com", "canary.new@example.com"
PERSON = (*TOLD.values(), EMAIL, OTHER_EMAIL, "anna.canary", "Canar", "203.0.113.77")
AT = {"REMOTE_ADDR": "203.0.113.77"}


@dataclass
class World:
    """A shop that logs as in production, its mail server, and all that could be read of it."""

    app: Flask
    server: MailServer
    log: io.StringIO
    secrets: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    outbox: list[str] = field(default_factory=list)

    @property
    def engine(self) -> Engine:
        """The engine of the shop."""
        found: Engine = self.app.extensions["shop"].engine
        return found

    def call(self, method: str, path: str, status: int | None, **options: Any) -> TestResponse:
        """A request; what an error says is kept."""
        answer = self.app.test_client().open(path, method=method, environ_base=AT, **options)
        assert status in (None, answer.status_code), answer.text
        if answer.status_code >= 400:
            self.errors.append(f"{answer.headers}{answer.text}")
        return answer

    def post(self, path: str, status: int | None, body: Any, who: str = "") -> Any:
        """A request with a body; the body of the answer."""
        headers = bearer(who) if who else {}
        return self.call("POST", path, status, json=body, headers=headers).get_json(silent=True)

    def look_at_outbox(self) -> None:
        """Keep what the outbox says now."""
        with Session(self.engine) as session:
            table = OutgoingMail.__table__
            self.outbox += [str(row) for row in session.execute(select(table))]

    def mailed_code(self, recipient: str) -> str:
        """The code that goes to somebody now."""
        self.look_at_outbox()
        shop = self.app.extensions["shop"]
        assert shop.delivery(self.app).deliver_due() > 0
        to_them = [found for found in self.server.messages if found["To"] == recipient]
        self.server.envelopes.clear()
        # A notice may have come before it.
        text = to_them[-1].get_body(("plain",))
        assert text is not None
        return code_in(text.get_content())

    def lines(self) -> list[dict[str, Any]]:
        """The log, a record a line."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def published(self) -> list[str]:
        """What the broker is sent."""
        while stamp(self.engine):
            pass
        with self.engine.connect() as connection:
            return [found.message().decode() for found in events_after(connection, 0, 10_000)]

    def audited(self) -> list[str]:
        """Every row of the log of changes."""
        with Session(self.engine) as session:
            return [str(row) for row in session.execute(select(AuditEntry.__table__))]

    def readable(self) -> dict[str, list[str]]:
        """All that others can read."""
        return {
            "the log": self.log.getvalue().splitlines(), "the audit log": self.audited(),
            "the events": self.published(), "the errors": self.errors, "the outbox": self.outbox,
        }  # fmt: skip


@pytest.fixture
def world(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A shop whose every secret is a canary."""
    url = ""
    if engine_name == "mariadb":
        url = account_of_its_own(request.getfixturevalue("mariadb"))
    log = io.StringIO()
    with MailServer(auth_require_tls=False) as server, redirect_stderr(log):
        server.password = SMTP.encode()
        app = create_shop(
            tmp_path, database_url=url, secret_key=SHOP_KEY, log_format="json",
            mail_url=server.url.replace("//", f"//shop:{SMTP}@") + "?starttls=off",
            mail_from="shop@oak.example", public_url="https://oak.example",
            propagate_errors=False, rate_limits="off",
        )  # fmt: skip
        without_the_other_side()
        yield World(app, server, log, {"shop's key": SHOP_KEY, "SMTP password": SMTP})
        app.extensions["shop"].engine.dispose()
        app.extensions["shop"].reader.dispose()


def account_of_its_own(mariadb: Any) -> str:
    """The URL of a new database, with a password."""
    name = f"canaries{next(_databases)}"
    url = make_url(mariadb.create_database(name))
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE USER {name}@'%' IDENTIFIED BY '{DATABASE}'")
        cursor.execute(f"GRANT ALL ON {name}.* TO {name}@'%'")
    assert url.host == HOST
    return url.set(username=name, password=DATABASE).render_as_string(hide_password=False)


def without_the_other_side() -> None:
    """Leave what the mail server of the test logs out of the shop's log."""
    import logging

    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.name.startswith("mail.log"))


def leaks(texts: list[str], secrets: dict[str, str]) -> set[str]:
    """Which of the secrets can be read, as they are or lightly dressed."""
    found = set()
    for name, secret in secrets.items():
        encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
        for text in texts:
            if any(form in text for form in (secret, quote(secret, safe=""), encoded)):
                found.add(name)
    return found


def register_and_verify(world: World) -> None:
    """Open the account, and prove its mailbox."""
    wish = {"email": EMAIL, "name": TOLD["name"], "password": OLD}
    world.post(USERS, 201, wish)
    world.post(USERS, 409, wish)
    world.post(USERS, 422, wish | {"email": EMAIL.upper(), "password": OLD[:7], "role": OLD})
    world.secrets["password"] = OLD
    world.secrets["verification code"] = world.mailed_code(EMAIL)
    world.post(VERIFY, 401, {"token": world.secrets["verification code"][::-1]})
    world.post(VERIFY, 200, {"token": world.secrets["verification code"]})
    world.post(VERIFY, 401, {"token": world.secrets["verification code"]})
    with Session(world.engine) as session:
        world.secrets["hash"] = session.scalars(select(User.password_hash)).one()
        world.secrets["tail of the hash"] = world.secrets["hash"].rpartition("$")[2]


def open_sessions(world: World) -> None:
    """Sign in and out, refresh, and show what is spent."""
    world.secrets["wrong password"] = WRONG
    world.post(LOGIN, 401, {"email": EMAIL, "password": WRONG})
    world.post(LOGIN, 401, {"email": WRONG, "password": OLD})
    first = world.post(LOGIN, 200, {"email": EMAIL, "password": OLD})
    world.secrets["refresh token"] = first["refresh_token"]
    second = world.post(REFRESH, 200, {"refresh_token": first["refresh_token"]})
    world.secrets["next refresh token"] = second["refresh_token"]
    time.sleep(0.12)
    world.post(REFRESH, 401, {"refresh_token": first["refresh_token"]})
    world.post(REFRESH, 401, {"refresh_token": second["refresh_token"]})
    third = world.post(LOGIN, 200, {"email": EMAIL, "password": OLD})
    world.post(LOGOUT, 204, None, third["access_token"])
    world.post(LOGOUT, 401, None, third["access_token"])
    world.secrets["access token"] = world.post(
        LOGIN, 200, {"email": EMAIL, "password": OLD}
    )["access_token"]  # fmt: skip
    world.secrets["signature"] = world.secrets["access token"].rpartition(".")[2]


def change_passwords(world: World) -> None:
    """Change the password, forget it, and set another one by mail."""
    token = world.secrets["access token"]
    world.secrets["new password"] = NEW
    world.post(PASSWORD, 401, {"current_password": WRONG, "password": NEW}, token)
    world.post(PASSWORD, 422, {"current_password": OLD, "password": NEW * 7}, token)
    world.post(PASSWORD, 204, {"current_password": OLD, "password": NEW}, token)
    world.post(FORGOT, 202, {"email": EMAIL})
    code = world.secrets["reset code"] = world.mailed_code(EMAIL)
    world.post(RESET, 422, {"token": code, "password": "password"})
    world.post(RESET, 401, {"token": code[::-1], "password": NEW})
    world.post(VERIFY, 401, {"token": code})
    world.post(RESET, 204, {"token": code, "password": OLD})
    world.post(RESET, 401, {"token": code, "password": NEW})
    world.post(RESEND, 202, {"email": EMAIL})
    world.secrets["access token"] = world.post(
        LOGIN, 200, {"email": EMAIL, "password": OLD}
    )["access_token"]  # fmt: skip


def change_the_person(world: World) -> None:
    """Fill the address book, and move to another mailbox."""
    headers = bearer(world.secrets["access token"])
    home = world.call("POST", BOOK, 201, json={**TOLD, "country": "SE"}, headers=headers)
    place = f"{BOOK}/{home.get_json()['id']}"
    world.call("PATCH", place, 200, json={"line1": f"{TOLD['line1']}a"}, headers=headers)
    world.call("PATCH", place, 422, json={"phone": "Canary"}, headers=headers)
    world.call("PATCH", ME, 200, json={"name": f"{TOLD['name']} II"}, headers=headers)
    for password, status in ((WRONG, 401), (OLD, 200)):
        wish = {"email": OTHER_EMAIL, "current_password": password}
        world.call("PATCH", ME, status, json=wish, headers=headers)
    world.secrets["change code"] = world.mailed_code(OTHER_EMAIL)
    world.post(VERIFY, 200, {"token": world.secrets["change code"]})
    world.call("GET", f"{ME}/export", 200, headers=headers)


def use_an_api_key(world: World) -> None:
    """Make a key, use it, revoke it."""
    boss = factories.sign_in(world.app, "admin")["Authorization"].removeprefix("Bearer ")
    made = world.post(KEYS, 201, {"name": "till", "scopes": ["products:write"]}, boss)
    world.secrets["API key"] = made["key"]
    world.secrets["secret of the key"] = made["key"][-43:]
    world.post(PRODUCTS, 201, factories.product_body(), made["key"])
    world.post(KEYS, 403, {"name": "more", "scopes": ["products:write"]}, made["key"])
    world.call("DELETE", f"{KEYS}/{made['id']}", 204, headers=bearer(boss))
    world.post(PRODUCTS, 401, factories.product_body(), made["key"])
    anna = world.call("GET", f"{USERS}?role=customer", 200, headers=bearer(boss)).get_json()
    for rights in ({"role": "staff"}, {"disabled": True}, {"disabled": False}):
        path = f"{USERS}/{anna['items'][0]['id']}"
        world.call("PATCH", path, 200, json=rights, headers=bearer(boss))


def say_it_wrongly(world: World) -> None:
    """Put each secret where it does not belong."""
    for secret in world.secrets.values():
        raw = f'{{"email": "{EMAIL}", "password": "{secret}"'
        json_type = {"Content-Type": "application/json"}
        world.call("POST", LOGIN, 400, data=raw, headers=json_type)
        world.call("POST", LOGIN, 415, data=raw, headers={"Content-Type": "text/plain"})
        world.call("POST", LOGIN, 415, data={"password": secret})
        world.post(LOGIN, 422, {"email": [secret], "password": {"x": secret}})
        world.post(LOGIN, 422, {"email": EMAIL, "password": secret * 99})
        world.post(RESET, 422, {"token": secret * 99, "password": [secret]})
        world.call("GET", f"{ME}?access_token={quote(secret)}&token={quote(secret)}", 401)
        world.call("GET", f"/api/v1/auth/email/verify/{quote(secret, safe='')}", 404)
        world.call("GET", f"{PRODUCTS}?cursor={quote(secret, safe='')}", 422)
        for scheme in ("Basic", "Token", "Bearer x.y."):
            # One with commas in it is taken for two headers.
            status = 400 if "," in secret else 401
            world.call("GET", ME, status, headers={"Authorization": f"{scheme} {secret}"})
        world.call("GET", ME, 401, headers={"Cookie": f"session={secret}", "X-Api-Key": secret})


def tell_all(world: World) -> None:
    """Every flow, with a good and with a bad end."""
    register_and_verify(world)
    open_sessions(world)
    change_passwords(world)
    change_the_person(world)
    use_an_api_key(world)
    say_it_wrongly(world)
    body = world.post(LOGIN, 200, {"email": OTHER_EMAIL, "password": OLD})
    world.call("DELETE", ME, 204, headers=bearer(body["access_token"]))
    world.look_at_outbox()
    if world.engine.dialect.name != "sqlite":
        world.secrets["database password"] = DATABASE
    digests = {f"digest of {name}": digest(text) for name, text in world.secrets.items()}
    world.secrets |= digests | {"any hash": "$argon2id$"}


def test_no_secret_can_be_read_anywhere(world: World) -> None:
    """DO-15, OP-12."""
    tell_all(world)

    readable = world.readable()

    assert len(world.secrets) >= 24, "twelve, and their digests"
    assert all(readable.values()), "there is something to be read"
    assert {place: leaks(texts, world.secrets) for place, texts in readable.items()} == {
        place: set() for place in readable
    }


def test_a_person_is_in_the_log_not_at_all_and_in_the_events_masked(world: World) -> None:
    """DO-15, OP-12: while the change stays visible."""
    tell_all(world)

    person = {trace: trace for trace in PERSON}
    readable = world.readable()
    for place in ("the log", "the audit log", "the events"):
        assert leaks(readable[place], person) == set(), place
    users = [found for found in readable["the events"] if "shop.user." in found]
    addresses = [found for found in readable["the events"] if "shop.address." in found]
    assert any('"email":"a***@example.com"' in found for found in users)
    assert any('"email":"c***@example.com"' in found for found in users)
    assert all('"line1":"C***"' in found for found in addresses)
    assert {"created", "updated", "deleted"} == {
        found.partition("shop.address.")[2].partition('"')[0] for found in addresses
    }


def test_every_line_of_the_log_is_json_and_joins_its_request(world: World) -> None:
    """OP-12."""
    tell_all(world)
    with failing(world.engine, "INSERT INTO users"):
        wish = {"email": "a@example.com", "name": "A", "password": OLD}
        given = {"X-Request-ID": "join-me"}
        refused = world.call("POST", USERS, 500, json=wish, headers=given)
    world.call("POST", USERS, 201, json=wish, headers=given)

    lines = world.lines()

    assert all({"ts", "level", "logger", "event"} <= line.keys() for line in lines)
    assert refused.get_json()["request_id"] == refused.headers["X-Request-ID"] == "join-me"
    (failed,) = [line for line in lines if line["event"] == "request.failed"]
    assert failed["request_id"] == "join-me"
    with Session(world.engine) as session:
        wanted = select(AuditEntry.table_name).where(AuditEntry.request_id == "join-me")
        assert session.scalars(wanted).all() == ["users"]


@contextmanager
def failing(engine: Engine, beginning: str) -> Iterator[None]:
    """Let the database refuse statements that begin so, in a way that nobody expects."""
    error = engine.dialect.loaded_dbapi.DataError

    def refuse(_cursor: Any, statement: str, _parameters: Any, _context: Any) -> None:
        if statement.startswith(beginning):
            raise error("refused by the test")

    event.listen(engine, "do_execute", refuse)
    try:
        yield
    finally:
        event.remove(engine, "do_execute", refuse)


def try_everything(world: World, token: str, boss: str, code: str) -> None:
    """Each write once, however it ends."""
    world.post(USERS, None, {"email": OTHER_EMAIL, "name": TOLD["name"], "password": NEW})
    world.post(LOGIN, None, {"email": EMAIL, "password": OLD})
    world.post(BOOK, None, {**TOLD, "country": "SE"}, token)
    world.post(KEYS, None, {"name": "till", "scopes": ["products:write"]}, boss)
    world.post(FORGOT, None, {"email": EMAIL})
    world.app.extensions["shop"].delivery(world.app).deliver_due()
    world.post(PASSWORD, None, {"current_password": OLD, "password": NEW}, token)
    world.post(RESET, None, {"token": code, "password": OLD})
    world.look_at_outbox()


STATEMENTS = (
    "INSERT INTO users", "UPDATE users", "INSERT INTO sessions", "INSERT INTO refresh_tokens",
    "INSERT INTO outgoing_mails", "INSERT INTO api_keys", "INSERT INTO addresses",
    "INSERT INTO audit_log", "INSERT INTO security_events",
)  # fmt: skip


def test_a_mistake_of_the_shop_is_logged_without_what_it_was_about(world: World) -> None:
    """OP-12: the values of a statement are no part of the story."""
    register_and_verify(world)
    boss = factories.sign_in(world.app, "admin")["Authorization"].removeprefix("Bearer ")
    secrets = world.secrets | {"new password": NEW}
    for statement in STATEMENTS:
        world.post(FORGOT, 202, {"email": EMAIL})
        code = secrets[f"code before {statement}"] = world.mailed_code(EMAIL)
        token = world.post(LOGIN, 200, {"email": EMAIL, "password": OLD})["access_token"]
        before = len(world.lines())
        with failing(world.engine, statement):
            try_everything(world, token, boss, code)
        assert any(line["event"] == "request.failed" for line in world.lines()[before:]), statement
        with Session(world.engine) as session:
            # Whatever went through: the next round begins as the first did.
            user = session.scalars(select(User).where(User.email == EMAIL)).one()
            user.password_hash = secrets["hash"]
            session.commit()

    log = world.log.getvalue().splitlines()
    assert leaks(log + world.errors + world.outbox, secrets) == set()
    assert leaks(log, {trace: trace for trace in (*PERSON, "$argon2id$")}) == set()


def test_mail_that_cannot_be_sent_is_noted_without_what_it_says(world: World) -> None:
    """OP-12."""
    letters: list[Letter] = []

    def break_down(letter: Letter) -> None:
        letters.append(letter)
        raise RuntimeError(letter.text)

    world.post(USERS, 201, {"email": EMAIL, "name": TOLD["name"], "password": OLD})
    Delivery(world.app, break_down, composers(""), "shop@oak.example").deliver_due()
    world.look_at_outbox()
    world.post(FORGOT, 202, {"email": EMAIL})
    world.server.password = b"another"
    world.app.extensions["shop"].delivery(world.app).deliver_due()
    world.look_at_outbox()

    assert "SMTPAuthenticationError" in world.outbox[-1]
    texts = world.outbox + world.log.getvalue().splitlines()
    assert leaks(texts, {"code": code_in(letters[0].text), "SMTP password": SMTP}) == set()
    assert leaks(world.log.getvalue().splitlines(), {trace: trace for trace in PERSON}) == set()


def test_a_database_that_turns_the_shop_away_is_not_told_of_with_its_password(
    world: World, engine_name: str, request: pytest.FixtureRequest
) -> None:
    """OP-12."""
    if engine_name == "sqlite":
        pytest.skip("SQLite has no password")
    world.post(LOGIN, 401, {"email": EMAIL, "password": WRONG})
    name = make_url(world.app.extensions["shop"].config.database).username
    with request.getfixturevalue("mariadb").connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP USER {name}@'%'")
    world.app.extensions["shop"].engine.dispose()
    world.app.extensions["shop"].reader.dispose()

    for path in ("/health/ready", PRODUCTS, f"{PRODUCTS}/1"):
        assert world.call("GET", path, None).status_code in (500, 503)
    world.post(USERS, None, {"email": EMAIL, "name": TOLD["name"], "password": OLD})

    texts = world.errors + world.log.getvalue().splitlines()
    assert leaks(texts, {"password": OLD, "database password": DATABASE}) == set()


ENDINGS = ("a\r\nb", '{"level": "error"}\n{"event": "forged"}', "\u2028", "\x1b[31m", "\0", "\x85")


def test_whatever_an_error_says_is_one_line_of_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IN-21."""
    texts = [*HOSTILE, *ENDINGS]
    said = iter(texts)

    def broken(*_args: Any, **_options: Any) -> None:
        raise RuntimeError(next(said))

    monkeypatch.setattr("shop.users.views.auth.read", broken)
    before = len(world.log.getvalue().split("\n"))
    for _ in texts:
        world.post(LOGIN, 500, {"email": EMAIL, "password": OLD})

    lines = world.log.getvalue().split("\n")[before - 1 : -1]

    assert len(lines) == len(texts)
    for line, text in zip(lines, texts, strict=True):
        assert text in json.loads(line)["exception"]
        # Neither of these ends a line for anybody.
        assert not set("\r\x0b\x0c\x1c\x1d\x1e\0\x1b") & set(line)
