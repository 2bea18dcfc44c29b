"""What a job is: what runs when, and what becomes of slots that cannot run in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy.orm import Session

from shop.jobs.slots import Trigger, due
from shop.retry import Backoff

#: Slots passed over in one go that get a row each; of more than these the newest do.
MOST_PASSED = 1_000
#: So late a slot is still in time.
_PUNCTUAL = timedelta(seconds=60)


class Due(NamedTuple):
    """Slots whose time has come, oldest first: those to run, and those to pass over."""

    to_run: Sequence[datetime]
    passed: Sequence[datetime]

    @property
    def slots(self) -> Sequence[datetime]:
        """All of them."""
        return [*self.passed, *self.to_run]


@dataclass(frozen=True, slots=True)
class Job:
    """A job: what runs when.

    `work(session, slot)` runs inside one transaction together with the record that it is done,
    so that what it changes in the database happens exactly once.
    """

    name: str
    trigger: Trigger
    work: Callable[[Session, datetime], Any]
    #: Slots that are older are passed over.
    grace: timedelta = timedelta(hours=12)
    #: What runs of the slots that nobody ran in time: the last, each (at most `most`), or none.
    catch_up: Literal["latest", "all", "none"] = "latest"
    most: int = 100
    #: A slot that comes while a run of this job is not over: it waits, is skipped, or runs beside.
    overlap: Literal["wait", "skip", "allow"] = "wait"
    #: After so many seconds a run is cut off, and has failed.
    timeout: float = 600.0
    #: How often a slot is tried; failures are so many seconds apart, then ever more.
    attempts: int = 3
    pause: float = 10.0
    longest_pause: float = 600.0
    #: What becomes of a run whose process died: it is run again, or has failed.
    on_crash: Literal["retry", "skip"] = "retry"
    #: Its work opens transactions of its own, and is begun anew when it was cut off between them.
    in_pieces: bool = False

    def due(self, since: datetime, moment: datetime) -> Due:
        """What became due in (since, moment]."""
        slots = due(self.trigger, since, moment, most=self.most + MOST_PASSED)
        oldest = moment - (_PUNCTUAL if self.catch_up == "none" else self.grace)
        wanted = slots[-self.most :] if self.catch_up == "all" else slots[-1:]
        to_run = [slot for slot in wanted if slot >= oldest]
        return Due(to_run, slots[: len(slots) - len(to_run)])

    def delay(self, attempts: int) -> float:
        """How many seconds to wait after so many attempts: it doubles, up to a cap, with jitter."""
        doubled = min(self.pause * 2 ** min(attempts - 1, 30), self.longest_pause)
        return Backoff(doubled, self.longest_pause).delay()
