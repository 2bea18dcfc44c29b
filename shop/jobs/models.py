"""Runs of jobs: one row for each planned time, and the row is the claim."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shop.db import TABLE_OPTIONS, Base, Id, Instant, LongText, UTCDateTime

RUNNING, DONE, FAILED = "running", "done", "failed"


class JobRun(Base):
    """A slot of a job that some process has claimed. (job, slot) is unique: nobody else can.

    `slot` is the planned instant as `YYYY-MM-DDTHH:MM:SSZ`. (`owner`, `attempts`) is the fence:
    a run that was taken over can no longer finish.
    """

    __tablename__ = "job_runs"
    __table_args__ = (
        UniqueConstraint("job", "slot"),
        CheckConstraint("status IN ('running', 'done', 'failed')", name="status"),
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
    started_at: Mapped[Instant]
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    error: Mapped[str | None] = mapped_column(LongText)


class JobTotal(Base):
    """How many runs of a job ended so, since ever: the runs themselves are forgotten."""

    __tablename__ = "job_totals"
    __table_args__ = TABLE_OPTIONS

    job: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[str] = mapped_column(String(10), primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger)
