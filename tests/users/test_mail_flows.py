"""What mailed codes prove, and what asking for one tells nobody."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, func, select
from sqlalchemy.orm import Session

from shop import clock
from shop.mail import transport
from shop.mail.delivery import Delivery
from shop.mail.letters import Letter
from shop.mail.models import OutgoingMail
from shop.users.mails import composers
from shop.users.models import User
from shop.users.one_time import CHANGE_EMAIL, LIFETIMES, RESET_PASSWORD, VERIFY_EMAIL
from shop.users.passwords import hash_password
from tests import factories
from tests.mail.servers import MailServer
from tests.users.checks import (
    FORGOT,
    ME,
    OTHER_PASSWORD,
    RESEND,
    RESET,
    USERS,
    VERIFY,
    disable,
    events,
    is_over,
    sign_in,
    tokens_of,
    try_to_sign_in,
)
from tests.users.test_accounts import limit, registration, snapshot
from tests.users.test_addresses import at_once
from tests.web.checks import assert_problem

FRONT = "https://oak.example/shop"
SENDER = "Oak Shop <shop@oak.example>"
NEW = "anna.new@example.com"
Do = Callable[[], Any]


class Post:
    """The post office of a shop: sends what is due, and keeps it."""

    def __init__(self, app: Flask, public_url: str = FRONT) -> None:
        self.letters: list[Letter] = []
        self._delivery = Delivery(app, self.letters.append, composers(public_url), SENDER)

    def deliver(self) -> list[Letter]:
        """The letters that have gone since the last time."""
        self.letters.clear()
        while self._delivery.deliver_due():
            pass
        return list(self.letters)

    def code(self, recipient: str) -> str:
        """The only code that goes to somebody now; notices may go with it."""
        letters = [letter for letter in self.deliver() if letter.recipient == recipient]
        (code,) = [code for letter in letters for code in codes_in(letter.text)]
        return code


def codes_in(text: str) -> list[str]:
    """The codes that a mail brings, each on a line of its own."""
    return [line for line in text.splitlines() if re.fullmatch(r"[\w-]{43}", line)]


def code_in(text: str) -> str:
    """The code that a mail brings."""
    (code,) = codes_in(text)
    return code


@pytest.fixture
def post(app: Flask) -> Post:
    """The post office of the shop under test."""
    return Post(app)


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody with an account."""
    return factories.create_user(app, email="anna@example.com")


def account(session: Session) -> User:
    """The only account, as it is now."""
    session.rollback()
    session.expire_all()
    return session.scalars(select(User)).one()


def ask(client: FlaskClient, path: str, email: str = "anna@example.com") -> None:
    """Ask for a mail with a code."""
    answer = client.post(path, json={"email": email})
    assert (answer.status_code, answer.get_json()) == (202, {})


def ask_to_change(client: FlaskClient, user: User, email: str = NEW) -> None:
    """Ask for another address, from a session of its own."""
    change = {"email": email, "current_password": factories.PASSWORD}
    answer = client.patch(ME, json=change, headers=sign_in(client, user).headers)
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["email"] == user.email


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time have passed for the shop."""
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=seconds))


def test_mail_goes_all_the_way_over_a_real_server(
    app: Flask, client: FlaskClient, session: Session
) -> None:
    """From registering to a verified mailbox and another password."""
    with MailServer() as server:
        transport.register(app, server.url, SENDER)
        delivery = Delivery(app, transport.send, composers(FRONT), SENDER)
        client.post(USERS, json=registration())
        assert delivery.deliver_due() == 1
        first = server.messages[0].get_body(("plain",))
        assert first is not None
        verified = client.post(VERIFY, json={"token": code_in(first.get_content())})
        assert verified.get_json()["email_verified"] is True
        ask(client, FORGOT)
        assert delivery.deliver_due() == 1

    second = server.messages[1].get_body(("plain",))
    assert second is not None
    code = code_in(second.get_content())
    assert f"{FRONT}/account/reset_password#{code}" in second.get_content().splitlines()
    assert server.recipients == ["anna@example.com"] * 2
    body = {"token": code, "password": OTHER_PASSWORD}
    assert client.post(RESET, json=body).status_code == 204
    tokens_of(try_to_sign_in(client, "anna@example.com", OTHER_PASSWORD))


def test_a_mailed_code_verifies_the_mailbox_once(
    client: FlaskClient, post: Post, session: Session
) -> None:
    """AU-16."""
    client.post(USERS, json=registration())
    code = post.code("anna@example.com")
    assert account(session).email_verified_at is None

    answer = client.post(VERIFY, json={"token": code})

    assert answer.status_code == 200
    assert answer.get_json()["email_verified"] is True
    assert answer.headers["ETag"].startswith('"2-')
    assert account(session).email_verified_at is not None
    assert_problem(client.post(VERIFY, json={"token": code}), "unauthenticated")


def test_only_the_newest_code_verifies_the_mailbox(client: FlaskClient, post: Post) -> None:
    """AU-16."""
    client.post(USERS, json=registration())
    old = post.code("anna@example.com")
    ask(client, RESEND, "ANNA@example.com")
    new = post.code("anna@example.com")

    assert old != new
    assert_problem(client.post(VERIFY, json={"token": old}), "unauthenticated")
    assert client.post(VERIFY, json={"token": new}).status_code == 200


def test_no_code_is_mailed_to_a_mailbox_that_is_verified(
    client: FlaskClient, post: Post, session: Session
) -> None:
    client.post(USERS, json=registration())
    client.post(VERIFY, json={"token": post.code("anna@example.com")})

    ask(client, RESEND)

    assert post.deliver() == []
    assert snapshot(session)["outgoing_mails"] == []


@pytest.mark.parametrize("path", [FORGOT, RESEND])
def test_who_has_no_account_gets_no_mail(
    app: Flask, client: FlaskClient, post: Post, session: Session, path: str
) -> None:
    """AU-13."""
    disable(app, factories.create_user(app, email="closed@example.com"))
    for address in ("nobody@example.com", "closed@example.com", "no address", "%", "🦊"):
        ask(client, path, address)

    assert post.deliver() == []
    assert snapshot(session)["outgoing_mails"] == []
    assert snapshot(session)["one_time_tokens"] == []


@pytest.mark.parametrize("spelling", ["ANNA@EXAMPLE.COM", "ａnna@example.com", " anna@example.com"])
def test_a_code_goes_to_the_mailbox_of_the_account_however_it_was_asked_for(
    client: FlaskClient, post: Post, anna: User, spelling: str
) -> None:
    """A letter that folds to another one must not lead it elsewhere."""
    ask(client, FORGOT, spelling)

    assert [letter.recipient for letter in post.deliver()] == ["anna@example.com"]


def test_a_reset_sets_the_password_ends_all_sessions_and_verifies_the_mailbox(
    client: FlaskClient, post: Post, anna: User, session: Session
) -> None:
    """AU-09."""
    opened = [sign_in(client, anna) for _ in range(3)]
    ask(client, FORGOT)

    body = {"token": post.code(anna.email), "password": OTHER_PASSWORD}
    answer = client.post(RESET, json=body)

    assert (answer.status_code, answer.data) == (204, b"")
    assert all(is_over(client, tokens) for tokens in opened)
    assert account(session).email_verified_at is not None
    assert_problem(try_to_sign_in(client, anna.email, factories.PASSWORD), "unauthenticated")
    tokens_of(try_to_sign_in(client, anna.email, OTHER_PASSWORD))
    assert events(session, anna.id) == ["password_changed"]
    (notice,) = post.deliver()
    assert (notice.recipient, notice.subject) == (anna.email, "Your password was changed")


def test_a_reset_code_is_good_once(client: FlaskClient, post: Post, anna: User) -> None:
    """AU-16."""
    ask(client, FORGOT)
    body = {"token": post.code(anna.email), "password": OTHER_PASSWORD}
    assert client.post(RESET, json=body).status_code == 204

    again = client.post(RESET, json=body | {"password": "a third horse battery"})

    assert_problem(again, "unauthenticated")
    tokens_of(try_to_sign_in(client, anna.email, OTHER_PASSWORD))


def test_a_code_that_is_shown_many_times_at_once_is_good_once(
    app: Flask, client: FlaskClient, anna: User, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-16."""
    ask(client, FORGOT)
    code = Post(app).code(anna.email)
    hashes = {text: hash_password(text) for text in [f"horse number {n}" for n in range(4)]}
    meeting = threading.Barrier(len(hashes), timeout=20)

    def hash_together(password: str) -> str:
        # All of them are past the first look at the code.
        meeting.wait()
        return hashes[password]

    monkeypatch.setattr("shop.users.views.auth.hash_password", hash_together)

    def reset(number: int) -> int:
        body = {"token": code, "password": f"horse number {number}"}
        return app.test_client().post(RESET, json=body).status_code

    with ExitStack() as stack:
        # Who has to wait for a connection comes late.
        for _ in hashes:
            stack.enter_context(app.extensions["shop"].engine.connect())
    statuses = at_once(reset, len(hashes))

    assert sorted(statuses) == [204] + [401] * 3
    tokens_of(try_to_sign_in(client, anna.email, f"horse number {statuses.index(204)}"))
    assert events(session, anna.id) == ["password_changed"]


def test_a_newer_reset_code_voids_the_older_one(
    client: FlaskClient, post: Post, anna: User
) -> None:
    """AU-16."""
    codes = []
    for _ in range(2):
        ask(client, FORGOT)
        codes.append(post.code(anna.email))

    body = {"token": codes[0], "password": OTHER_PASSWORD}
    assert_problem(client.post(RESET, json=body), "unauthenticated")
    assert client.post(RESET, json=body | {"token": codes[1]}).status_code == 204


@pytest.mark.parametrize("purpose", [RESET_PASSWORD, VERIFY_EMAIL, CHANGE_EMAIL])
def test_a_code_is_good_until_it_expires(
    client: FlaskClient, post: Post, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    """AU-16."""
    user = factories.create_user(client.application)
    if purpose == CHANGE_EMAIL:
        ask_to_change(client, user)
    else:
        ask(client, FORGOT if purpose == RESET_PASSWORD else RESEND, user.email)
    code = post.code(NEW if purpose == CHANGE_EMAIL else user.email)
    body = {"token": code} | ({"password": OTHER_PASSWORD} if purpose == RESET_PASSWORD else {})
    path = RESET if purpose == RESET_PASSWORD else VERIFY
    weak = {"token": code, "password": "password"}

    later(monkeypatch, LIFETIMES[purpose] + 0.1)
    assert_problem(client.post(path, json=body), "unauthenticated")
    later(monkeypatch, -10)
    if purpose == RESET_PASSWORD:
        # A password that is refused does not use it up.
        assert_problem(client.post(path, json=weak), "validation", "/password")
    assert client.post(path, json=body).status_code in (200, 204)
    assert LIFETIMES == {VERIFY_EMAIL: 86_400, CHANGE_EMAIL: 86_400, RESET_PASSWORD: 3600}


def test_a_code_is_good_for_its_own_purpose_only(
    client: FlaskClient, post: Post, session: Session
) -> None:
    """AU-16."""
    client.post(USERS, json=registration())
    verify = post.code("anna@example.com")
    ask(client, FORGOT)
    reset = post.code("anna@example.com")
    before = snapshot(session)

    body = {"token": verify, "password": OTHER_PASSWORD}
    assert_problem(client.post(RESET, json=body), "unauthenticated")
    assert_problem(client.post(VERIFY, json={"token": reset}), "unauthenticated")

    assert snapshot(session) == before
    assert client.post(VERIFY, json={"token": verify}).status_code == 200
    assert client.post(RESET, json=body | {"token": reset}).status_code == 204


def test_wrong_codes_are_counted_and_right_ones_are_not(
    app: Flask, client: FlaskClient, post: Post, anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-16: nobody guesses for long."""
    limit(app, monkeypatch, token_guesses="3 per 1 hour")
    codes = []
    for _ in range(2):
        ask(client, FORGOT)
        codes.append(post.code(anna.email))
        used = {"token": codes[-1], "password": f"horse number {len(codes)}"}
        assert client.post(RESET, json=used).status_code == 204
    ask(client, FORGOT)
    good = {"token": post.code(anna.email), "password": OTHER_PASSWORD}

    statuses = [client.post(VERIFY, json={"token": "x" * 43}).status_code for _ in range(5)]

    assert statuses == [401] * 3 + [429] * 2
    # Even a good one: else a lucky guess would be told from the others.
    assert_problem(client.post(RESET, json=good), "rate-limited")


def test_a_new_address_counts_when_its_mailbox_has_confirmed_it(
    client: FlaskClient, post: Post, anna: User, session: Session
) -> None:
    """AU-17: and the old mailbox is told, when it is asked for and when it is done."""
    ask_to_change(client, anna, "Anna.New@Example.com")
    asked = {letter.recipient: letter for letter in post.deliver()}
    assert set(asked) == {anna.email, NEW}
    assert asked[anna.email].subject == "A new e-mail address for your account"
    assert codes_in(asked[anna.email].text) == []
    assert account(session).email == anna.email

    answer = client.post(VERIFY, json={"token": code_in(asked[NEW].text)})

    assert answer.status_code == 200
    assert (answer.get_json()["email"], answer.get_json()["email_verified"]) == (NEW, True)
    (told,) = post.deliver()
    assert (told.recipient, told.subject) == (anna.email, "Your e-mail address was changed")
    assert_problem(try_to_sign_in(client, anna.email, factories.PASSWORD), "unauthenticated")
    tokens_of(try_to_sign_in(client, NEW, factories.PASSWORD))
    assert_problem(client.post(VERIFY, json={"token": code_in(asked[NEW].text)}), "unauthenticated")


@pytest.mark.parametrize("proof", [None, "", 0, True, [], {}, "wrong horse", "nothing at all"])
def test_another_address_needs_the_current_password(
    client: FlaskClient, anna: User, session: Session, proof: Any
) -> None:
    """AU-17."""
    headers = sign_in(client, anna).headers
    before = snapshot(session)

    wish = {"email": NEW, "name": "Eve"}
    if proof != "nothing at all":
        wish["current_password"] = proof
    answer = client.patch(ME, json=wish, headers=headers)

    if proof in ("wrong horse", "nothing at all"):
        assert_problem(answer, "unauthenticated")
    else:
        assert_problem(answer, "validation", "/current_password")
    assert snapshot(session) == before


def test_an_address_that_is_taken_gets_no_mail_and_nobody_is_told_that_it_is(
    app: Flask, client: FlaskClient, post: Post, anna: User
) -> None:
    """AU-13, AU-17."""
    factories.create_user(app, email=NEW)

    ask_to_change(client, anna)

    assert [letter.recipient for letter in post.deliver()] == [anna.email]


def test_an_address_that_was_taken_meanwhile_stays_with_who_took_it(
    app: Flask, client: FlaskClient, post: Post, anna: User, session: Session
) -> None:
    """AU-17."""
    ask_to_change(client, anna)
    code = post.code(NEW)
    factories.create_user(app, email=NEW)
    before = snapshot(session)

    assert_problem(client.post(VERIFY, json={"token": code}), "conflict")

    assert snapshot(session) == before


def test_of_two_who_move_to_one_mailbox_at_once_one_gets_there(
    app: Flask, client: FlaskClient, post: Post, session: Session
) -> None:
    """AU-17: and who opens an account with it at that moment is told that it is taken."""
    codes = []
    for _ in range(2):
        ask_to_change(client, factories.create_user(app))
        codes.append(post.code(NEW))

    def move(number: int) -> int:
        client = app.test_client()
        if number == 2:
            return client.post(USERS, json=registration(email=NEW)).status_code
        return client.post(VERIFY, json={"token": codes[number]}).status_code

    statuses = at_once(move, 3)

    assert sorted(statuses) in ([200, 409, 409], [201, 409, 409])
    found = session.scalars(select(User.email).where(User.email == NEW)).all()
    assert len(found) == 1


def test_the_old_mailbox_opens_nothing_after_a_change(
    client: FlaskClient, post: Post, anna: User
) -> None:
    """AU-17: neither a code that it has, nor one that is on its way to it."""
    ask(client, FORGOT)
    reset = post.code(anna.email)
    ask_to_change(client, anna)
    change = post.code(NEW)
    ask(client, FORGOT)

    assert client.post(VERIFY, json={"token": change}).status_code == 200

    body = {"token": reset, "password": OTHER_PASSWORD}
    assert_problem(client.post(RESET, json=body), "unauthenticated")
    assert [letter.subject for letter in post.deliver()] == ["Your e-mail address was changed"]


def test_a_mailbox_that_nobody_proved_gets_no_words_of_the_registrant(
    client: FlaskClient, post: Post, anna: User, session: Session
) -> None:
    """Else the shop would mail anybody's words to anybody."""
    client.post(USERS, json=registration(email="victim@example.com", name="Buy pills"))
    session.get_one(User, anna.id).email_verified_at = clock.now()
    session.get_one(User, anna.id).name = "Buy pills"
    session.commit()
    ask_to_change(client, anna, "another.victim@example.com")

    letters = {letter.recipient: letter for letter in post.deliver()}

    for victim in ("victim@example.com", "another.victim@example.com"):
        assert "pills" not in letters[victim].text + letters[victim].html + letters[victim].subject


@contextmanager
def statements(*engines: Engine) -> Iterator[list[str]]:
    """Every statement that the shop sends meanwhile."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("path", [FORGOT, RESEND])
def test_asking_for_a_mail_looks_at_no_account(
    app: Flask, client: FlaskClient, anna: User, path: str
) -> None:
    """AU-13, AU-14: what is done for somebody and for nobody is the same."""
    disable(app, factories.create_user(app, email="closed@example.com"))
    shop = app.extensions["shop"]
    client.post(path, json={"email": "first@example.com"})
    seen, answers = [], []

    for address in ("anna@example.com", "nobody@example.com", "closed@example.com", "ANNA@oak.com"):
        with statements(shop.engine, shop.reader) as sent:
            answer = client.post(path, json={"email": address})
        del answer.headers["X-Request-ID"], answer.headers["RateLimit"]
        answers.append((answer.status_code, answer.data, dict(answer.headers)))
        seen.append(sent)

    assert seen[0] == seen[1] == seen[2]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert any("outgoing_mails" in statement for statement in seen[0])
    for table in ("users", "sessions", "one_time_tokens", "security_events", "audit_log"):
        assert not any(re.search(rf"\b{table}\b", statement) for statement in seen[0])


def outbox(session: Session) -> int:
    """How many mails wait."""
    session.rollback()
    return session.scalar(select(func.count()).select_from(OutgoingMail)) or 0


@pytest.mark.parametrize("path", [FORGOT, RESEND])
def test_more_mails_to_one_mailbox_are_left_out_silently(
    client: FlaskClient, anna: User, session: Session, path: str
) -> None:
    answers = []
    for number in range(7):
        spelling = "anna@example.com" if number % 2 else "ANNA@example.com"
        answers.append(client.post(path, json={"email": spelling}))

    assert outbox(session) == 5
    told = {(answer.status_code, answer.data, tuple(sorted(answer.headers.keys())))
            for answer in answers}  # fmt: skip
    assert len(told) == 1
    assert "recipient" not in str([answer.headers for answer in answers])
    ask(client, path, "somebody.else@example.com")
    assert outbox(session) == 6


def test_all_mails_to_a_mailbox_count_whoever_asks_for_them(
    client: FlaskClient, post: Post, session: Session, monkeypatch: pytest.MonkeyPatch, app: Flask
) -> None:
    """Nobody fills somebody else's mailbox through the shop."""
    limit(app, monkeypatch, mail_recipient="2 per 1 hour")
    victim = "victim@example.com"
    for _ in range(3):
        ask_to_change(client, factories.create_user(app), victim)

    sent = [letter for letter in post.deliver() if letter.recipient == victim]

    assert len(sent) <= 2


def test_opening_and_erasing_an_account_over_and_over_mails_no_more_than_the_limit(
    client: FlaskClient, post: Post, monkeypatch: pytest.MonkeyPatch, app: Flask
) -> None:
    """Nobody fills somebody else's mailbox through the shop."""
    limit(app, monkeypatch, mail_recipient="2 per 1 hour")
    sent = []
    for _ in range(4):
        assert client.post(USERS, json=registration()).status_code == 201
        sent += post.deliver()
        tokens = tokens_of(try_to_sign_in(client, "anna@example.com", factories.PASSWORD))
        assert client.delete(ME, headers=tokens.headers).status_code == 204

    assert len(sent) <= 2


def test_who_asks_for_too_many_mails_is_told_to_wait(
    app: Flask, client: FlaskClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(app, monkeypatch, mail_address="3 per 1 hour")
    paths = [FORGOT, RESEND, FORGOT, RESEND, FORGOT]
    bodies = [{"email": f"anna{number}@example.com"} for number in range(5)]

    answers = [client.post(path, json=body) for path, body in zip(paths, bodies, strict=True)]

    assert [answer.status_code for answer in answers] == [202] * 3 + [429] * 2
    assert_problem(answers[-1], "rate-limited")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600
    assert outbox(session) == 3
