"""Logging: structlog over the standard library, one line a record on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from shop import provenance


def _who_and_why(
    _logger: Any, _method: str, record: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the request and the acting account of the record, where there are any."""
    if (request_id := provenance.request_id.get()) is not None:
        record.setdefault("request_id", request_id)
    if (actor := provenance.actor.get()) is not None:
        record.setdefault("user_id", actor)
    return record


def _as_json(record: Any, **_options: Any) -> str:
    return orjson.dumps(record, default=str).decode()


def configure(log_format: str, level: str = "INFO") -> None:
    """Send every record of this process to stderr, as `json` or as readable `console` lines."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _who_and_why,
    ]
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_as_json)]
    else:
        last += [
            structlog.dev.ConsoleRenderer(
                timestamp_key="ts",
                colors=sys.stderr.isatty(),
                # The pretty ones print local variables: passwords too, and slowly.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    # APScheduler reports each firing of its timer; our own job records say more.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
