"""What a MariaDB did, transaction by transaction, as its binary log tells it."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import (
    GtidEvent,
    MariadbGtidEvent,
    NotImplementedEvent,
    QueryEvent,
    XidEvent,
)
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from tests.servers import HOST, MariaDB

#: What a server must be started with, so that each change of a row can be read, with its names.
ARGUMENTS = ("--log-bin=binlog", "--server-id=1")
OPTIONS = {
    "binlog_format": "ROW", "binlog_row_image": "FULL", "binlog_row_metadata": "FULL",
    # The reader would not see compressed events, and not say so.
    "log_bin_compress": "OFF",
}  # fmt: skip
_ACTIONS = {WriteRowsEvent: "insert", UpdateRowsEvent: "update", DeleteRowsEvent: "delete"}
#: Where `RESET MASTER` begins; a reader that begins inside a transaction would miss its first rows.
_FIRST_FILE, _FIRST_EVENT = "binlog.000001", 4
_server_ids = itertools.count(1000)


class Change(NamedTuple):
    """One change of a row: `version` is what the row has after it, or would have had."""

    table: str
    row_id: int
    action: str
    version: int


@dataclass
class Transaction:
    """What one transaction changed, and what it wrote into the audit log."""

    gtid: str
    changed: Counter[Change] = field(default_factory=Counter)
    recorded: Counter[Change] = field(default_factory=Counter)

    @property
    def unmatched(self) -> tuple[Counter[Change], Counter[Change]]:
        """Changes without an entry, and entries without a change."""
        return self.changed - self.recorded, self.recorded - self.changed


def transactions(server: MariaDB, database: str, keys: dict[str, str]) -> Iterator[Transaction]:
    """Every transaction of a database that changed a table in `keys` or wrote an entry.

    `keys` names the primary key of each audited table.

    Raises:
        AssertionError: the log has something that cannot be read, such as compressed events.
    """
    current = Transaction("before the first")
    for event in _events(server):
        if isinstance(event, MariadbGtidEvent):
            current = Transaction(event.gtid)
        elif isinstance(event, XidEvent) and (current.changed or current.recorded):
            yield current
            current = Transaction("between two")
        elif isinstance(event, QueryEvent):
            statement = _text(event.query).split(None, 1)[0].upper()
            assert statement != "TRUNCATE", f"no rows are told of: {_text(event.query)}"
        elif type(event) in _ACTIONS and event.schema == database:
            _count(current, event, keys)


def _events(server: MariaDB) -> list[Any]:
    wanted = [*_ACTIONS, MariadbGtidEvent, GtidEvent, XidEvent, QueryEvent, NotImplementedEvent]
    stream = BinLogStreamReader(
        connection_settings={"host": HOST, "port": server.port, "user": "root"},
        server_id=next(_server_ids), blocking=False, only_events=wanted,
        filter_non_implemented_events=False, log_file=_FIRST_FILE, log_pos=_FIRST_EVENT,
    )  # fmt: skip
    with warnings.catch_warnings(), contextlib.closing(stream):
        # The reader speaks to PyMySQL by former names of its arguments.
        warnings.simplefilter("ignore", DeprecationWarning)
        events = list(stream)
    # Newer kinds of events could be changes that are told in another way.
    unknown = {it.event_type for it in events if type(it) is NotImplementedEvent}
    assert not unknown, f"events of the types {unknown}"
    return events


def _count(transaction: Transaction, event: Any, keys: dict[str, str]) -> None:
    action = _ACTIONS[type(event)]
    for row in event.rows:
        values = row["after_values"] if action == "update" else row["values"]
        if event.table == "audit_log" and action == "insert":
            transaction.recorded[_recorded(values)] += 1
        elif event.table in keys:
            version = values["version"] + (action == "delete")
            change = Change(event.table, values[keys[event.table]], action, version)
            transaction.changed[change] += 1


def _recorded(values: dict[str, Any]) -> Change:
    return Change(
        _text(values["table_name"]), values["row_id"], _text(values["action"]), values["sequence"]
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def told(found: Sequence[Transaction]) -> str:
    """What does not match, in lines."""
    return "\n".join(
        f"{it.gtid}: without an entry {dict(it.unmatched[0])}, without a change"
        f" {dict(it.unmatched[1])}"
        for it in found
    )
