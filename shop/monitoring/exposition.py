"""The text format of Prometheus, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shop.counters import BUCKETS, Requests

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge"]
#: Values by label, or one value without.
Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its samples; one without samples is known, and says nothing now."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample] = ()

    def lines(self) -> Iterable[str]:
        """As they are exposed."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            yield f"{self.name}{_shown(labels)} {_number(value)}"


def histogram(name: str, help: str, requests: Iterable[Requests]) -> Iterable[str]:
    """How long requests took, by method, route and status."""
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} histogram"
    for each in requests:
        labels = labels_of(each)
        inside = 0
        for end, count in zip((*BUCKETS, float("inf")), each.buckets, strict=True):
            inside += count
            yield f"{name}_bucket{_shown(labels | {'le': _number(end)})} {inside}"
        yield f"{name}_sum{_shown(labels)} {_number(each.seconds)}"
        yield f"{name}_count{_shown(labels)} {inside}"


def labels_of(requests: Requests) -> dict[str, str]:
    """Method, route and status."""
    return {"method": requests.method, "route": requests.route, "status": requests.status}


def _shown(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
