"""Runs of jobs: one row for each planned time, and the row is the claim."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shop.db import TABLE_OPTIONS, Base, Id, Instant, LongText, UTCDateTime

WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "skipped"
STATUSES = (WAITING, RUNNING, DONE, FAILED, SKIPPED)

#: Why a run waits: for another attempt, for the run before it, or for whoever picks up orders.
RETRY, OVERLAP, ORDERED = "retry", "overlap", "ordered"
#: Why it was skipped: `overlap`, or its time was long over, or the job is disabled.
TOO_OLD, DISABLED = "too-old", "disabled"
#: Why it has failed, besides an error: it took too long, its process died, a later slot came.
TIMED_OUT, CUT_OFF, OVERTAKEN = "timed-out", "cut-off", "overtaken"
REASONS = (RETRY, OVERLAP, ORDERED, TOO_OLD, DISABLED, TIMED_OUT, CUT_OFF, OVERTAKEN)


class JobRun(Base):
    """A slot of a job that some process has claimed. (job, slot) is unique: nobody else can.

    `slot` is the planned instant as `YYYY-MM-DDTHH:MM:SSZ`, or when the run was ordered by hand.
    (`owner`, `attempts`) is the fence: a run that was taken over can no longer finish.
    """

    __tablename__ = "job_runs"
    __table_args__ = (
        UniqueConstraint("job", "slot"),
        CheckConstraint(
            "status IN ('waiting', 'running', 'done', 'failed', 'skipped')", name="status"
        ),
        Index(None, "status", "heartbeat_ms"),
        TABLE_OPTIONS,
    )

    id: Mapped[Id]
    job: Mapped[str] = mapped_column(String(64))
    slot: Mapped[str] = mapped_column(String(20))
    status: Mapped[str] = mapped_column(String(10))
    attempts: Mapped[int] = mapped_column(Integer)
    owner: Mapped[str] = mapped_column(String(128))
    heartbeat_ms: Mapped[int] = mapped_column(BigInteger)
    #: Of the last attempt; None when there was none.
    started_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    error: Mapped[str | None] = mapped_column(LongText)
    reason: Mapped[str | None] = mapped_column(String(20))
    #: A run that waits is due then, on the database's clock.
    due_ms: Mapped[int | None] = mapped_column(BigInteger)
    #: Who asked for it; None when it was planned.
    ordered_by: Mapped[str | None] = mapped_column(String(100))


class JobState(Base):
    """What was decided about a job. Its row is locked by whoever claims a slot of the job."""

    __tablename__ = "job_states"
    __table_args__ = TABLE_OPTIONS

    job: Mapped[str] = mapped_column(String(64), primary_key=True)
    enabled: Mapped[bool]
    #: A job without a run has no earlier slots to catch up.
    known_since: Mapped[Instant]
    changed_by: Mapped[str | None] = mapped_column(String(100))
    changed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class JobTotal(Base):
    """How many runs of a job ended so, since ever: the runs themselves are forgotten."""

    __tablename__ = "job_totals"
    __table_args__ = TABLE_OPTIONS

    job: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[str] = mapped_column(String(10), primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger)
