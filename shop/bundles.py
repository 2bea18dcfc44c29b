"""Bundles: statements of a transaction that need no answers in between, sent to MariaDB at once.

What a short statement costs is mostly its way: two processes are woken for each, and whoever holds
a lock holds it meanwhile. MariaDB reads one command after the other from a connection, so several
can be on their way, and their answers are read together. Elsewhere they are asked one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        self._checks: list[Callable[[], None]] = []

    def add(self, text: str, values: Any) -> Answer:
        """A statement and its values as the driver takes them; it answers once all are sent.

        Among the values, the answer to the statement before stands for the id that it gives.
        """
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

    def then(self, check: Callable[[], None]) -> None:
        """Have this called once all are carried out; it may refuse what it finds."""
        self._checks.append(check)

    def send(self) -> None:
        """Carry them out in their order, then what was to be called.

        Raises:
            DBAPIError: the first error of any of them, as from `Connection.execute`.
        """
        if self.statements and getattr(self.dialect, "is_mariadb", False):
            # The cursor (`packets`) knows what to do with it, and SQLAlchemy with its errors.
            text = ";\n".join(text for text, _ in self.statements)
            self._connection.exec_driver_sql(text, (self,)).close()
        else:
            self._send_one_by_one()
        for check in self._checks:
            check()

    def _send_one_by_one(self) -> None:
        for (text, values), answer in zip(self.statements, self.answers, strict=True):
            result = self._connection.exec_driver_sql(text, _with_ids(values))
            answer.rowcount, answer.lastrowid = result.rowcount, result.lastrowid
            if result.returns_rows:
                answer.rows = result.all()


def _with_ids(values: Any) -> Any:
    """Values for a statement, now that those before it have been carried out."""
    if type(values) is not tuple:
        return values
    return tuple(value.lastrowid if type(value) is Answer else value for value in values)


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
