"""Statements that are sent together do what they do one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymysql.connections import Connection as Driver
from sqlalchemy import Engine, bindparam, exc, text, update

from shop.bundles import Bundle
from shop.db import is_conflict, writing
from shop.products.models import StockLevel

_RAISE = update(StockLevel).where(StockLevel.variant_id == bindparam("variant")).values(
    on_hand=StockLevel.on_hand + 1
)  # fmt: skip


@pytest.fixture
def notes(engine: Engine) -> Iterator[Engine]:
    """A table of unique words."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, word VARCHAR(40))"))
        connection.execute(text("CREATE UNIQUE INDEX uq_notes_word ON notes (word)"))
    yield engine
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE notes"))


def add(bundle: Bundle, number: int, word: str) -> Any:
    mark = "?" if bundle.dialect.name == "sqlite" else "%s"
    return bundle.add(f"INSERT INTO notes VALUES ({mark}, {mark})", (number, word))


def words(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT word FROM notes ORDER BY id")).scalars())


def test_each_statement_has_its_own_answer(notes: Engine) -> None:
    with writing(notes) as connection:
        bundle = Bundle(connection)
        first, second = add(bundle, 1, "100 %"), add(bundle, 2, "it's; DROP TABLE notes")
        both = bundle.add("UPDATE notes SET word = word", ())
        found = bundle.add("SELECT id, word FROM notes ORDER BY id", ())
        bundle.send()
        # The connection goes on as usual.
        assert connection.execute(text("SELECT COUNT(*) FROM notes")).scalar_one() == 2

    assert (first.rowcount, second.rowcount, both.rowcount) == (1, 1, 2)
    assert [tuple(row) for row in found.rows] == [(1, "100 %"), (2, "it's; DROP TABLE notes")]
    assert words(notes) == ["100 %", "it's; DROP TABLE notes"]


def test_the_first_error_counts_and_nothing_stays(notes: Engine) -> None:
    def attempt() -> None:
        with writing(notes) as connection:
            bundle = Bundle(connection)
            for number, word in ((1, "a"), (2, "b"), (3, "b"), (3, "c"), (3, "d")):
                add(bundle, number, word)
            bundle.send()

    with pytest.raises(exc.IntegrityError, match="word"):
        attempt()

    assert words(notes) == []
    with notes.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.fixture
def numbered(engine: Engine) -> Iterator[Engine]:
    """Two tables whose rows the database numbers, and one that refers to the first of them."""
    key = "INTEGER PRIMARY KEY AUTO_INCREMENT"
    if engine.dialect.name == "sqlite":
        key = "INTEGER PRIMARY KEY AUTOINCREMENT"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE heads (id {key}, word VARCHAR(9))"))
        connection.execute(text(f"CREATE TABLE limbs (id {key}, head INTEGER, word VARCHAR(9))"))
        connection.execute(text("INSERT INTO heads VALUES (41, 'a')"))
        connection.execute(text("INSERT INTO limbs VALUES (7, 41, 'a')"))
    yield engine
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE heads"))
        connection.execute(text("DROP TABLE limbs"))


def test_an_answer_stands_for_the_id_that_it_will_give(numbered: Engine) -> None:
    mark = "?" if numbered.dialect.name == "sqlite" else "%s"
    with writing(numbered) as connection:
        bundle = Bundle(connection)
        bundle.add(f"INSERT INTO limbs (head, word) VALUES (1, {mark})", ("z",))
        head = bundle.add(f"INSERT INTO heads (word) VALUES ({mark})", ("b",))
        pair = f"({mark}, {mark})"
        bundle.add(
            f"INSERT INTO limbs (head, word) VALUES {pair}, {pair}, {pair}",
            (head, "b", head, "c", head, "d"),
        )
        bundle.send()
        found = connection.execute(text("SELECT head, word FROM limbs WHERE head > 1 ORDER BY id"))

        assert head.lastrowid == 42
        assert [tuple(row) for row in found] == [(41, "a"), (42, "b"), (42, "c"), (42, "d")]


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
def test_only_the_statement_before_can_be_told_of(numbered: Engine) -> None:
    with writing(numbered) as connection:
        bundle = Bundle(connection)
        head = bundle.add("INSERT INTO heads (word) VALUES (%s)", ("b",))
        bundle.add("INSERT INTO limbs (head, word) VALUES (%s, %s)", (head, "b"))
        bundle.add("INSERT INTO limbs (head, word) VALUES (%s, %s)", (head, "c"))
        with pytest.raises(ValueError, match="before"):
            bundle.send()


def test_what_is_to_be_checked_is_checked_when_all_is_done(notes: Engine) -> None:
    seen: list[int] = []
    with writing(notes) as connection:
        bundle = Bundle(connection)
        first = add(bundle, 1, "a")
        bundle.then(lambda: seen.append(first.rowcount))
        add(bundle, 2, "b")
        assert seen == []
        bundle.send()
    assert seen == [1]


def test_an_empty_bundle_does_nothing(notes: Engine) -> None:
    with writing(notes) as connection:
        Bundle(connection).send()
    assert words(notes) == []


def test_large_statements_go_one_by_one(notes: Engine) -> None:
    with writing(notes) as connection:
        bundle = Bundle(connection)
        for number in (1, 2):
            add(bundle, number, f"w{number}")
        lengths = bundle.add(f"SELECT id, LENGTH('{'x' * 300_000}') FROM notes ORDER BY id", ())
        bundle.send()
    assert [tuple(row) for row in lengths.rows] == [(1, 300_000), (2, 300_000)]


def test_a_prepared_statement_is_asked_with_its_values(engine: Engine) -> None:
    with writing(engine) as connection:
        bundle = Bundle(connection)
        answers = [bundle.ask(_RAISE, {"variant": number}) for number in (10**9, 10**9 + 1)]
        bundle.send()
    assert [answer.rowcount for answer in answers] == [0, 0]


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
@pytest.mark.parametrize(("is_mariadb", "times"), [(True, 1), (False, 5)])
def test_mariadb_is_sent_all_at_once_and_mysql_one_by_one(
    notes: Engine, monkeypatch: pytest.MonkeyPatch, *, is_mariadb: bool, times: int
) -> None:
    sent: list[bytes] = []
    write = getattr(Driver, "_write_bytes")  # noqa: B009 (the driver's own)

    def note(driver: Any, data: bytes) -> None:
        sent.append(data)
        write(driver, data)

    with writing(notes) as connection:
        monkeypatch.setattr(connection.dialect, "is_mariadb", is_mariadb)
        monkeypatch.setattr(Driver, "_write_bytes", note)
        bundle = Bundle(connection)
        for number in range(5):
            add(bundle, number, f"w{number}")
        bundle.send()
        assert len(sent) == times
    assert len(words(notes)) == 5


@pytest.mark.parametrize("engine_name", ["mariadb"], indirect=True)
def test_a_connection_that_is_killed_in_a_bundle_is_not_used_again(notes: Engine) -> None:
    def attempt() -> None:
        with writing(notes) as connection:
            number = connection.execute(text("SELECT CONNECTION_ID()")).scalar_one()
            bundle = Bundle(connection)
            add(bundle, 1, "a")
            bundle.add(f"KILL {number}", ())
            add(bundle, 2, "b")
            bundle.send()

    with pytest.raises(exc.DBAPIError) as caught:
        attempt()
    assert caught.value.connection_invalidated or not is_conflict(caught.value)
    assert words(notes) == []
