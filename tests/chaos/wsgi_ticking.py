"""The shop with a job for every second; what gunicorn loads to see each planned time run once.

The job inserts its slot into the table ``ticks``, which has no unique rule: an effect that
happened twice is there twice.  SHOP_TICKING_CLAIM_SECONDS makes looking for due slots slow, as a
busy database would: a signal then nearly always meets a worker that is about to claim one.
SHOP_TICKING_WORK_SECONDS makes the work last, so that a kill meets it before its end.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from shop import create_app
from shop.jobs.slots import Every, slot_name
from shop.scheduler import Job

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


def tick(session: Session, slot: datetime) -> None:
    """Leave one row for this slot, in the transaction that ends the run."""
    insertion = text("INSERT INTO ticks (slot, pid) VALUES (:slot, :pid)")
    session.connection().execute(insertion, {"slot": slot_name(slot), "pid": os.getpid()})
    # After the effect and before the commit: the worst moment to die.
    time.sleep(_WORK_SECONDS)


app = create_app(jobs=[Job("tick", Slowly(Every(1), _CLAIM_SECONDS), tick, every=True)])
