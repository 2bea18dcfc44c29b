"""Keyset pagination in SQL: an order of rows, and what comes behind one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, or_


@dataclass(frozen=True, slots=True)
class Order:
    """Columns that all rise or all fall, the last one unique; `kinds` are the types of a key."""

    columns: tuple[Any, ...]
    kinds: tuple[type, ...]
    falling: bool = True

    def by(self) -> list[Any]:
        """For ORDER BY."""
        return [column.desc() if self.falling else column.asc() for column in self.columns]

    def behind(self, key: Sequence[Any]) -> ColumnElement[bool]:
        """Whether a row comes behind the one with this key."""
        # Not a row comparison: MariaDB would not use its index for it. The bound of the first
        # column follows from the rest and is what an index is entered by.
        first = self.columns[0]
        bound = first <= key[0] if self.falling else first >= key[0]
        return and_(bound, or_(*self.parts_behind(key)))

    def parts_behind(self, key: Sequence[Any]) -> list[ColumnElement[bool]]:
        """What comes behind a key in parts that an index holds in one piece each, ties first."""
        return [self._tied(key, n) for n in reversed(range(len(self.columns)))]

    def _tied(self, key: Sequence[Any], ties: int) -> ColumnElement[bool]:
        """Behind the key by one column, and the same in the `ties` columns before it."""
        column, value = self.columns[ties], key[ties]
        same = [self.columns[n] == key[n] for n in range(ties)]
        return and_(*same, column < value if self.falling else column > value)
