"""Rows are read as PyMySQL reads them, only faster."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql import err

from shop.rows import QuickResult, read_quickly
from tests.servers import HOST, MariaDB

QUESTIONS = [
    "SELECT 1",
    "SELECT NULL, '', 'x', 'åäö 😀', -1, 18446744073709551615, 1.5, 1e300, 0.1e0",
    "SELECT CAST(1.50 AS DECIMAL(10,2)), CAST('7' AS UNSIGNED), b'101', x'00ff', TRUE",
    "SELECT NOW(6), CURDATE(), CURTIME(6), CAST('0000-00-00' AS DATETIME), YEAR('2026-01-01')",
    "SELECT REPEAT('a', 250), REPEAT('b', 251), REPEAT('å', 40000), REPEAT('c', 70000)",
    "SELECT REPEAT('d', 16777210), 1",
    "SELECT REPEAT('e', 16777215), REPEAT('f', 16777216)",
    "SELECT seq, REPEAT('x', seq), IF(seq % 2, NULL, seq) FROM seq_1_to_1000",
    "SELECT seq FROM seq_1_to_3 WHERE seq > 3",
    "SELECT JSON_OBJECT('a', 1), CAST('b' AS BINARY), COMPRESS('c')",
    "SELECT CAST('12 apples' AS SIGNED)",
    "SHOW VARIABLES LIKE 'version%'",
    "EXPLAIN SELECT seq FROM seq_1_to_3",
    "DO 1",
]


@pytest.fixture(scope="module")
def port(mariadb: MariaDB) -> Iterator[int]:
    mariadb.create_database("rows")
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@global.max_allowed_packet")
        ((before,),) = cursor.fetchall()
        # For packets as long as they come.
        cursor.execute("SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")
        yield mariadb.port
        cursor.execute("SET GLOBAL max_allowed_packet = %s", (before,))
    mariadb.drop_database("rows")


def connect(port: int, *, quick: bool, **options: Any) -> Any:
    connection = pymysql.connect(
        host=HOST, port=port, user="root", database="rows", charset="utf8mb4", **options
    )
    if quick:
        read_quickly(connection)
    return connection


@pytest.mark.parametrize("question", QUESTIONS)
def test_rows_are_what_pymysql_makes_of_them(port: int, question: str) -> None:
    found = []
    for quick in (False, True):
        with connect(port, quick=quick) as connection, connection.cursor() as cursor:
            # The clock stands still.
            cursor.execute("SET timestamp = 1700000000.123456")
            # The second time it is known what the columns are.
            for _ in range(2):
                count = cursor.execute(question)
                told = (count, cursor.rowcount, cursor.description, cursor.warning_count)
                found.append((told, cursor.fetchall()))
            cursor.execute("SELECT 'the next one'")
            assert cursor.fetchall() == (("the next one",),)
            assert isinstance(connection._result, QuickResult) == quick

    assert found[0] == found[1] == found[2] == found[3]


def test_an_error_is_one_and_the_connection_goes_on(port: int) -> None:
    with connect(port, quick=True) as connection, connection.cursor() as cursor:
        with pytest.raises(err.OperationalError, match="nothing"):
            cursor.execute("SELECT nothing")
        # While rows are on their way already.
        with pytest.raises(err.OperationalError, match="interrupted"):
            cursor.execute("SET STATEMENT max_statement_time = 0.2 FOR SELECT seq, SLEEP(seq > 900)"
                           " FROM seq_1_to_1000")  # fmt: skip
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == ((1,),)


def test_several_answers_come_one_by_one(port: int) -> None:
    options = {"client_flag": pymysql.constants.CLIENT.MULTI_STATEMENTS}
    with connect(port, quick=True, **options) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2, 'b'")
        assert cursor.fetchall() == ((1,),)
        assert cursor.nextset()
        assert cursor.fetchall() == ((2, "b"),)
        assert not cursor.nextset()


def test_rows_can_be_read_one_at_a_time_as_before(port: int) -> None:
    with (
        connect(port, quick=True) as connection,
        connection.cursor(pymysql.cursors.SSCursor) as cursor,
    ):
        cursor.execute("SELECT seq FROM seq_1_to_3")
        assert list(cursor) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("at", [1, 3, 40, 90, 140, 300])
def test_what_is_cut_off_is_an_error_and_the_connection_is_closed(port: int, at: int) -> None:
    """After so many bytes of the answer the server is gone."""
    with cut_off(port) as (near, cut), connect(near, quick=True) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT seq, 'a' FROM seq_1_to_100")
        assert len(cursor.fetchall()) == 100
        cut(at)
        with pytest.raises(err.OperationalError) as caught:
            cursor.execute("SELECT seq, 'a' FROM seq_1_to_100")
        assert caught.value.args[0] == 2013
        assert not connection.open


def test_a_server_that_falls_silent_in_the_middle_is_waited_for_only_so_long(port: int) -> None:
    with (
        cut_off(port, silently=True) as (near, cut),
        connect(near, quick=True, read_timeout=1) as connection,
    ):
        cut(200)
        with pytest.raises(err.OperationalError, match="timed out"):
            connection.cursor().execute("SELECT seq, 'a' FROM seq_1_to_100")
        assert not connection.open


class cut_off:  # noqa: N801 (used like a function)
    """A way to the server that can be told to end after so many bytes."""

    def __init__(self, port: int, *, silently: bool = False) -> None:
        self._port, self._silently = port, silently
        self._left: int | None = None
        self._listener = socket.create_server((HOST, 0))
        self._sockets: list[socket.socket] = [self._listener]

    def __enter__(self) -> tuple[int, Any]:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self._listener.getsockname()[1], self._cut

    def __exit__(self, *_why: object) -> None:
        for one in self._sockets:
            _end(one)
        self._thread.join()

    def _cut(self, after: int) -> None:
        self._left = after

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection((HOST, self._port))
        self._sockets += [near, far]
        there = threading.Thread(target=self._send, args=(near, far))
        there.start()
        while data := _received(far):
            if self._left is not None:
                data, self._left = data[: self._left], max(self._left - len(data), 0)
            if data:
                near.sendall(data)
            if self._left == 0 and not self._silently:
                break
        _end(near)
        _end(far)
        there.join()

    def _send(self, near: socket.socket, far: socket.socket) -> None:
        while data := _received(near):
            far.sendall(data)
        _end(far)


def _end(one: socket.socket) -> None:
    """Close it also for whoever waits for it just now."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def _received(one: socket.socket) -> bytes:
    try:
        return one.recv(65536)
    except OSError:
        return b""
