"""Callers are remembered for a moment, and forgotten as soon as their rights change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, event, update
from sqlalchemy.orm import Session

from config import Config
from shop import clock, create_app
from shop.db import db, read, transactional
from shop.marks import Mark
from shop.users import operations, registry
from shop.users.models import ApiKey, User, UserSession
from tests import factories
from tests.users.checks import (
    KEYS,
    ME,
    PRODUCTS,
    SESSIONS,
    USERS,
    api_key,
    bearer,
    sign_in,
)
from tests.web.checks import assert_problem


@pytest.fixture
def asked(app: Flask) -> Iterator[list[str]]:
    """Every question that the shop asks about callers."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(("SELECT users.role", "SELECT api_keys.id")):
            found.append(statement)

    reader: Engine = app.extensions["shop"].reader
    event.listen(reader, "before_cursor_execute", note)
    yield found
    event.remove(reader, "before_cursor_execute", note)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock that tells how long an answer is kept."""
    now = [1_000.0]

    class Clock:
        def monotonic(self) -> float:
            return now[0]

    def move(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(registry, "time", Clock())
    return move


def in_transaction(app: Flask, work: Callable[[Session], object]) -> None:
    """Do something in a transaction of the shop's own."""
    with app.app_context():
        transactional(lambda: work(db.session()))()


def behind_the_back(engine: Engine, statement: Any) -> None:
    """Change rows as another machine would: nobody here is told."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(statement)


def test_a_caller_is_asked_for_once_and_then_remembered(
    client: FlaskClient, customer: dict[str, str], asked: list[str], hands: Any
) -> None:
    for _ in range(5):
        assert client.get(SESSIONS, headers=customer).status_code == 200

    assert len(asked) == 1


def test_a_caller_is_remembered_for_less_than_a_second(
    client: FlaskClient, customer: dict[str, str], asked: list[str], hands: Callable[[float], None]
) -> None:
    client.get(ME, headers=customer)
    hands(0.79)
    client.get(ME, headers=customer)
    assert len(asked) == 1

    hands(0.02)
    client.get(ME, headers=customer)

    assert len(asked) == 2


def test_being_used_does_not_prolong_the_memory(
    client: FlaskClient, customer: dict[str, str], asked: list[str], hands: Callable[[float], None]
) -> None:
    for _ in range(5):
        client.get(ME, headers=customer)
        hands(0.3)

    assert len(asked) == 2


def test_an_api_key_is_remembered_like_an_account(
    app: Flask, client: FlaskClient, asked: list[str], hands: Callable[[float], None]
) -> None:
    headers = bearer(api_key(app, "products:write"))

    for _ in range(5):
        assert client.get(PRODUCTS, headers=headers).status_code == 200

    assert len(asked) == 1
    hands(0.9)
    client.get(PRODUCTS, headers=headers)
    assert len(asked) == 2


def test_two_callers_are_not_taken_for_each_other(app: Flask, client: FlaskClient) -> None:
    users = [factories.create_user(app) for _ in range(3)]
    headers = [factories.headers_of(app, user) for user in users]

    for _ in range(2):
        for user, shown in zip(users, headers, strict=True):
            assert client.get(ME, headers=shown).get_json()["id"] == user.id


def test_another_secret_behind_a_remembered_lookup_opens_nothing(
    app: Flask, client: FlaskClient
) -> None:
    key = api_key(app, "products:write")
    assert client.get(PRODUCTS, headers=bearer(key)).status_code == 200

    other = key[:-1] + ("A" if key[-1] != "A" else "E")

    assert_problem(client.get(PRODUCTS, headers=bearer(other)), "unauthenticated")


def test_a_refusal_is_not_remembered(
    app: Flask, client: FlaskClient, engine: Engine, hands: Any
) -> None:
    user = factories.create_user(app)
    headers = factories.headers_of(app, user)
    behind_the_back(engine, update(User).values(disabled=True))
    assert_problem(client.get(ME, headers=headers), "unauthenticated")

    behind_the_back(engine, update(User).values(disabled=False))

    assert client.get(ME, headers=headers).status_code == 200


CHANGES: dict[str, tuple[Callable[[User], Any], int]] = {
    "role": (lambda user: update(User).where(User.id == user.id).values(role="customer"), 403),
    "disabled": (lambda user: update(User).where(User.id == user.id).values(disabled=True), 401),
    "ended": (lambda user: update(UserSession).values(ended_at=clock.now()), 401),
    "expired": (lambda user: update(UserSession).values(expires_at=clock.now()), 401),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_machine_changes_counts_within_a_second(
    app: Flask, client: FlaskClient, engine: Engine, hands: Callable[[float], None], change: str
) -> None:
    """AU-10."""
    user = factories.create_user(app, role="staff")
    headers = factories.headers_of(app, user)
    assert client.get(USERS, headers=headers).status_code == 200
    statement, status = CHANGES[change]

    behind_the_back(engine, statement(user))
    hands(1.0)

    assert client.get(USERS, headers=headers).status_code == status


def test_what_another_machine_does_to_a_key_counts_within_a_second(
    app: Flask, client: FlaskClient, engine: Engine, hands: Callable[[float], None]
) -> None:
    headers = bearer(api_key(app, "products:write"))
    for column, status in ((ApiKey.scopes, 403), (ApiKey.expires_at, 401)):
        assert client.post(PRODUCTS, headers=headers).status_code in (415, 403)
        value: Any = [] if column is ApiKey.scopes else clock.now()

        behind_the_back(engine, update(ApiKey).values({column: value}))
        hands(1.0)

        assert client.post(PRODUCTS, headers=headers).status_code == status


def demote(session: Session, user: User) -> None:
    """Make a customer of somebody."""
    found = operations.find_for_change(session, user.id)
    operations.change_rights(session, found, role="customer")


def test_a_change_of_role_counts_at_the_next_request(app: Flask, client: FlaskClient) -> None:
    """AU-10."""
    user = factories.create_user(app, role="staff")
    headers = factories.headers_of(app, user)
    assert client.post(PRODUCTS, headers=headers).status_code == 415

    in_transaction(app, lambda session: demote(session, user))

    assert_problem(client.post(PRODUCTS, headers=headers), "forbidden")


@pytest.mark.parametrize("role", ["staff", "customer"])
def test_an_administrator_who_is_demoted_by_another_is_none_at_once(
    app: Flask, client: FlaskClient, admin: dict[str, str], role: str
) -> None:
    """AU-10."""
    other = factories.create_user(app, role="admin")
    headers = factories.headers_of(app, other)
    assert client.get(KEYS, headers=headers).status_code == 200

    client.patch(f"{USERS}/{other.id}", json={"role": role}, headers=admin)

    assert_problem(client.get(KEYS, headers=headers), "forbidden")
    client.patch(f"{USERS}/{other.id}", json={"role": "admin"}, headers=admin)
    assert client.get(KEYS, headers=headers).status_code == 200


def test_a_change_that_is_taken_back_changes_nothing_for_callers(
    app: Flask, client: FlaskClient, asked: list[str], hands: Any
) -> None:
    user = factories.create_user(app, role="staff")
    headers = factories.headers_of(app, user)
    client.get(USERS, headers=headers)

    @transactional
    def fail() -> None:
        demote(db.session(), user)
        raise LookupError

    with app.app_context():
        with pytest.raises(LookupError):
            fail()
        # Nor does what the same session commits next.
        transactional(lambda: db.session.get(User, user.id))()

    assert client.get(USERS, headers=headers).status_code == 200
    assert len(asked) == 1


def test_what_is_bought_and_sold_makes_nobody_be_asked_for_again(
    app: Flask, client: FlaskClient, staff: dict[str, str], asked: list[str], hands: Any
) -> None:
    for _ in range(3):
        factories.create_product(client, staff)

    assert len(asked) == 1


def test_a_change_while_a_caller_is_asked_for_makes_the_answer_an_old_one(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, hands: Any
) -> None:
    """AU-10: the answer was true when it was given, and may not be kept."""
    user = factories.create_user(app, role="staff")
    headers = factories.headers_of(app, user)
    ask, pending = read, [user]

    def ask_and_be_overtaken(*question: Any, **values: Any) -> Any:
        rows = ask(*question, **values)
        if pending:
            victim = pending.pop()
            # The change is another request's, with a session of its own.
            with Session(app.extensions["shop"].engine) as session:
                session.get_one(User, victim.id).role = "customer"
                session.commit()
        return rows

    monkeypatch.setattr(registry, "read", ask_and_be_overtaken)
    assert client.get(USERS, headers=headers).status_code == 200

    assert_problem(client.get(USERS, headers=headers), "forbidden")


@pytest.fixture
def other_app(app: Flask) -> Iterator[Flask]:
    """The same shop in another worker: another registry over the same folder."""
    config: Config = app.extensions["shop"].config
    other = create_app(
        Config(env="testing", var=config.var, database_url=config.database_url, sinks=())
    )
    yield other
    other.extensions["shop"].engine.dispose()
    other.extensions["shop"].reader.dispose()


def test_what_one_worker_changes_counts_at_once_in_another(
    app: Flask, other_app: Flask, client: FlaskClient, admin: dict[str, str], hands: Any
) -> None:
    """AU-10, AU-08."""
    user = factories.create_user(app, role="staff")
    tokens, neighbour = sign_in(client, user), other_app.test_client()
    assert neighbour.get(USERS, headers=tokens.headers).status_code == 200

    client.patch(f"{USERS}/{user.id}", json={"role": "customer"}, headers=admin)
    assert_problem(neighbour.get(USERS, headers=tokens.headers), "forbidden")
    client.delete(SESSIONS, headers=tokens.headers)

    assert_problem(neighbour.get(USERS, headers=tokens.headers), "unauthenticated")


def test_the_mark_is_the_same_for_every_process_of_the_machine(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "new", "callers", create_engine("sqlite://"), ())
    before = mark.value()
    program = (
        "import sys; from pathlib import Path; from sqlalchemy import create_engine;"
        "from shop.marks import Mark;"
        "Mark(Path(sys.argv[1]), 'callers', create_engine('sqlite://'), ()).replace()"
    )

    subprocess.run([sys.executable, "-c", program, str(tmp_path / "new")], check=True)

    assert mark.value() != before
    assert len(mark.value()) == 8
    assert (tmp_path / "new" / "callers").stat().st_mode & 0o777 == 0o600


def test_the_memory_is_bounded(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_MOST", 3)
    known = app.extensions["callers"]._known
    known.clear()

    for _ in range(8):
        assert client.get(ME, headers=factories.sign_in(app, "customer")).status_code == 200
        assert 1 <= len(known) <= 3
