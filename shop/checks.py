"""What `flask shop verify` asks: do the books agree with each other?

A check is one statement that finds what is wrong and one that counts what was looked at, so that
the database does the work and this process holds a hundred rows at most. A feature names its own
in a module `checks`; the tuple of all is in `shop.app`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import FromClause, Select, func, select
from sqlalchemy.orm import Session

#: A statement whatever its columns.
Question = Select[*tuple[Any, ...]]
#: The first findings are shown: they say what is wrong, and thousands would say no more.
MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Result:
    """How many rows were looked at, the first findings, and whether there are more of them."""

    looked_at: int
    findings: Sequence[dict[str, Any]]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A question by name. `examine` reads, and changes nothing."""

    name: str
    examine: Callable[[Session], Result]


def found(session: Session, looked_at: Select[int], *wrong: Question) -> Result:
    """The result of statements whose rows are what is wrong, and of one that counts."""
    findings: list[dict[str, Any]] = []
    for statement in wrong:
        room = MOST_FINDINGS + 1 - len(findings)
        rows = session.execute(statement.limit(room)).mappings()
        findings += [{name: _plain(value) for name, value in row.items()} for row in rows]
    count = session.execute(looked_at).scalar_one()
    return Result(int(count), findings[:MOST_FINDINGS], len(findings) > MOST_FINDINGS)


def how_many(table: type[Any] | FromClause) -> Select[int]:
    """How many rows a table has."""
    return select(func.count()).select_from(table)


def _plain(value: Any) -> Any:
    # MariaDB answers the sum of whole numbers as a decimal.
    return int(value) if isinstance(value, Decimal) else value


def verify(session: Session, checks: Iterable[Check]) -> dict[str, Any]:
    """Make all checks; `sound` says whether none of them found anything."""
    results = []
    for check in checks:
        result = check.examine(session)
        results.append(
            {
                "name": check.name,
                "looked_at": result.looked_at,
                "findings": list(result.findings),
                "more": result.more,
            }
        )
    return {"sound": not any(result["findings"] for result in results), "checks": results}
