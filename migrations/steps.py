"""Steps of revisions that may be run again after a kill, and the column types of this schema.

MariaDB and MySQL commit each DDL statement by itself: a killed upgrade leaves its first steps
behind and no record of them. Each step here therefore does only what is not done yet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec

import sqlalchemy as sa
from alembic import op
from alembic.operations.base import BatchOperations
from sqlalchemy.dialects import mysql

from shop.crashes import crash_point

P = ParamSpec("P")

big_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
instant = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
long_text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")

_OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def step(work: Callable[P, None]) -> Callable[P, None]:
    """A step that may be the last one before a kill."""

    @functools.wraps(work)
    def done(*args: P.args, **kwargs: P.kwargs) -> None:
        work(*args, **kwargs)
        crash_point("in-migration")

    return done


@step
def create_table(name: str, *parts: Any) -> None:
    """Create a table, constraints and all, unless it is there."""
    op.create_table(name, *parts, if_not_exists=True, **_OPTIONS)


@step
def create_index(name: str, table: str, columns: list[str], *, unique: bool = False) -> None:
    """Create an index unless it is there (MySQL has no IF NOT EXISTS for that)."""
    there = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
    if name not in there:
        op.create_index(name, table, columns, unique=unique)


@step
def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column unless it is there."""
    if column.name not in _columns(table):
        op.add_column(table, column)


@step
def add_reference(table: str, name: str, target: str) -> None:
    """Add a nullable column that refers to the ids of `target`, unless it is there."""
    key = f"fk_{table}_{name}"
    if op.get_bind().dialect.name == "sqlite":
        # SQLite adds a constraint only together with its column.
        if name not in _columns(table):
            op.execute(
                f"ALTER TABLE {table} ADD COLUMN {name} INTEGER"
                f" CONSTRAINT {key} REFERENCES {target} (id)"
            )
        return
    add_column(table, sa.Column(name, big_id, nullable=True))
    if key not in _foreign_keys(table):
        op.create_foreign_key(key, table, target, [name], ["id"])


@step
def drop_reference(table: str, name: str, index: str) -> None:
    """Drop a column that refers to another table, and the index that begins with it."""
    key = f"fk_{table}_{name}"
    if op.get_bind().dialect.name != "sqlite" and key in _foreign_keys(table):
        op.drop_constraint(key, table, type_="foreignkey")
    drop_index(index, table)
    drop_column(table, name)


def _foreign_keys(table: str) -> set[str | None]:
    return {key["name"] for key in sa.inspect(op.get_bind()).get_foreign_keys(table)}


@step
def drop_column(table: str, name: str) -> None:
    """Drop a column if it is there."""
    if name in _columns(table):
        op.drop_column(table, name)


@step
def drop_index(name: str, table: str) -> None:
    """Drop an index if it is there."""
    if name in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.drop_index(name, table)


def _columns(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}


def make_nullable(table: str, name: str, type_: Any) -> None:
    """Let a column have no value."""
    _alter(table, name, type_, nullable=True)


def make_required(table: str, name: str, type_: Any) -> None:
    """Let a column have a value always; it must have one in each row."""
    _alter(table, name, type_, nullable=False)


@step
def _alter(table: str, name: str, type_: Any, *, nullable: bool) -> None:
    with _altered(table) as altered:
        altered.alter_column(name, existing_type=type_, nullable=nullable)


@step
def change_check(table: str, name: str, condition: str) -> None:
    """Give a check another condition."""
    known = {check["name"] for check in sa.inspect(op.get_bind()).get_check_constraints(table)}
    with _altered(table) as altered:
        # The naming rules put the table's name before that of older revisions once more.
        for old in {name, f"ck_{table}_{name}"} & known:
            altered.drop_constraint(op.f(old), type_="check")
        altered.create_check_constraint(op.f(name), sa.text(condition))


def _altered(table: str) -> AbstractContextManager[BatchOperations]:
    """SQLite alters few things of a table: the rest is done to a copy, which takes its place."""
    return op.batch_alter_table(table, table_kwargs={"sqlite_autoincrement": True})


@step
def drop_table(name: str) -> None:
    """Drop a table if it is there."""
    op.drop_table(name, if_exists=True)


@step
def insert_once(table: str, key: str, row: dict[str, Any]) -> None:
    """Insert a row unless one with the same key is there."""
    target = sa.table(table, *(sa.column(name) for name in row))
    connection = op.get_bind()
    same = sa.select(sa.literal(1)).select_from(target).where(target.c[key] == row[key])
    if connection.execute(same).first() is None:
        connection.execute(target.insert().values(row))


def create_fulltext_index(table: str, column: str, *, key: str, search: str) -> None:
    """Index the words of a text column, unless that is done.

    On MariaDB and MySQL a FULLTEXT index; on SQLite the FTS5 table `search`, whose rows are those
    of `table` by `key`, kept by triggers. Models do not know of either: see `is_ours`.
    """
    if op.get_bind().dialect.name != "sqlite":
        name = f"ft_{table}_{column}"
        if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
            op.execute(f"CREATE FULLTEXT INDEX {name} ON {table} ({column})")
        return
    op.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {search} USING fts5({column}, content='{table}',"
        f" content_rowid='{key}', tokenize='ascii', detail=none)"
    )
    add = f"INSERT INTO {search} (rowid, {column}) VALUES (NEW.{key}, NEW.{column});"
    remove = (
        f"INSERT INTO {search} ({search}, rowid, {column})"
        f" VALUES ('delete', OLD.{key}, OLD.{column});"
    )
    for name, when, steps in (
        ("added", "INSERT", add),
        ("removed", "DELETE", remove),
        ("changed", f"UPDATE OF {column}", f"{remove} {add}"),
    ):
        op.execute(
            f"CREATE TRIGGER IF NOT EXISTS {search}_{name} AFTER {when} ON {table}"
            f" BEGIN {steps} END"
        )


def drop_fulltext_index(search: str) -> None:
    """Drop what `create_fulltext_index` made beside the table; the rest goes with the table."""
    if op.get_bind().dialect.name == "sqlite":
        for name in ("added", "removed", "changed"):
            op.execute(f"DROP TRIGGER IF EXISTS {search}_{name}")
        op.execute(f"DROP TABLE IF EXISTS {search}")


def is_ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    """Whether Alembic should compare something of the database with the models."""
    if kind == "table":
        return name != "alembic_version" and not (name or "").startswith("product_search")
    return not (kind == "index" and (name or "").startswith("ft_"))
