"""Counting: what events are worth, and how they are written, each once.

Whether an event counts is decided by unique keys, never by looking first: of any number of equal
ones that come at the same moment the database takes one. Those that it did not take are written
again as what they are then, a repetition or a token that was used; those that were there already
under the same id are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert
from sqlalchemy.orm import Session

from shop.ads.days import HOUR, hour_of
from shop.ads.models import PUBLISHED, Kind, LateEvents, State
from shop.ads.rules import EARLIEST, LATEST, Rules
from shop.errors import Fault, Invalid

#: Longer than it takes from asking for the time to committing what happened then.
_SLOWEST = timedelta(minutes=1)
_INSERT = {
    "sqlite": "INSERT OR IGNORE INTO",
    "mysql": "INSERT IGNORE INTO",
    "mariadb": "INSERT IGNORE INTO",
}
_COLUMNS = "ad_events (ad_id, kind, state, occurred_at, event_key, claim, token_key) VALUES "


class WrongTime(Invalid):
    """An event is told too late, or lies ahead."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An ad as far as counting cares."""

    id: int
    status: str
    starts_at: datetime | None
    ends_at: datetime | None

    @property
    def is_published(self) -> bool:
        """Whether it ever was to be seen."""
        return self.status in PUBLISHED

    def is_open(self, moment: datetime) -> bool:
        """Whether it is to be seen then; its status counts as it is now."""
        return (
            self.status == "active"
            and (self.starts_at is None or self.starts_at <= moment)
            and (self.ends_at is None or moment < self.ends_at)
        )


@dataclass(frozen=True, slots=True)
class Sender:
    """Who tells of events: `visitor` where they name none, and why none of them counts, if so."""

    visitor: str
    apart: State | None = None


class Row(NamedTuple):
    """An event as it is written."""

    state: State
    occurred_at: datetime
    event_key: bytes | None
    claim: bytes | None
    token_key: bytes | None


@dataclass(frozen=True, slots=True)
class Judge:
    """Says what events of one request are worth, as far as that does not depend on others."""

    rules: Rules
    ad: Shown
    kind: Kind
    sender: Sender
    moment: datetime

    def rows(self, events: Sequence[dict[str, Any]], place: str = "/events/{}") -> list[Row]:
        """The events as they are to be written. `place` is where the body has the n-th one.

        Raises:
            WrongTime: some are told more than a day late, or lie more than five minutes ahead.
        """
        first, last = self.moment - LATEST, self.moment + EARLIEST
        wrong = tuple(
            Fault(f"{place}/at".format(n), "Too long ago, or ahead.")
            for n, event in enumerate(events)
            if (at := event.get("at")) is not None and not first <= at <= last
        )
        if wrong:
            raise WrongTime(
                f"Events are told within {LATEST // HOUR} hours, by a clock that is right.",
                faults=wrong[:100],
            )
        return [self._row(event) for event in events]

    def _row(self, event: dict[str, Any]) -> Row:
        at, name = event.get("at") or self.moment, event.get("id")
        key = None if name is None else self.rules.event_key(self.kind, self.ad.id, name)
        if self.sender.apart is not None:
            return Row(self.sender.apart, at, key, None, None)
        if not self.ad.is_open(at):
            return Row(State.CLOSED, at, key, None, None)
        if self.kind is Kind.IMPRESSION:
            return Row(State.VALID, at, key, None, None)
        return self._click(event, at, key)

    def _click(self, event: dict[str, Any], at: datetime, key: bytes | None) -> Row:
        shown, token = event.get("token"), None
        if shown is not None:
            token = self.rules.token_key(self.ad.id, shown, at)
        if token is None and (shown is not None or self.rules.tokens_required):
            return Row(State.INVALID, at, key, None, None)
        given = event.get("visitor")
        visitor = f"from {self.sender.visitor}" if given is None else f"named {given}"
        return Row(State.VALID, at, key, self.rules.claim(self.ad.id, visitor, at), token)


def write_events(
    session: Session, ad_id: int, kind: Kind, rows: Sequence[Row], moment: datetime
) -> None:
    """Write events, those that are there already once only; mark hours that may be summed up."""
    connection = session.connection()
    # In one order, so that two batches do not wait for each other.
    ordered = sorted(rows, key=lambda row: (row.claim or b"", row.token_key or b""))
    if _insert(connection, ad_id, kind, ordered) < len(ordered):
        _write_rest(connection, ad_id, kind, ordered)
    touched = {hour_of(at) for at in {row.occurred_at for row in rows}}
    late = {hour for hour in touched if hour + HOUR - _SLOWEST < moment}
    if late:
        connection.execute(insert(LateEvents), [{"hour": hour} for hour in sorted(late)])


def _write_rest(connection: Connection, ad_id: int, kind: Kind, rows: Sequence[Row]) -> None:
    """Of events that were not all new: those that are repetitions, or whose token was used.

    Which they are the database knows. So all are offered again, as repetitions; of several each
    has a key, and those that were taken are not taken again.
    """
    repeated = [
        row._replace(state=State.REPEAT, claim=None) if row.claim is not None else row
        for row in rows
        if row.claim is not None or row.token_key is not None
    ]
    if not repeated or _insert(connection, ad_id, kind, repeated) == len(repeated):
        return
    used = [
        row._replace(state=State.INVALID, token_key=None)
        for row in repeated
        if row.token_key is not None
    ]
    if used:
        _insert(connection, ad_id, kind, used)


def _insert(connection: Connection, ad_id: int, kind: Kind, rows: Sequence[Row]) -> int:
    """Insert those rows whose keys are new; how many they were.

    Numbers, times and digests of our own, which are written as literals: one statement, and
    nothing to escape.
    """
    # Most events of a batch have the same time.
    times = {at: _literal(at) for at in {row.occurred_at for row in rows}}
    values = ",".join(
        f"({ad_id:d},{kind:d},{state:d},'{times[at]}',{_hex(event)},{_hex(claim)},{_hex(token)})"
        for state, at, event, claim, token in rows
    )
    text = f"{_INSERT[connection.dialect.name]} {_COLUMNS}{values}"
    return connection.exec_driver_sql(text).rowcount


def _literal(moment: datetime) -> str:
    # As both engines store it, to the microsecond: SQLite compares times as texts.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _hex(digest: bytes | None) -> str:
    return "NULL" if digest is None else f"x'{digest.hex()}'"
