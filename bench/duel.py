"""The duel: shop and twin answer the same requests in turns, both up all the time.

Other work on the machine, its clock rate and the disk hit neighbouring rounds alike, so the ratio
of two neighbours says more than any figure of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from statistics import median

from bench.load import NUMBER, Plan, Result, generate, request
from bench.report import percentile
from bench.stage import backlog, product_paths, settle, sign_in, stocked_skus
from tests.servers import MariaDB

#: What the shop should reach of the twin's rate.
TARGETS = {"list": 0.6, "item": 0.6, "create": 0.4, "order": 0.5, "order-hot": 0.5}
NAMES = {
    "list": "`GET /products?limit=20`",
    "item": "`GET /products/{id}`",
    "create": "`POST /products`",
    "order": "`POST /orders`, two of all products, 64 clients",
    "order-hot": "`POST /orders`, one of them always the same, 64 clients",
}
_NEW_PRODUCT = (
    f'{{"name":"Bench lamp {NUMBER}","description":"A lamp to be measured.","attributes":'
    f'{{"material":"brass"}},"variants":[{{"sku":"BENCH-{NUMBER}","name":"one size",'
    '"price":{"amount":4990,"currency":"EUR"},"stock":5,"attributes":{}}],"status":"active"}'
)
_ADDRESS = (
    '{"name":"Bench Buyer","line1":"Elm Street 1","city":"Uppsala","postal_code":"75310",'
    '"country":"SE"}'
)
_MANY = 64
#: Where the numbers of the next round's products begin; no two rounds share one.
_firsts = count(0, 1_000_000)


@dataclass
class Side:
    """What one server did in all rounds."""

    results: list[Result] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median of the rounds' requests a second."""
        return median(result.rate for result in self.results)

    @property
    def latencies(self) -> list[float]:
        """Of all rounds, in milliseconds."""
        return [value for result in self.results for value in result.latencies]

    @property
    def errors(self) -> list[str]:
        """Of all rounds."""
        return [error for result in self.results for error in result.errors]

    @property
    def processor(self) -> float:
        """The part of one core that the generator took."""
        return sum(r.processor for r in self.results) / sum(r.seconds for r in self.results)

    def percentiles(self) -> str:
        """p50 and p99 in milliseconds."""
        values = self.latencies
        return f"{percentile(values, 50):.1f} / {percentile(values, 99):.1f}"


@dataclass
class Duel:
    """One kind of request against both."""

    kind: str
    shop: Side = field(default_factory=Side)
    twin: Side = field(default_factory=Side)
    left: list[int] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Shop to twin, round by round."""
        pairs = zip(self.shop.results, self.twin.results, strict=True)
        return [ours.rate / theirs.rate for ours, theirs in pairs]


def plans(kind: str, port: int, seconds: float, token: str, paths: list[str]) -> Iterator[Plan]:
    """The plan of each next round."""
    if kind.startswith("order"):
        requests = [_order(token, *pair) for pair in _pairs(paths, hot=kind == "order-hot")]
    else:
        requests = {
            "list": [request("GET", "/api/v1/products?limit=20")],
            "item": [request("GET", path) for path in paths],
            "create": [request("POST", "/api/v1/products", token=token, body=_NEW_PRODUCT)],
        }[kind]
    connections = _MANY if kind.startswith("order") else 16
    while True:
        yield Plan(port, requests, seconds, connections=connections, first=next(_firsts))


def _pairs(skus: list[str], *, hot: bool) -> Iterator[tuple[str, str]]:
    """Two different SKUs at a time."""
    for number in range(1, len(skus)):
        yield (skus[0], skus[number]) if hot else (skus[number - 1], skus[number])


def _order(token: str, *skus: str) -> str:
    items = ",".join(f'{{"sku":"{sku}","quantity":1}}' for sku in skus)
    body = f'{{"items":[{items}],"shipping_address":{_ADDRESS}}}'
    return request("POST", "/api/v1/orders", token=token, body=body, key=f"bench-{NUMBER}")


def _subjects(kind: str, port: int, token: str) -> list[str]:
    """What the requests of this kind are about."""
    if not kind.startswith("order"):
        return product_paths(port) if kind == "item" else []
    return stocked_skus(port, token)


def fight(
    kind: str, ports: tuple[int, int], database: MariaDB, rounds: int, seconds: float
) -> Duel:
    """Warm both up, then let them take turns. `ports` are the shop's and the twin's."""
    duel = Duel(kind)
    token = sign_in(ports[0])
    paths = _subjects(kind, ports[0], token)
    ours, theirs = (plans(kind, port, seconds, token, paths) for port in ports)
    for port in ports:
        generate(next(plans(kind, port, min(seconds, 1.5), token, paths)))
    settle(database)
    for _ in range(rounds):
        duel.shop.results.append(generate(next(ours)))
        # The shop's events are published meanwhile; what is left must not burden the twin.
        duel.left.append(backlog(database))
        settle(database)
        duel.twin.results.append(generate(next(theirs)))
    return duel


def alone(kind: str, port: int, seconds: float) -> Side:
    """The shop's plain figures, where there is no twin."""
    token = sign_in(port)
    paths = _subjects(kind, port, token)
    generate(next(plans(kind, port, min(seconds, 1.0), token, paths)))
    return Side([generate(next(plans(kind, port, seconds, token, paths)))])


def paced(port: int, rate: float, seconds: float) -> Plan:
    """An open-loop plan: `rate` new products a second, whatever the answers do."""
    body = request("POST", "/api/v1/products", token=sign_in(port), body=_NEW_PRODUCT)
    return Plan(port, [body], seconds, rate=rate, first=next(_firsts))
