"""INSERTs made once, for good, that the driver gets as they are: for the hot paths.

SQLAlchemy looks at a statement and at its values each time. Here that is done once for a table and
some columns; then rows are only bound as the columns' types say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, insert

from shop.bundles import Answer, Bundle

#: Values by the names of their columns.
Row = dict[str, Any]

_NAMED = re.compile(r"%\(\w+\)s")


class _Insert(NamedTuple):
    """An INSERT as the driver takes it, in parts: `group` is what stands there for each row."""

    beginning: str
    group: str
    end: str
    columns: list[tuple[str, Callable[[Any], Any] | None]]

    def text(self, rows: int) -> str:
        """The statement for so many rows."""
        return self.beginning + ", ".join([self.group] * rows) + self.end

    def values(self, *rows: Row) -> tuple[Any, ...]:
        """The values of rows, as the driver takes them."""
        return tuple(
            process(row[name]) if process else row[name]
            for row in rows
            for name, process in self.columns
        )

    def of(self, rows: Sequence[Row]) -> tuple[str, tuple[Any, ...]]:
        """The statement for these rows, and its values."""
        return self.text(len(rows)), self.values(*rows)


@lru_cache
def _inserting(
    table: Any, dialect: Dialect, names: frozenset[str], returned: str | None = None
) -> _Insert:
    """An INSERT of these columns; it answers the key and the column `returned`, if there is one."""
    columns = [column for column in table.columns if column.key in names]
    one = insert(table)
    if returned is not None:
        one = one.returning(*table.primary_key.columns, table.columns[returned])
    text = str(one.compile(dialect=dialect, column_keys=[column.key for column in columns]))
    beginning, rest = text.split("VALUES ", 1)
    group, returning, answered = rest.partition(" RETURNING ")
    types = {column.key: column.type.dialect_impl(dialect) for column in columns}
    bound = [(name, it.bind_processor(dialect)) for name, it in types.items()]
    # Names would mean the same value in each row.
    group = _NAMED.sub("%s", group)
    return _Insert(f"{beginning}VALUES ", group, returning + answered, bound)


def add_insert(
    bundle: Bundle, table: Any, rows: Sequence[Row], returned: str | None = None
) -> Answer:
    """Add one INSERT of some rows of the same columns to a bundle.

    It answers the key and the column `returned` of each, where the database can do that.
    """
    return bundle.add(*_inserting(table, bundle.dialect, frozenset(rows[0]), returned).of(rows))


def insert_rows(connection: Connection, table: Any, rows: list[Row]) -> int:
    """Insert rows of the same columns; answers the id that the database gave to the last one."""
    inserting = _inserting(table, connection.dialect, frozenset(rows[0]))
    if len(rows) == 1:
        return connection.exec_driver_sql(*inserting.of(rows)).lastrowid
    # The driver makes long statements of them, but not too long ones.
    bound: list[Any] = [inserting.values(row) for row in rows]
    return connection.exec_driver_sql(inserting.text(1), bound).lastrowid
