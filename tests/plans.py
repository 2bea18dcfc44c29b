"""What a database looks at to answer a question."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, Select, text


def rows_read(engine: Engine, question: Select[Any]) -> int:
    """How many rows and index entries MariaDB looks at to answer."""
    with engine.connect() as connection:
        connection.execute(text("FLUSH STATUS"))
        connection.execute(question).all()
        status = connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'"))
        return sum(int(value) for _, value in status)
