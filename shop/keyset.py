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
        return self._behind(self.columns, key)

    def _behind(self, columns: tuple[Any, ...], key: Sequence[Any]) -> ColumnElement[bool]:
        # Not a row comparison: MariaDB would not use its index for it.
        column, value = columns[0], key[0]
        strictly: ColumnElement[bool] = column < value if self.falling else column > value
        if len(columns) == 1:
            return strictly
        bound = column <= value if self.falling else column >= value
        return and_(bound, or_(strictly, self._behind(columns[1:], key[1:])))
