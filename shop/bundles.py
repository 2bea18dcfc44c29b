"""Bundles: statements of a transaction that need no answers in between, sent to MariaDB at once.

What a short statement costs is mostly its way: two processes are woken for each, and whoever holds
a lock holds it meanwhile. MariaDB reads one command after the other from a connection, so several
can be on their way, and their answers are read together. Elsewhere they are asked one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ClauseElement, Connection, Dialect


@dataclass(slots=True)
class Answer:
    """What a statement did; `rows` are as the driver has them."""

    rowcount: int = -1
    lastrowid: int = 0
    rows: Sequence[Any] = ()


class Bundle:
    """Statements on a connection that are sent together.

    Only for what runs in a transaction that is rolled back when one of them fails: those behind
    it are carried out all the same.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect = connection.dialect
        self.statements: list[tuple[str, Any]] = []
        self.answers: list[Answer] = []

    def add(self, text: str, values: Any) -> Answer:
        """A statement and its values as the driver takes them; it answers once all are sent."""
        self.statements.append((text, values))
        self.answers.append(Answer())
        return self.answers[-1]

    def ask(self, statement: ClauseElement, values: Mapping[str, Any]) -> Answer:
        """A prepared statement and its parameters; the same statement is compiled once."""
        text, compiled = _prepared(statement, self.dialect)
        params = compiled.construct_params(dict(values))
        for name, process in compiled._bind_processors.items():
            params[name] = process(params[name])
        names = compiled.positiontup
        return self.add(text, params if names is None else tuple(params[name] for name in names))

    def send(self) -> None:
        """Carry them out in their order.

        Raises:
            DBAPIError: the first error of any of them, as from `Connection.execute`.
        """
        connection = self._connection
        if len(self.statements) > 1 and getattr(self.dialect, "is_mariadb", False):
            # The cursor (`packets`) knows what to do with it, and SQLAlchemy with its errors.
            text = ";\n".join(text for text, _ in self.statements)
            connection.exec_driver_sql(text, (self,)).close()
            return
        for (text, values), answer in zip(self.statements, self.answers, strict=True):
            result = connection.exec_driver_sql(text, values)
            answer.rowcount, answer.lastrowid = result.rowcount, result.lastrowid
            if result.returns_rows:
                answer.rows = result.all()


def ask_alone(
    connection: Connection, statement: ClauseElement, values: Mapping[str, Any]
) -> Answer:
    """One prepared statement, asked as those of a bundle are."""
    bundle = Bundle(connection)
    answer = bundle.ask(statement, values)
    bundle.send()
    return answer


@lru_cache
def _prepared(statement: ClauseElement, dialect: Dialect) -> tuple[str, Any]:
    compiled = statement.compile(dialect=dialect)
    return str(compiled), compiled
