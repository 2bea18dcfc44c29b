"""How bundles go over PyMySQL's connection. Imported only where PyMySQL is the driver."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND
from pymysql.converters import conversions
from pymysql.cursors import Cursor

from shop.bundles import Answer, Bundle

#: Longer ones go by themselves: neither side may have to wait for the other to read.
_MOST_BYTES = 200_000
#: For the driver: what it makes of values. What a statement's answer stands for only the server
#: knows while they are on their way.
CONVERSIONS = conversions | {Answer: lambda _answer, _mapping: "LAST_INSERT_ID()"}


class BundlingCursor(Cursor):
    """PyMySQL's cursor, which also takes a bundle for the values of a statement."""

    def execute(self, query: str, args: Any = None) -> int:
        """A statement, or a bundle."""
        if not (isinstance(args, tuple) and args and isinstance(args[0], Bundle)):
            return super().execute(query, args)
        (bundle,) = args
        driver: Any = self
        _check_ids(bundle)
        texts = [self.mogrify(text, values) for text, values in bundle.statements]
        if sum(map(len, texts)) < _MOST_BYTES:
            self._ask_all(texts, bundle.answers)
        else:
            for text, answer in zip(texts, bundle.answers, strict=True):
                super().execute(text)
                _keep(answer, driver.connection._result)
        driver._do_get_result()
        # Rows are with the answers; SQLAlchemy would make something of the last one's.
        driver.description = None
        return int(self.rowcount)

    def _ask_all(self, texts: Sequence[str], answers: Sequence[Answer]) -> None:
        connection: Any = self.connection
        if connection._sock is None:
            raise err.InterfaceError(0, "")
        connection._result = None
        connection._write_bytes(b"".join(map(_packet, texts)))
        failure: Exception | None = None
        for answer in answers:
            connection._next_seq_id = 1
            try:
                connection._read_query_result()
                _keep(answer, connection._result)
            except err.MySQLError as error:
                if connection._sock is None:
                    raise
                failure = failure or error
        if failure is not None:
            raise failure


def _check_ids(bundle: Bundle) -> None:
    previous = None
    for (_, values), answer in zip(bundle.statements, bundle.answers, strict=True):
        if any(type(value) is Answer and value is not previous for value in values):
            raise ValueError("only the id that the statement before gives is known")
        previous = answer


def _packet(text: str) -> bytes:
    query = text.encode()
    return struct.pack("<iB", len(query) + 1, COMMAND.COM_QUERY) + query


def _keep(answer: Answer, result: Any) -> None:
    answer.rowcount, answer.lastrowid = result.affected_rows, result.insert_id
    answer.rows = result.rows or ()
