"""Passwords are kept so that nobody can read them, and the ones that are guessed first refused."""

from __future__ import annotations

import time
from typing import Any

import pytest
from argon2 import extract_parameters
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from shop.mail.letters import Letter
from shop.users import passwords
from shop.users.models import User
from shop.users.passwords import hash_password, verify_password
from tests import factories
from tests.users.checks import (
    FORGOT,
    ME,
    OTHER_PASSWORD,
    PASSWORD,
    RESET,
    USERS,
    VERIFY,
    events,
    is_in,
    is_over,
    mailed_token,
    sign_in,
    tokens_of,
    try_to_sign_in,
)
from tests.users.test_accounts import limit, registration, snapshot, unlimited
from tests.users.test_addresses import at_once
from tests.users.test_mail_flows import Post, ask, ask_to_change, code_in
from tests.web.checks import assert_problem

ANNA = "anna.larsson@example.com"


def test_a_hash_fits_its_password_and_no_other() -> None:
    kept = hash_password("Tr0ub4dor&3")

    assert verify_password(kept, "Tr0ub4dor&3")
    for wrong in ("tr0ub4dor&3", "Tr0ub4dor&3 ", "Tr0ub4dor&", "", "Tr0ub4dor&3\0"):
        assert not verify_password(kept, wrong)


def test_the_same_password_gives_another_hash_each_time() -> None:
    assert hash_password("same") != hash_password("same")


def test_a_hash_is_argon2id_with_the_parameters_of_the_cheat_sheet() -> None:
    assert hash_password("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("kept", [None, "", "nonsense", "$argon2id$v=19$m=19456,t=2,p=1$x"])
def test_what_is_no_hash_fits_no_password(
    monkeypatch: pytest.MonkeyPatch, kept: str | None
) -> None:
    monkeypatch.setattr(passwords, "_NOBODYS_HASH", hash_password("nobody's"))

    assert not verify_password(kept, "nobody's")
    assert not verify_password(kept, "")


@pytest.mark.parametrize("password", ["x" * 1_000, "пароль密码🦊", "a\0b", " ", "é", "e\u0301"])
def test_any_text_can_be_a_password(password: str) -> None:
    assert verify_password(hash_password(password), password)


def test_looking_for_nobody_costs_what_looking_for_somebody_does() -> None:
    somebody = hash_password("somebody")

    assert extract_parameters(passwords._NOBODYS_HASH) == extract_parameters(somebody)
    assert not verify_password(None, "wrong")


DOORS = ("register", "reset", "change")


def choose(client: FlaskClient, door: str, password: Any) -> TestResponse:
    """Choose a password for `ANNA` at one of the three doors."""
    app = client.application
    if door == "register":
        return client.post(USERS, json=registration(email=ANNA, password=password))
    user = factories.create_user(app, email=ANNA)
    if door == "reset":
        body = {"token": mailed_token(app, user), "password": password}
        return client.post(RESET, json=body)
    body = {"current_password": factories.PASSWORD, "password": password}
    return client.post(PASSWORD, json=body, headers=sign_in(client, user).headers)


GOOD = {
    "8 characters": "k7#pQz!w",
    "8 emoji": "🦊🐻🐼🐨🐯🦁🐮🐷",
    "64 characters": "correct horse " * 4 + "battery!",
    "128 characters": "Tr0ub4dor&3 " * 10 + "staples!",
    "128 emoji": "🦊🐻" * 64,
    "only spaces around": "  k7#pQz  ",
    "words and spaces": "eleven purple goats",
    "only digits": "8264019375",
    "only small letters": "wqkzjvxb",
    "control characters": "tab\tline\nbell\x07",
    "many scripts": "пароль密码كلمة",
    "looks like SQL": "' OR '1'='1' --",
}


@pytest.mark.parametrize(
    ("door", "what"),
    [("register", what) for what in GOOD] + [(door, "128 emoji") for door in ("reset", "change")],
)
def test_any_composition_of_8_to_128_characters_is_fine(
    client: FlaskClient, door: str, what: str
) -> None:
    """AU-11."""
    answer = choose(client, door, GOOD[what])

    assert answer.status_code in (201, 204), answer.text
    tokens_of(try_to_sign_in(client, ANNA, GOOD[what]))
    for wrong in (GOOD[what][:-1], f"{GOOD[what]} "):
        assert_problem(try_to_sign_in(client, ANNA, wrong), "unauthenticated")


BAD = {
    "7 characters": "k7#pQz!",
    "7 emoji": "🦊🐻🐼🐨🐯🦁🐮",
    "129 characters": "Tr0ub4dor&3 " * 10 + "staples!!",
    "nothing": "",
    "one character again and again": "z" * 20,
    "8 spaces": " " * 8,
    "a common one": "password1234",
    "a common one in capitals": "PassWord1234",
    "the address": ANNA,
    "the address in capitals": ANNA.upper(),
    "the name in the address": "Anna.Larsson",
    "a NUL": "k7#pQz!w\0",
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("what", BAD)
def test_what_is_too_short_too_long_or_guessed_first_is_refused(
    client: FlaskClient, session: Session, door: str, what: str
) -> None:
    """AU-11."""
    answer = choose(client, door, BAD[what])

    assert_problem(answer, "validation", "/password")
    assert events(session) == []
    if door == "register":
        assert snapshot(session)["users"] == []
    else:
        tokens_of(try_to_sign_in(client, ANNA, factories.PASSWORD))


#: Among the first of every list of passwords that were found out.
COMMON = """
    password 12345678 123456789 1234567890 password1 password123 password1234 iloveyou sunshine
    princess football baseball superman qwertyuiop qwerty123 1q2w3e4r 1qaz2wsx 11111111 00000000
    88888888 87654321 abcd1234 abc12345 trustno1 starwars whatever computer michelle jennifer
    liverpool chocolate butterfly basketball spiderman corvette mercedes einstein internet asdfghjk
    asdfghjkl zaq12wsx 1q2w3e4r5t q1w2e3r4 qazwsxedc 123123123 987654321 12341234 11223344 babygirl
    samantha victoria alexander elizabeth midnight letmein1 welcome1 passw0rd 12345678910 maverick
"""


def test_the_most_common_passwords_are_refused(
    client: FlaskClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-11."""
    unlimited(client.application, monkeypatch)
    assert len(COMMON.split()) > 50

    for common in COMMON.split():
        for spelling in (common, common.upper(), common.title()):
            answer = client.post(USERS, json=registration(password=spelling))
            assert_problem(answer, "validation", "/password")
            assert "common" in answer.get_json()["errors"][0]["message"]
    assert snapshot(session)["users"] == []


@pytest.mark.parametrize("door", DOORS)
def test_the_last_character_of_a_long_password_counts(client: FlaskClient, door: str) -> None:
    """AU-11: some hashes look at the first 72 bytes only."""
    first = "Tr0ub4dor&3 " * 6
    assert len(first) == 72

    assert choose(client, door, f"{first}and me").status_code in (201, 204)

    for twin in (first, f"{first}and you", f"{first}and me too", first + "🦊"):
        assert_problem(try_to_sign_in(client, ANNA, twin), "unauthenticated")
    tokens_of(try_to_sign_in(client, ANNA, f"{first}and me"))


@pytest.mark.parametrize("door", [*DOORS, "sign-in", "current password"])
@pytest.mark.parametrize("letter", ["x", "🦊", "\\"])
def test_a_password_of_a_megabyte_is_refused_at_once(
    client: FlaskClient, door: str, letter: str
) -> None:
    """AU-11."""
    huge = letter * (1_000_000 // len(letter.encode("unicode_escape")))
    user = factories.create_user(client.application)
    headers, token = sign_in(client, user).headers, mailed_token(client.application, user)
    ways = {
        "register": (USERS, registration(password=huge), "/password"),
        "reset": (RESET, {"token": token, "password": huge}, "/password"),
        "change": (PASSWORD, {"current_password": "x", "password": huge}, "/password"),
        "sign-in": ("/api/v1/auth/login", {"email": ANNA, "password": huge}, "/password"),
        "current password": (
            PASSWORD, {"current_password": huge, "password": OTHER_PASSWORD}, "/current_password"
        ),
    }  # fmt: skip
    path, body, pointer = ways[door]

    tries = []
    for _ in range(3):
        began = time.perf_counter()
        assert_problem(client.post(path, json=body, headers=headers), "validation", pointer)
        tries.append(time.perf_counter() - began)

    assert min(tries) < 0.2


def test_a_body_over_the_limit_is_not_looked_at(client: FlaskClient) -> None:
    """AU-11."""
    answer = client.post(USERS, json=registration(password="x" * 2**20))

    assert_problem(answer, "too-large")


@pytest.fixture
def anna(app: Flask) -> User:
    """Somebody with an account."""
    return factories.create_user(app, email=ANNA)


def test_a_changed_password_ends_all_other_sessions(
    app: Flask, client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-09, AU-17: and a notice is sent."""
    mine, *others = [sign_in(client, anna) for _ in range(3)]
    bystander = sign_in(client, factories.create_user(app))
    reset = mailed_token(app, anna)

    body = {"current_password": factories.PASSWORD, "password": OTHER_PASSWORD}
    answer = client.post(PASSWORD, json=body, headers=mine.headers)

    assert (answer.status_code, answer.data) == (204, b"")
    assert is_in(client, mine)
    assert is_in(client, bystander)
    assert all(is_over(client, tokens) for tokens in others)
    assert_problem(try_to_sign_in(client, ANNA, factories.PASSWORD), "unauthenticated")
    tokens_of(try_to_sign_in(client, ANNA, OTHER_PASSWORD))
    used = {"token": reset, "password": "a third horse battery"}
    assert_problem(client.post(RESET, json=used), "unauthenticated")
    assert events(session, anna.id) == ["password_changed"]
    (notice,) = Post(app).deliver()
    assert (notice.recipient, notice.subject) == (ANNA, "Your password was changed")
    assert OTHER_PASSWORD not in notice.text + notice.html


@pytest.mark.parametrize(
    "proof", [None, "", 0, True, [], {}, "wrong horse", "CORRECT HORSE BATTERY"]
)
def test_another_password_needs_the_current_one(
    client: FlaskClient, anna: User, session: Session, proof: Any
) -> None:
    """AU-17."""
    opened = [sign_in(client, anna) for _ in range(2)]
    before = snapshot(session)

    body = {"password": OTHER_PASSWORD, "current_password": proof}
    answer = client.post(PASSWORD, json=body, headers=opened[0].headers)

    if isinstance(proof, str) and proof:
        assert_problem(answer, "unauthenticated")
    else:
        assert_problem(answer, "validation", "/current_password")
    assert snapshot(session) == before
    assert all(is_in(client, tokens) for tokens in opened)


def test_of_two_changes_at_once_one_counts(app: Flask, client: FlaskClient, anna: User) -> None:
    """AU-09: the other one was asked for with a password that is not the present one any more."""
    opened = [sign_in(client, anna) for _ in range(2)]

    def change(number: int) -> int:
        body = {"current_password": factories.PASSWORD, "password": f"horse number {number}"}
        headers = opened[number].headers
        return app.test_client().post(PASSWORD, json=body, headers=headers).status_code

    statuses = at_once(change, 2)

    won = statuses.index(204)
    assert statuses[1 - won] in (401, 409)
    assert is_in(client, opened[won])
    assert is_over(client, opened[1 - won])
    tokens_of(try_to_sign_in(client, ANNA, f"horse number {won}"))


def test_nobody_changes_a_password_without_being_signed_in(client: FlaskClient, anna: User) -> None:
    """AU-17."""
    body = {"current_password": factories.PASSWORD, "password": OTHER_PASSWORD}

    assert_problem(client.post(PASSWORD, json=body), "unauthenticated")
    assert_problem(client.patch(ME, json={"password": OTHER_PASSWORD}), "unauthenticated")


def test_guesses_of_the_current_password_are_counted(
    app: Flask, client: FlaskClient, anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AU-17: whoever finds an open session cannot try for long, here or at the sign-in."""
    limit(app, monkeypatch, sign_in_account="3 per 1 hour")
    tokens = sign_in(client, anna)
    email = {"email": "new@example.com", "current_password": "wrong horse"}
    password = {"password": OTHER_PASSWORD, "current_password": "wrong horse"}

    ask_to_change(client, anna)
    answers = [client.patch(ME, json=email, headers=tokens.headers)]
    answers += [client.post(PASSWORD, json=password, headers=tokens.headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [401] * 3
    assert_problem(client.patch(ME, json=email, headers=tokens.headers), "rate-limited")
    right = password | {"current_password": factories.PASSWORD}
    assert_problem(client.post(PASSWORD, json=right, headers=tokens.headers), "rate-limited")
    assert is_in(client, tokens)


@pytest.mark.parametrize("rescue", ["change", "reset"])
@pytest.mark.parametrize("sent", ["sent before", "sent after"])
def test_another_password_voids_a_change_of_address_that_was_asked_for_before(
    client: FlaskClient, anna: User, session: Session, rescue: str, sent: str
) -> None:
    """AU-17: who stole the old password cannot take the account along."""
    post, letters = Post(client.application), list[Letter]()
    if rescue == "reset":
        ask(client, FORGOT, ANNA)
        letters += post.deliver()
    ask_to_change(client, anna, "thief@example.com")
    letters += post.deliver() if sent == "sent before" else []
    if rescue == "reset":
        body = {"token": code_in(letters[0].text), "password": OTHER_PASSWORD}
        assert client.post(RESET, json=body).status_code == 204
    else:
        body = {"current_password": factories.PASSWORD, "password": OTHER_PASSWORD}
        headers = sign_in(client, anna).headers
        assert client.post(PASSWORD, json=body, headers=headers).status_code == 204

    letters += post.deliver()
    for letter in letters:
        if letter.recipient == "thief@example.com":
            client.post(VERIFY, json={"token": code_in(letter.text)})
    session.rollback()
    assert session.scalars(select(User.email)).all() == [ANNA]


def test_the_profile_is_no_way_around_the_current_password(
    client: FlaskClient, anna: User, session: Session
) -> None:
    """AU-17, AZ-06."""
    headers = sign_in(client, anna).headers
    before = snapshot(session)

    body = {"password": OTHER_PASSWORD, "current_password": factories.PASSWORD}
    answer = client.patch(ME, json=body, headers=headers)

    assert_problem(answer, "validation", "/password")
    assert snapshot(session) == before
