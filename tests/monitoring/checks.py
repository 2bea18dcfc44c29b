"""Reading what Prometheus reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_SAMPLE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)\Z")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"(?:,|\Z)')

#: Of the contract, but for uploads, which are not there yet.
NAMES = {
    "shop_http_requests_total", "shop_http_request_seconds", "shop_audit_backlog",
    "shop_audit_oldest_seconds", "shop_audit_published_total", "shop_audit_failed_total",
    "shop_audit_parked_total", "shop_job_last_success_timestamp", "shop_job_runs_total",
    "shop_job_last_duration_seconds", "shop_orders_total", "shop_db_pool_in_use",
}  # fmt: skip


class Scrape:
    """One answer of /metrics, every line of which is understood."""

    def __init__(self, text: str) -> None:
        assert text.endswith("\n")
        self.types: dict[str, str] = {}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types
                self.types[name] = kind
            elif not line.startswith("# HELP "):
                self._take(line)

    def _take(self, line: str) -> None:
        found = _SAMPLE.match(line)
        assert found is not None, line
        labels = _LABEL.findall(found[2] or "")
        assert ",".join(f'{name}="{value}"' for name, value in labels) == (found[2] or ""), line
        key = (found[1], frozenset(labels))
        assert key not in self.samples, line
        self.samples[key] = float(found[3])

    def value(self, metric: str, **labels: str) -> float:
        """The sum of the samples that have these labels; 0 when there is none."""
        return sum(value for _, value in self.found(metric, labels))

    def found(
        self, metric: str, wanted: Mapping[str, str]
    ) -> Iterator[tuple[dict[str, str], float]]:
        """Labels and values of the samples that have these labels."""
        for (name, labels), value in self.samples.items():
            if name == metric and set(wanted.items()) <= labels:
                yield dict(labels), value
