"""The shop with jobs for every second; what gunicorn loads to see each planned time run once.

SHOP_TICKING_JOBS says how many jobs.  Each inserts its slot into the table ``ticks``, which has no
unique rule: an effect that happened twice is there twice.  SHOP_TICKING_CLAIM_SECONDS makes looking
for due slots slow, as a busy database would: a signal then nearly always meets a worker that is
about to claim one.  SHOP_TICKING_WORK_SECONDS makes the work last, so that a kill meets it before
its end.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from shop import create_app
from shop.jobs.plan import Job
from shop.jobs.slots import Every, slot_name

_JOBS = int(os.environ.get("SHOP_TICKING_JOBS", "2"))
_CLAIM_SECONDS = float(os.environ.get("SHOP_TICKING_CLAIM_SECONDS", "0"))
_WORK_SECONDS = float(os.environ.get("SHOP_TICKING_WORK_SECONDS", "0"))


@dataclass(frozen=True, slots=True)
class Slowly:
    """A trigger that takes its time to say what is due."""

    trigger: Every
    seconds: float

    def latest(self, moment: datetime) -> datetime:
        """See ``Trigger``."""
        time.sleep(self.seconds)
        return self.trigger.latest(moment)

    def following(self, moment: datetime) -> datetime:
        """See ``Trigger``."""
        return self.trigger.following(moment)

    @property
    def zone_name(self) -> str:
        """See ``Trigger``."""
        return self.trigger.zone_name


def _leave_a_row(job: str, session: Session, slot: datetime) -> None:
    """Leave one row for this slot, in the transaction that ends the run."""
    insertion = text("INSERT INTO ticks (job, slot) VALUES (:job, :slot)")
    session.connection().execute(insertion, {"job": job, "slot": slot_name(slot)})
    # After the effect and before the commit: the worst moment to die.
    time.sleep(_WORK_SECONDS)


def _every_second(job: str) -> Job:
    work = functools.partial(_leave_a_row, job)
    # The killing is meant to be survived, however often it meets the same slot.
    return Job(job, Slowly(Every(1), _CLAIM_SECONDS), work, catch_up="all", attempts=20)


app = create_app(jobs=[_every_second(f"tick{number}") for number in range(_JOBS)])
