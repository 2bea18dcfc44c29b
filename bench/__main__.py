"""`python -m bench`: the whole benchmark, a Markdown report on standard output.

It starts servers of its own and ends them again. Exit code 1 when a request failed, never because
a figure is low: figures belong to the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import (
    ads,
    backlog,
    broker_loss,
    capture,
    catalogue,
    drain,
    duel,
    fanout,
    imports,
    lag,
    memory,
    report,
    sign_in,
    stage,
)
from bench.ceiling import ceiling
from tests.servers import MariaDB, Mosquitto

SECTIONS = (
    "list", "item", "create", "order", "order-hot", "lag", "lag-commits", "drain", "capture",
    "sign-in", "memory", "import", "ads",
)  # fmt: skip
#: Takes long to prepare, or concerns the broker alone: measured only when asked for.
EXTRA = ("catalogue", "broker-loss", "backlog", "ads-rollup", "fanout")
#: These have servers of their own.
_APART = {"catalogue", "broker-loss", "ads", "ads-rollup"}
_KINDS = SECTIONS[:5]
_RATE = 200.0
_COMMITS_RATE = 500.0


class Bench:
    """One run: what was asked for, and what went wrong."""

    def __init__(self, sections: tuple[str, ...], quick: bool) -> None:
        self.sections = sections
        self.kinds = [kind for kind in _KINDS if kind in sections]
        self.products = 2000 if quick else 10_000
        self.imported = 10_000 if quick else 100_000
        self.rounds = 2 if quick else 4
        self.seconds = 1.5 if quick else 4.0
        self.drain_seconds = 1.5 if quick else 4.0
        self.lag_seconds = 5.0 if quick else 20.0
        self.large = 5000 if quick else 100_000
        self.published = 1500 if quick else 5000
        self.asked = 30 if quick else 200
        self.backlog = 50_000 if quick else 1_000_000
        self.recipients = 10_000 if quick else 100_000
        self.turns = 4 if quick else 20
        self.rolled = (10_000, 100_000) if quick else (100_000, 1_000_000)
        self.many_rolled = 500_000 if quick else 5_000_000
        self.errors: list[str] = []
        self.memories: list[memory.Memory] = []

    def run(self, folder: Path) -> None:
        """All sections, each printed when it is done."""
        if "catalogue" in self.sections:
            self._measure_catalogue(folder / "catalogue")
        if "broker-loss" in self.sections:
            losses = broker_loss.measure(folder / "brokers", self.published, self.rounds)
            self._print(
                f"Lost by {stage.broker_version()}, subscriber away, QoS 1, MQTT 5",
                broker_loss.of_losses(losses),
            )
        if {"ads", "ads-rollup"} & set(self.sections):
            self._measure_ads(folder / "ads")
        if not set(self.sections) - _APART:
            return
        database, broker = stage.make_database(folder)
        with database, broker:
            shop = stage.Shop(folder / "var", database.create_database(stage.DATABASE), broker.url)
            self._introduce(database, shop)
            if "drain" in self.sections:
                turns = 1 if self.products < 10_000 else 2
                found = drain.measure(shop, database, broker, turns, self.drain_seconds)
                self._print("Drain rate, MariaDB and Mosquitto", report.of_drain(found))
            stage.skip_backlog(shop, database)
            if "backlog" in self.sections:
                _say(f"A backlog of {self.backlog} events")
                large = backlog.measure(shop, database, self.backlog)
                self._print("A large backlog, MariaDB and Mosquitto", report.of_backlog(large))
            if "capture" in self.sections:
                commits = capture.measure(shop, self.turns)
                self._print("What capture adds, MariaDB", report.of_capture(commits))
                stage.skip_backlog(shop, database)
            self._measure_requests(shop, database, broker, folder)
            if "import" in self.sections:
                made = imports.measure(shop, folder, self.imported)
                self._print("Importing products, MariaDB", imports.table(made))
        if self.kinds or "memory" in self.sections:
            self._measure_sqlite(folder)
        if "memory" in self.sections:
            self._print("Memory after the work above", report.of_memory(self.memories))

    def _introduce(self, database: MariaDB, shop: stage.Shop) -> None:
        _say(f"Making {self.products} products")
        shop.fill(self.products)
        when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        print(f"`python -m bench{' '.join(['', *sys.argv[1:]])}`, {when}\n")
        print(f"{stage.versions(database)}; {platform.system()}, {os.cpu_count()} processors\n")
        small, large = ceiling(1500, 1.0), ceiling(20_000, 1.0)
        print(
            "Servers, database, broker and load generator share these processors; the generator"
            ' takes as much from the shop as from the twin (column "generator\'s core": shop /'
            f" twin). Alone against a server that only answers it reaches {small:.0f} requests/s"
            f" with answers of 1.5 kB, {large:.0f} with 20 kB. 16 keep-alive connections, 2"
            " workers on either side, each working on 4 requests at once."
        )

    def _measure_requests(
        self, shop: stage.Shop, database: MariaDB, broker: Mosquitto, folder: Path
    ) -> None:
        with shop.server() as ours:
            if self.kinds:
                with stage.twin(database, folder) as theirs:
                    self._duel((ours.port, theirs.port), database)
            self._measure_lags(shop, ours.port, broker.port)
            if "sign-in" in self.sections:
                _say("Sign-ins")
                rush = sign_in.measure(ours.port, self.seconds * 2)
                self.errors += rush.rush.errors + rush.reads.errors + rush.quiet.errors
                self._print("Sign-ins, MariaDB", report.of_sign_ins(rush))
            if "fanout" in self.sections:
                _say(f"A message to {self.recipients}")
                told = fanout.measure(ours.port, database, self.recipients, self.seconds * 3)
                self.errors += told.errors
                self._print("A message to everybody, MariaDB", fanout.table(told))
            if "memory" in self.sections:
                self._remember("shop, scheduler and drain (MariaDB, Mosquitto)", ours)

    def _measure_lags(self, shop: stage.Shop, port: int, broker_port: int) -> None:
        lags = []
        if "lag" in self.sections:
            _say("Event lag, over HTTP")
            lags.append(lag.of_requests(port, broker_port, _RATE, self.lag_seconds))
        if "lag-commits" in self.sections:
            _say("Event lag, past HTTP")
            lags.append(lag.of_commits(shop, broker_port, _COMMITS_RATE, self.lag_seconds))
        self.errors += [error for one in lags for error in one.writing.errors]
        if lags:
            self._print("Event lag, MariaDB and Mosquitto", report.of_lags(lags))

    def _measure_catalogue(self, folder: Path) -> None:
        """On both engines, without a broker: nothing is written meanwhile."""
        server = MariaDB(folder / "database", **stage.MARIADB_OPTIONS | stage.LARGE_OPTIONS)
        file = folder / "sqlite" / "shop.db"
        with server as database:
            urls = {
                "MariaDB": database.create_database(stage.DATABASE),
                "SQLite": f"sqlite:///{file}",
            }
            for engine, url in urls.items():
                _say(f"{self.large} products on {engine}")
                settings = {"SHOP_SINKS": "none", "SHOP_SCHEDULER": "off"}
                shop = stage.Shop(folder / engine.lower(), url, settings=settings)
                shop.fill(self.large)
                with shop.server() as ours:
                    found = catalogue.measure(ours.port, self.asked)
                title = f"Lists of {self.large} products, {engine}, one request at a time"
                self._print(title, report.of_catalogue(found))

    def _measure_ads(self, folder: Path) -> None:
        """On a database of their own: what is counted stays there."""
        sizes: tuple[int, ...] = self.rolled if "ads" in self.sections else ()
        sizes += (self.many_rolled,) if "ads-rollup" in self.sections else ()
        file = folder / "sqlite" / "shop.db"
        options = stage.MARIADB_OPTIONS | stage.LARGE_OPTIONS
        with MariaDB(folder / "database", **options) as database:
            settings = {"SHOP_SINKS": "none", "SHOP_SCHEDULER": "off"} | ads.SETTINGS
            url = database.create_database(stage.DATABASE)
            shop = stage.Shop(folder / "mariadb", url, settings=settings)
            shop.fill(10)
            if "ads" in self.sections:
                _say("Counting ads")
                with shop.server() as ours:
                    counted = ads.count(ours, database, self.seconds)
                self.errors += [error for one in counted for error in one.result.errors]
                self._print("Counting ads, MariaDB", ads.of_counted(counted))
            _say(f"Summing up {', '.join(map(str, sizes))} events")
            sums = ads.roll_up("MariaDB", shop, sizes)
        lite = stage.Shop(file.parent, f"sqlite:///{file}", settings=settings)
        lite.fill(10)
        sums += ads.roll_up("SQLite", lite, sizes)
        self._print("Summing up events of ads", ads.of_roll_ups(sums))

    def _duel(self, ports: tuple[int, int], database: MariaDB) -> None:
        duels = []
        for kind in self.kinds:
            _say(f"Shop against twin: {kind}")
            duels.append(duel.fight(kind, ports, database, self.rounds, self.seconds))
            self.errors += duels[-1].shop.errors + duels[-1].twin.errors
        text = report.of_duels(duels)
        notes = [
            f"Ratio: median of {self.rounds} rounds of {self.seconds:g} s in turns.",
            "The shop signs its caller in, checks what it is given, audits and publishes each"
            " change (a new product: three events); the twin does none of that.",
        ]
        again = sum(r.reconnects for d in duels for r in d.shop.results + d.twin.results)
        if again:
            notes.append(f"Connections closed between two answers and opened again: {again}.")
        if "create" in self.kinds:
            left = ", ".join(map(str, duels[-1].left))
            notes.append(f"Events not yet published when a round of new products ended: {left}.")
        self._print("Shop against twin, MariaDB", text + "\n\n" + " ".join(notes))

    def _measure_sqlite(self, folder: Path) -> None:
        _say("The shop on SQLite")
        file = folder / "sqlite" / "shop.db"
        shop = stage.Shop(file.parent, f"sqlite:///{file}")
        shop.fill(self.products // 10)
        with shop.server() as server:
            # The demo's events go out first; there are few.
            time.sleep(1.0 if not self.kinds else self.products / 2000)
            sides = {kind: duel.alone(kind, server.port, self.seconds) for kind in self.kinds}
            if "memory" in self.sections:
                self._remember("shop, scheduler and drain (SQLite)", server)
        self.errors += [error for side in sides.values() for error in side.errors]
        if sides:
            title = "The shop on SQLite with its embedded broker"
            self._print(title, report.of_sides(sides))

    def _remember(self, what: str, server: stage.Gunicorn) -> None:
        if not self.kinds:
            for _ in range(200):
                stage.call(server.port, "GET", "/api/v1/products?limit=20")
        self.memories += memory.of_server(what, server)

    @staticmethod
    def _print(title: str, text: str) -> None:
        print(f"\n### {title}\n\n{text}", flush=True)


def _say(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


def _arguments() -> tuple[tuple[str, ...], bool]:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds: does it work at all?")
    every = ",".join((*SECTIONS, *EXTRA))
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of: {every}")
    given = parser.parse_args()
    sections = tuple(given.only.split(","))
    if unknown := set(sections) - {*SECTIONS, *EXTRA}:
        parser.error(f"--only does not know {', '.join(sorted(unknown))}")
    return sections, given.quick


def main() -> int:
    """Run it; 1 when requests failed."""
    bench = Bench(*_arguments())
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench.run(Path(folder))
    for error in bench.errors[:5]:
        print(f"\nERROR: {error}", file=sys.stderr)
    return 1 if bench.errors else 0


if __name__ == "__main__":
    sys.exit(main())
