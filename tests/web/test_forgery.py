"""Forged tokens: nothing but a signature of this shop, over claims that hold, opens anything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import secrets
import time
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, create_refresh_token

from shop.users.models import User
from tests import factories
from tests.web.checks import assert_problem
from tests.web.test_callers import ME, bearer, token_of

LOGOUT = "/api/v1/auth/logout"
#: Some that an administrator may call.
GUARDED = (
    ("GET", ME), ("GET", f"{ME}/sessions"), ("GET", "/api/v1/users"), ("GET", "/api/v1/api-keys"),
    ("POST", "/api/v1/products"), ("DELETE", "/api/v1/users/1/sessions"),
)  # fmt: skip


def part(value: Any) -> str:
    """One part of a token: base64url of JSON, or of bytes as they are."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(head: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    """A token with any head, under HMAC-SHA256 whatever the head says."""
    content = f"{part(head)}.{part(claims)}"
    return f"{content}.{part(hmac.digest(key, content.encode(), hashlib.sha256))}"


def claims_of(token: str) -> dict[str, Any]:
    """What a token says."""
    return jwt.decode(token, options={"verify_signature": False})


def refused_everywhere(client: FlaskClient, what: str, token: str) -> None:
    """The token opens none of the guarded operations."""
    for method, path in GUARDED:
        answer = client.open(path, method=method, headers=bearer(token))
        assert answer.status_code == 401, f"{what}: {method} {path}"
        assert_problem(answer, "unauthenticated")
        challenge = answer.headers["WWW-Authenticate"]
        assert challenge == 'Bearer realm="shop", error="invalid_token"', what


def test_an_unsigned_token_is_refused_whatever_it_calls_its_algorithm(
    app: Flask, client: FlaskClient, admin: dict[str, str]
) -> None:
    """AU-01."""
    right = token_of(admin)
    claims = claims_of(right)
    _, body, signature = right.split(".")
    for method, path in GUARDED[:-1]:
        answer = client.open(path, method=method, headers=admin)
        assert answer.status_code in (200, 415), path

    for name in ("none", "None", "nOnE", "NONE", "", None, "HS256"):
        head = part({"alg": name, "typ": "JWT"})
        for mark in ("", signature if name != "HS256" else "AAAA"):
            refused_everywhere(client, f"alg {name!r}", f"{head}.{body}.{mark}")
    refused_everywhere(client, "alg missing", f"{part({'typ': 'JWT'})}.{body}.{signature}")
    refused_everywhere(client, "two parts", f"{part({'alg': 'none'})}.{part(claims)}")


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """The address of a listener, and what was asked of it."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_what: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@cache
def rsa_key() -> tuple[bytes, bytes]:
    """A private key of somebody else, and its public half, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(pem, form, plain), public


def key_confusions(claims: dict[str, Any], url: str) -> dict[str, str]:
    """Tokens that name the key to check them with, or one that everybody knows."""
    private, public = rsa_key()
    own = {"kty": "oct", "k": part(b"own key, long enough to be one...")}
    heads: dict[str, tuple[dict[str, Any], bytes]] = {
        "public key as secret": ({}, public),
        "own jwk": ({"jwk": own}, b"own key, long enough to be one..."),
        "jku": ({"jku": f"{url}/jku.json", "kid": "1"}, b"own key, long enough to be one..."),
        "x5u": ({"x5u": f"{url}/x5u.pem"}, public),
        "x5c": ({"x5c": [part(public)]}, public),
        "kid of an empty file": ({"kid": "../../../../../../dev/null"}, b""),
        "kid of a path": ({"kid": "/proc/sys/kernel/randomize_va_space"}, b"2\n"),
        "kid of a query": ({"kid": "' UNION SELECT 'key' -- "}, b"key"),
        "kid of a command": ({"kid": f"|curl {url}/kid"}, b"key"),
        "kid of an address": ({"kid": f"{url}/kid"}, b"key"),
        "kid of 10 kB": ({"kid": "k" * 10_000}, b""),
        "kid of no text": ({"kid": {"$ne": None}}, b""),
    }
    found = {
        name: signed({"alg": "HS256", "typ": "JWT", **head}, claims, key)
        for name, (head, key) in heads.items()
    }
    for name, head in {"RS256": {}, "RS256 jku": {"jku": f"{url}/rs.json", "kid": "1"}}.items():
        found[name] = jwt.encode(claims, private, "RS256", headers=head)
    return found


def test_no_token_says_which_key_to_check_it_with(
    client: FlaskClient, admin: dict[str, str], canary: tuple[str, list[str]]
) -> None:
    """AU-02."""
    url, asked = canary

    for what, token in key_confusions(claims_of(token_of(admin)), url).items():
        refused_everywhere(client, what, token)

    assert asked == []
    # The listener would have told.
    requests.get(f"{url}/self-test", timeout=5)
    assert asked == ["/self-test"]


def open_session(app: Flask, user: User) -> str:
    """An access token of a new session."""
    return token_of(factories.headers_of(app, user))


def end_session(app: Flask, token: str) -> None:
    """End the session of a token."""
    assert app.test_client().post(LOGOUT, headers=bearer(token)).status_code == 204


def forged(app: Flask) -> dict[str, str]:
    """Tokens of a real administrator's session, each wrong in one way."""
    user, other = (factories.create_user(app, role="admin") for _ in range(2))
    right, foreign, ended = (open_session(app, whose) for whose in (user, other, user))
    assert app.test_client().get(ME, headers=bearer(right)).status_code == 200
    end_session(app, ended)
    claims, key = claims_of(right), app.config["SECRET_KEY"]
    head, _, signature = right.split(".")
    with app.app_context():
        refresh = create_refresh_token(str(user.id), additional_claims={"sid": claims["sid"]})
        bare = create_access_token(str(user.id))
    other_claims = part(claims | {"sub": str(other.id)})

    def sign(key: str = key, *, without: str = "", **changes: Any) -> str:
        wanted = {name: it for name, it in (claims | changes).items() if name != without}
        return signed({"alg": "HS256", "typ": "JWT"}, wanted, key.encode())

    assert app.test_client().get(ME, headers=bearer(sign())).status_code == 200
    return {
        "refresh": refresh,
        "without a session": bare,
        "foreign session": sign(sid=claims_of(foreign)["sid"]),
        "ended session": ended,
        "cut signature": right[:-5],
        "other claims": f"{head}.{other_claims}.{signature}",
        "foreign key": sign("another key that is also long enough for it"),
        "another algorithm": jwt.encode(claims, key * 2, "HS512"),
        "empty": "",
        "two tokens": f"{right} {right}",
        "an endless number": sign(sub="9" * 5_000),
    } | {f"without {name}": sign(without=name) for name in ("exp", "aud", "iss", "sub", "sid")} | {
        f"{name} {value!r}": sign(**{name: value}) for name, value in wrong_claims(claims)
    }  # fmt: skip


def wrong_claims(claims: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Claims that no token of this shop has, or not at this time."""
    now, sub, sid = int(time.time()), claims["sub"], claims["sid"]
    wrong: dict[str, tuple[Any, ...]] = {
        "exp": (now - 1, now, 0, -1, "never", None, [], {}),
        "nbf": (now + 60, "soon"),
        "type": ("refresh", "reset_password", "verify_email", "", 1, None),
        "aud": ("blog", "", [], ["blog"], "SHOP", 1),
        "iss": ("blog", "", "Shop", 1),
        "sub": ("999999999", "admin", "0", "-1", "", f"{sub} ", f"0{sub}", f"+{sub}", "\u0661",
                "9" * 30, int(sub), True, None, [sub], {}),
        "sid": ("999999999", "x", "0", "-1", "", f"{sid} ", f"0{sid}", "9" * 30, "1 OR 1=1",
                int(sid), True, None, [sid], {}),
    }  # fmt: skip
    for name, values in wrong.items():
        yield from ((name, value) for value in values)


def test_a_forged_token_opens_nothing(app: Flask, client: FlaskClient) -> None:
    """AU-04."""
    for what, token in forged(app).items():
        answer = client.get(ME, headers=bearer(token))
        assert answer.status_code == 401, what
        assert_problem(answer, "unauthenticated")


def test_every_bad_token_gets_the_same_answer(app: Flask, client: FlaskClient) -> None:
    answers = {
        client.get(ME, headers=bearer(token)).get_json()["detail"]
        for token in forged(app).values()
    }  # fmt: skip

    assert len(answers) == 1


Change = Callable[[random.Random, str], str]


def flip(chance: random.Random, token: str) -> str:
    """One bit of one character is another."""
    at = chance.randrange(len(token))
    return token[:at] + chr(ord(token[at]) ^ 1 << chance.randrange(8)) + token[at + 1 :]


def last_character(chance: random.Random, token: str) -> str:
    """The last character, some bits of which no decoder looks at, is another."""
    return token[:-1] + chance.choice([c for c in ALPHABET if c != token[-1]])


def insert(chance: random.Random, token: str) -> str:
    """Something that a lenient decoder drops stands in the middle, or at an end."""
    at = chance.randrange(len(token) + 1)
    odd = ("\0", "\t", "=", "==", "!", "\xa0", ".", "..", "-", "_", "+", "/", "\x7f", "%2e", "\xff")
    return token[:at] + chance.choice(odd) + token[at:]


def drop(chance: random.Random, token: str) -> str:
    """A stretch is missing."""
    at = chance.randrange(len(token))
    return token[:at] + token[at + chance.randrange(1, 40) :]


def rearrange(chance: random.Random, token: str) -> str:
    """The parts are others, in another order, twice or empty."""
    parts = [*token.split("."), ""]
    return ".".join(chance.choices(parts, k=chance.randrange(1, 7)))


def other_case(chance: random.Random, token: str) -> str:
    """One letter is written in the other case."""
    at = chance.choice([at for at, character in enumerate(token) if character.isalpha()])
    return token[:at] + token[at].swapcase() + token[at + 1 :]


def other_claims(chance: random.Random, token: str) -> str:
    """One claim is another, under the old signature."""
    head, _, signature = token.split(".")
    claims = claims_of(token)
    claims[chance.choice(sorted(claims))] = chance.choice([None, True, 0, "1", [], {}, 2**70, "x"])
    return f"{head}.{part(claims)}.{signature}"


def hostile_head(chance: random.Random, token: str) -> str:
    """The head is no object, or one that takes long to read."""
    _, body, signature = token.split(".")
    deep = chance.randrange(1, 20_000)
    heads = (b"[" * deep, b'{"a":' * deep, b"null", b"1", b"[]", b'"alg"', b"{}", b"\xff", b"",
             b'{"alg":"HS256"', b'{"alg":["HS256"]}', b'{"alg":' + b"9" * deep + b"}")  # fmt: skip
    return f"{part(chance.choice(heads))}.{body}.{signature}"


def long(chance: random.Random, token: str) -> str:
    """It is much longer."""
    return token + chance.choice(["A", ".", "=", "AAAA."]) * chance.choice([1_000, 100_000])


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CHANGES: tuple[Change, ...] = (
    flip, flip, flip, last_character, insert, drop, rearrange, other_case, other_claims,
    hostile_head, long,
)  # fmt: skip


@pytest.mark.parametrize(
    "size", [500, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(600)])]
)
def test_a_token_that_was_tampered_with_opens_nothing(
    client: FlaskClient, admin: dict[str, str], size: int
) -> None:
    """AU-03."""
    right = token_of(admin)
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    assert client.get(ME, headers=admin).status_code == 200

    for number in range(size):
        change = chance.choice(CHANGES)
        token = change(chance, right)
        # Space around a token is not part of it.
        if token.strip() == right:
            continue
        header = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
        status = client.get(ME, environ_overrides=header).status_code
        where = f"{change.__name__}, {number} of seed {seed}: {token[-80:]!r}"
        assert status in (400, 401), where


def test_a_token_of_a_megabyte_is_refused(client: FlaskClient, admin: dict[str, str]) -> None:
    """AU-03."""
    for token in (token_of(admin) + "A" * 2**20, "A" * 2**20, "." * 2**20, "eyJ9." * 2**18):
        answer = client.get(ME, environ_overrides={"HTTP_AUTHORIZATION": f"Bearer {token}"})
        assert_problem(answer, "unauthenticated")


def test_a_token_has_one_spelling(client: FlaskClient, admin: dict[str, str]) -> None:
    """AU-03: the bits that a decoder does not look at, and what it drops, count too."""
    right = token_of(admin)
    twins = {right[:-1] + character for character in ALPHABET} - {right}
    twins |= {right + odd for odd in ("=", "==", "===", "!", "\n", "A", "AA==", "\0", ".")}
    twins |= {right[:-3] + odd + right[-3:] for odd in ("!", "\n", " ", "\0", "=", "\xff", "$")}

    accepted = []
    for token in sorted(twins):
        answer = client.get(ME, environ_overrides={"HTTP_AUTHORIZATION": f"Bearer {token}"})
        if answer.status_code not in (400, 401) and token.strip() != right:
            accepted.append(token[-12:])

    assert not accepted
