"""Who causes a change, and under which request: set at the doors, read by logs and audit."""

from __future__ import annotations

from contextvars import ContextVar

#: The acting account as `users/3`, a job as `jobs/digest`, or None when nobody is known.
actor: ContextVar[str | None] = ContextVar("actor", default=None)

#: The id that joins an answer, its log lines and its audit entries.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
