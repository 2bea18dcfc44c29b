"""DL-13: one trace of requests over the whole API, and both engines give the same answers."""

from __future__ import annotations

import difflib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select

from shop.audit.models import AuditEntry
from tests.conftest import create_shop
from tests.servers import MariaDB
from tests.stories.buyers import visits
from tests.stories.sameness import Normal
from tests.stories.trace import Player, playing

#: How many differences are told at most.
_MOST = 8
#: Kinds of answers that any trace has.
KINDS = {200, 201, 202, 204, 304, 400, 401, 404, 409, 422}


@pytest.fixture
def shops(tmp_path: Path, mariadb: MariaDB) -> Iterator[list[Flask]]:
    """A fresh shop on each engine. What depends on how fast requests come, limits, is off."""
    mariadb_url = mariadb.create_database(f"agree{time.monotonic_ns()}")
    apps = [
        create_shop(
            tmp_path / name, database_url=url, rate_limits="off", access_token_seconds=86_400,
            propagate_errors=False,
        )
        for name, url in (("sqlite", ""), ("mariadb", mariadb_url))
    ]  # fmt: skip
    yield apps
    for app in apps:
        app.extensions["shop"].engine.dispose()
        app.extensions["shop"].reader.dispose()


def record(app: Flask, seed: int, requests: int) -> Player:
    with playing(app) as player:
        visits(player, seed, requests)
    return player


def play_again(recorded: Player, app: Flask) -> Player:
    with playing(app) as player:
        for request in recorded.requests:
            player.send(request)
    return player


def differences(one: Player, other: Player) -> list[str]:
    """Where the answers differ, as far as the first few of them."""
    found, here, there = [], Normal(), Normal()
    for step, request in enumerate(one.requests):
        first, second = here.of(one.answers[step]), there.of(other.answers[step])
        if first != second:
            lines = difflib.unified_diff(first.splitlines(), second.splitlines(), lineterm="", n=2)
            found.append(f"{step}: {request}\n" + "\n".join(lines))
    return found


def audited(app: Flask) -> list[tuple[str, str, int]]:
    """What was recorded, in its order: table, action and sequence of the row."""
    entries = select(AuditEntry.table_name, AuditEntry.action, AuditEntry.sequence)
    with app.extensions["shop"].engine.connect() as connection:
        return [tuple(row) for row in connection.execute(entries.order_by(AuditEntry.id))]


def reached(player: Player) -> Counter[str]:
    """How often each operation did what it is for."""
    urls = player.app.url_map.bind("localhost")
    found: Counter[str] = Counter()
    for request, answer in zip(player.requests, player.answers, strict=True):
        well = answer.status < 300 or answer.status == 302
        if request.method not in ("DO", "HEAD", "OPTIONS") and well:
            found[urls.match(answer.path, request.method)[0]] += 1
    return found


def operations(app: Flask) -> set[str]:
    """Every operation of the API."""
    return {rule.endpoint for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/")}


#: What the test provider plays at some amounts.
_AWAY = "The payment provider does not answer."


def check(shops: list[Flask], seed: int, requests: int, kinds: set[int]) -> None:
    sqlite, mariadb = shops

    recorded = record(sqlite, seed, requests)
    again = play_again(recorded, mariadb)

    statuses = Counter(answer.status for answer in recorded.answers)
    found = differences(recorded, again)
    assert not found, f"{len(found)} differences\n\n" + "\n\n".join(found[:_MOST])
    assert audited(sqlite) == audited(mariadb)
    # That much was asked, all over the shop, and refused in many ways.
    assert len(recorded.requests) >= requests
    missed = operations(sqlite) - set(reached(recorded))
    assert not missed, f"visitors.py and buyers.py have to learn {sorted(missed)}"
    assert kinds <= set(statuses)
    broken = [
        f"{request}: {answer.status} {answer.body}"
        for request, answer in zip(recorded.requests, recorded.answers, strict=True)
        if answer.status >= 500 and _AWAY not in str(answer.body)
    ]
    assert not broken, broken


def test_both_engines_give_the_same_answers(shops: list[Flask]) -> None:
    check(shops, 20261126, 400, KINDS)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_both_engines_give_the_same_answers_to_thousands_of_requests(shops: list[Flask]) -> None:
    check(shops, 13, 2000, KINDS | {301, 403, 405, 412, 413, 415, 428})
