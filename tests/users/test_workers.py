"""Sessions over several workers: all of them see the same, at once, however many ask."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import requests
from sqlalchemy import Engine, create_engine, text

from tests.running import ADMIN, PASSWORD, RunningShop
from tests.servers import MariaDB

pytestmark = pytest.mark.xdist_group("workers")

API = "/api/v1"
ME, REFRESH = f"{API}/users/me", f"{API}/auth/refresh"
WORKERS = 2


@pytest.fixture(scope="module", params=["mariadb", "sqlite"])
def shop(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """gunicorn with two workers, which throttles nobody: many tokens are tried here."""
    folder, url = tmp_path_factory.mktemp("workers"), ""
    if request.param == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        url = server.create_database(f"workers{time.monotonic_ns()}")
    running = RunningShop(
        folder / "var", url, None, workers=WORKERS, sinks="none", scheduler="off",
        rate_limits="off", access_token_seconds=900,
    )  # fmt: skip
    with running:
        running.admin_token()
        yield running


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over a connection, and when it was asked for and read."""

    status: int
    body: dict[str, Any]
    asked: float
    read: float


class Caller:
    """Somebody with one connection that stays open, and so with one worker."""

    def __init__(self, shop: RunningShop) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=30)
        self._connection.connect()
        assert self._connection.sock is not None
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, token: str = "", body: Any = None) -> Answer:
        """Send one request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        raw = None if body is None else json.dumps(body).encode()
        if raw is not None:
            headers["Content-Type"] = "application/json"
        asked = time.monotonic()
        self._connection.request(method, path, raw, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        return Answer(answer.status, json.loads(text or b"{}"), asked, time.monotonic())

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@pytest.fixture
def callers(shop: RunningShop) -> Iterator[list[Caller]]:
    """Twenty connections, some to each worker."""
    found = [Caller(shop) for _ in range(20)]
    for caller in found:
        caller.ask("GET", "/health/live")
    held = [
        sum(c.status == "ESTABLISHED" for c in psutil.Process(pid).net_connections("tcp"))
        for pid in shop.worker_pids()
    ]
    try:
        assert len(held) == WORKERS
        assert min(held) >= 5, held
        yield found
    finally:
        for caller in found:
            caller.close()


def sign_in(shop: RunningShop, email: str = ADMIN) -> dict[str, str]:
    """The tokens of a new session."""
    credentials = {"email": email, "password": PASSWORD}
    answer = requests.post(f"{shop.url}{API}/auth/login", json=credentials, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def register(shop: RunningShop) -> tuple[str, int]:
    """The address and the id of a new customer."""
    email = f"customer{time.monotonic_ns()}@example.com"
    body = {"email": email, "name": "Berta", "password": PASSWORD}
    answer = requests.post(f"{shop.url}{API}/users", json=body, timeout=30)
    assert answer.status_code == 201, answer.text
    return email, answer.json()["id"]


def statuses(callers: list[Caller], path: str, token: str) -> set[int]:
    """What every connection is answered."""
    return {caller.ask("GET", path, token).status for caller in callers}


def test_a_sign_out_counts_on_every_worker_within_a_second(
    shop: RunningShop, callers: list[Caller]
) -> None:
    """AU-08."""
    for _ in range(5):
        tokens = sign_in(shop)
        token, shown = tokens["access_token"], {"refresh_token": tokens["refresh_token"]}
        # Now every worker remembers the caller.
        assert statuses(callers, ME, token) == {200}

        assert callers[0].ask("POST", f"{API}/auth/logout", token).status == 204
        begun = time.monotonic()

        assert statuses(callers, ME, token) == {401}
        assert time.monotonic() - begun < 1
        assert {caller.ask("POST", REFRESH, "", shown).status for caller in callers} == {401}


def test_an_account_that_is_closed_is_closed_on_every_worker_within_a_second(
    shop: RunningShop, callers: list[Caller]
) -> None:
    """AU-09."""
    email, user_id = register(shop)
    tokens = [sign_in(shop, email)["access_token"] for _ in range(3)]
    assert {status for token in tokens for status in statuses(callers, ME, token)} == {200}

    change = callers[0].ask(
        "PATCH", f"{API}/users/{user_id}", shop.admin_token(), {"disabled": True}
    )
    begun = time.monotonic()

    assert change.status == 200
    assert {status for token in tokens for status in statuses(callers, ME, token)} == {401}
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(("role", "status"), [("staff", 200), ("customer", 403)])
def test_another_role_counts_on_every_worker_within_a_second(
    shop: RunningShop, callers: list[Caller], role: str, status: int
) -> None:
    """AU-10."""
    email, user_id = register(shop)
    address, admin = f"{API}/users/{user_id}", shop.admin_token()
    assert callers[0].ask("PATCH", address, admin, {"role": "admin"}).status == 200
    token = sign_in(shop, email)["access_token"]
    assert statuses(callers, f"{API}/api-keys", token) == {200}

    assert callers[0].ask("PATCH", address, admin, {"role": role}).status == 200
    begun = time.monotonic()

    assert statuses(callers, f"{API}/api-keys", token) == {403}
    assert statuses(callers, f"{API}/users", token) == {status}
    assert time.monotonic() - begun < 1


def test_a_key_that_is_ended_is_ended_on_every_worker_within_a_second(
    shop: RunningShop, callers: list[Caller]
) -> None:
    body = {"name": "till", "scopes": ["products:write"]}
    made = callers[0].ask("POST", f"{API}/api-keys", shop.admin_token(), body).body
    assert statuses(callers, f"{API}/products", made["key"]) == {200}

    ended = callers[0].ask("DELETE", f"{API}/api-keys/{made['id']}", shop.admin_token())
    begun = time.monotonic()

    assert ended.status == 204
    assert statuses(callers, f"{API}/products", made["key"]) == {401}
    assert time.monotonic() - begun < 1


def race(callers: list[Caller], token: str) -> list[Answer]:
    """What everybody is answered who shows the same refresh token at the same moment."""
    start = threading.Barrier(len(callers))

    def show(caller: Caller) -> Answer:
        start.wait()
        return caller.ask("POST", REFRESH, "", {"refresh_token": token})

    with ThreadPoolExecutor(len(callers)) as pool:
        return list(pool.map(show, callers))


def overlap(answers: list[Answer]) -> float:
    """The share of requests that were under way while the one that won was."""
    (won,) = [answer for answer in answers if answer.status == 200]
    beside = [a for a in answers if a.asked < won.read and a.read > won.asked]
    return len(beside) / len(answers)


def chains(shop: RunningShop) -> list[tuple[int, int]]:
    """How many good refresh tokens each session that holds has: session, tokens."""
    url = shop.environment["SHOP_DATABASE_URL"] or f"sqlite:///{shop.folder / 'shop.db'}"
    engine: Engine = create_engine(url)
    question = text(
        "SELECT s.id, SUM(t.spent_ms IS NULL) FROM sessions s"
        " JOIN refresh_tokens t ON t.session_id = s.id WHERE s.ended_at IS NULL GROUP BY s.id"
    )
    with engine.connect() as connection:
        found = [(int(row[0]), int(row[1])) for row in connection.execute(question)]
    engine.dispose()
    return found


def security_events(shop: RunningShop, token: str) -> list[str]:
    """The kinds of one's own security events."""
    headers = {"Authorization": f"Bearer {token}"}
    export = requests.get(f"{shop.url}{ME}/export", headers=headers, timeout=30).json()
    return [event["kind"] for event in export["security_events"]]


@pytest.mark.parametrize(
    "rounds", [3, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(600)])]
)
def test_of_twenty_refreshes_at_once_one_wins_and_the_chain_goes_on(
    shop: RunningShop, callers: list[Caller], rounds: int
) -> None:
    """AU-07."""
    email, _ = register(shop)
    tokens: dict[str, Any] = sign_in(shop, email)
    for _ in range(rounds):
        answers = race(callers, tokens["refresh_token"])
        seen = Counter(answer.status for answer in answers)
        assert seen == {200: 1, 409: 19}, seen
        assert overlap(answers) >= 0.9
        tokens = next(answer.body for answer in answers if answer.status == 200)
        assert statuses(callers[:4], ME, tokens["access_token"]) == {200}

    assert all(good == 1 for _, good in chains(shop))
    assert security_events(shop, tokens["access_token"]) == []


def test_after_a_race_the_old_token_is_stolen_goods(
    shop: RunningShop, callers: list[Caller]
) -> None:
    """AU-06, AU-07."""
    email, _ = register(shop)
    first = sign_in(shop, email)["refresh_token"]
    won = next(a.body for a in race(callers, first) if a.status == 200)

    again = {caller.ask("POST", REFRESH, "", {"refresh_token": first}).status for caller in callers}

    assert again == {401}
    assert statuses(callers, ME, won["access_token"]) == {401}
    assert security_events(shop, sign_in(shop, email)["access_token"]) == ["refresh_reuse"]


def raw(shop: RunningShop, *lines: str) -> int:
    """The status that gunicorn answers to header lines as they are."""
    request = "\r\n".join([f"GET {ME} HTTP/1.1", "Host: shop", "Connection: close", *lines, "", ""])
    with socket.create_connection(("127.0.0.1", shop.port), timeout=20) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = connection.makefile("rb").read()
    return int(answer.split(b" ", 2)[1])


def test_two_authorization_lines_are_refused(shop: RunningShop) -> None:
    """AU-21."""
    line = f"Authorization: Bearer {shop.admin_token()}"
    other = "Authorization: Bearer x"

    assert raw(shop, line) == 200
    for lines in ((line, line), (line, other), (other, line), (line, "authorization:")):
        assert raw(shop, *lines) == 400, lines
    assert raw(shop, f"{line}, Bearer x") == 400


def test_header_lines_that_are_no_header_are_refused(shop: RunningShop) -> None:
    """AU-21."""
    token = shop.admin_token()
    odd = (
        f"Authorization : Bearer {token}", f" Authorization: Bearer {token}",
        f"Authorization: Bearer\t{token}", f"Authorization: Bearer {token}\0",
        f"Authorization:\r\n Bearer {token}", f"Authorization: Bearer \xe9{token}",
        f"Authorization: {token}", f"Authorization_: Bearer {token}",
        f"Proxy-Authorization: Bearer {token}", f"X-Authorization: Bearer {token}",
    )  # fmt: skip
    for line in odd:
        assert raw(shop, line) in (400, 401, 431), line[:40]


def test_tokens_in_addresses_open_nothing_and_stand_in_no_log(shop: RunningShop) -> None:
    """AU-19."""
    tokens = sign_in(shop)
    for name in ("access_token", "token", "jwt", "authorization"):
        for token in (tokens["access_token"], tokens["refresh_token"]):
            answer = requests.get(f"{shop.url}{ME}?{name}={token}", timeout=20)
            assert answer.status_code == 401
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert requests.get(f"{shop.url}{ME}", headers=headers, timeout=20).status_code == 200

    log = shop.log.read_text(errors="replace")

    assert "gunicorn" in log
    for token in (tokens["access_token"], tokens["refresh_token"], PASSWORD):
        assert token not in log


def test_a_burst_of_guesses_over_all_workers_meets_one_limit(shop: RunningShop) -> None:
    """AU-15."""
    email, _ = register(shop)
    throttled = RunningShop(
        shop.folder, shop.environment["SHOP_DATABASE_URL"], None, workers=WORKERS,
        sinks="none", scheduler="off", waiting_threads=120,
        limit_sign_in_address="1000 per 15 minutes",
    )  # fmt: skip
    throttled.log = shop.folder / "throttled.log"

    def guess(password: str) -> int:
        body = {"email": email, "password": password}
        address = f"{throttled.url}{API}/auth/login"
        return requests.post(address, json=body, timeout=60).status_code

    with throttled, ThreadPoolExecutor(100) as pool:
        wrong = Counter(pool.map(guess, [f"guess number {number}" for number in range(100)]))
        right = Counter(pool.map(guess, [PASSWORD] * 20))

    assert wrong == {401: 10, 429: 90}
    assert right == {429: 20}
