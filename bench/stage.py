"""The stage: private servers, one set of tables, and the processes that are measured."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import orjson
import psutil
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine

from shop.audit.sequencer import stamp
from shop.engines import database_url, engine_options, prepare_engine
from tests.servers import MariaDB, Mosquitto, find, free_port

ROOT = Path(__file__).parent.parent
DATABASE = "shop"
_START_SECONDS = 30.0
EMAIL, PASSWORD = "bench@example.com", "only for this benchmark"

#: The helpers' own size suits tests; here the whole catalogue fits into memory, as it should.
MARIADB_OPTIONS: dict[str, str | int] = {
    "innodb_buffer_pool_size": "256M",
    "innodb_log_file_size": "64M",
}
#: Of a catalogue of a hundred thousand products it does so only with more.
LARGE_OPTIONS: dict[str, str | int] = {"innodb_buffer_pool_size": "1G"}


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment without its settings of a shop, and with these."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SHOP_")}
    return inherited | settings


class Gunicorn:
    """A gunicorn server, from its first answer to its end."""

    def __init__(self, config: str, app: str, log: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        self._log = log
        self._command = [sys.executable, "-m", "gunicorn", "-c", config, app]
        self._environment = environment | {"PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_why: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                call(self.port, "GET", "/api/v1/products?limit=1")
                return
            except OSError:
                if self._process is None or self._process.poll() is not None:
                    raise RuntimeError(f"gunicorn ended:\n{self._log.read_text()}") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def processes(self) -> list[psutil.Process]:
        """The master and everything below it."""
        assert self._process is not None
        master = psutil.Process(self._process.pid)
        return [master, *master.children(recursive=True)]


def call(port: int, method: str, path: str, body: Any = None, token: str = "") -> Any:
    """One JSON request outside the measured ones."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        raw = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, raw, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return orjson.loads(text)
    finally:
        connection.close()


@dataclass
class Shop:
    """A shop over one database: its settings, its command line, its server."""

    var: Path
    database_url: str
    mqtt_url: str = ""
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The settings as environment variables."""
        named = {"SHOP_VAR": str(self.var), "SHOP_DATABASE_URL": self.database_url}
        if self.mqtt_url:
            named["SHOP_MQTT_URL"] = self.mqtt_url
        return clean_environment(**named, **self.settings)

    def fill(self, products: int) -> None:
        """Make the tables, an administrator and the catalogue."""
        self.var.mkdir(parents=True, exist_ok=True)
        self.flask("db", "upgrade")
        self.flask("shop", "create-admin", EMAIL, "--password-stdin", text=PASSWORD)
        self.flask("shop", "demo", "--products", str(products))

    def flask(self, *words: str, text: str = "") -> None:
        """Run a `flask` command."""
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", *words],
            cwd=ROOT, env=self.environment, input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"flask {' '.join(words)}:\n{done.stdout}{done.stderr}")

    def server(self) -> Gunicorn:
        """Its server, not yet started."""
        return Gunicorn("gunicorn.conf.py", "wsgi:app", self.var / "server.log", self.environment)

    def engine(self) -> Engine:
        """An engine of the benchmark's own, made as the shop makes its own."""
        url = database_url(self.database_url)
        engine = create_engine(url, **engine_options(url, threads=1, answer_seconds=30))
        prepare_engine(engine)
        return engine


def sign_in(port: int) -> str:
    """An access token of the administrator."""
    credentials = {"email": EMAIL, "password": PASSWORD}
    token: str = call(port, "POST", "/api/v1/auth/login", credentials)["access_token"]
    return token


def twin(database: MariaDB, folder: Path) -> Gunicorn:
    """The server of the twin, over the shop's tables."""
    environment = clean_environment(TWIN_PORT=str(database.port), TWIN_DATABASE=DATABASE)
    return Gunicorn("bench/twin_gunicorn.py", "bench.twin:app", folder / "twin.log", environment)


def product_paths(port: int, pages: int = 5) -> list[str]:
    """The paths of some hundred products."""
    paths: list[str] = []
    following: str | None = ""
    while following is not None and len(paths) < pages * 100:
        cursor = f"&cursor={following}" if following else ""
        found = call(port, "GET", f"/api/v1/products?limit=100{cursor}")
        paths += [f"/api/v1/products/{item['id']}" for item in found["items"]]
        following = found["next_cursor"]
    return paths


def stocked_skus(port: int, token: str) -> list[str]:
    """Some hundred SKUs, with enough of each for all rounds."""
    skus: list[str] = []
    for path in product_paths(port, pages=2):
        variant = call(port, "GET", path)["variants"][0]
        more = {"delta": 10**8, "reason": "for the benchmark"}
        call(port, "POST", f"/api/v1/variants/{variant['id']}/stock", more, token)
        skus.append(variant["sku"])
    return skus


def fill_log(database: MariaDB, events: int) -> None:
    """Add entries that nobody has stamped: copies of one, as changes of rows of their own."""
    ((last,),) = query(database, "SELECT COALESCE(MAX(id), 0) FROM audit_log")
    for first in range(0, events, 50_000):
        count = min(50_000, events - first)
        query(
            database,
            "INSERT INTO audit_log (event_id, table_name, row_id, sequence, action, type, data,"
            " actor, request_id, created_at)"
            f" SELECT LPAD({last + first} + seq, 26, '0'), table_name,"
            f" {10**9 + last + first} + seq, 1, action, type, data, actor, request_id, NOW(6)"
            f" FROM seq_1_to_{count} JOIN (SELECT * FROM audit_log WHERE table_name = 'products'"
            " ORDER BY id LIMIT 1) AS entry",
        )


def skip_backlog(shop: Shop, database: MariaDB) -> None:
    """Count everything in the log as published, so that no later figure includes its draining.

    Call it while no drain runs.
    """
    engine = shop.engine()
    while stamp(engine):
        pass
    engine.dispose()
    query(
        database,
        "REPLACE INTO audit_sinks (name, position, updated_at)"
        " SELECT 'mqtt', position, NOW(6) FROM audit_head",
    )


def settle(database: MariaDB, seconds: float = 20.0) -> None:
    """Wait until every event has been published, so that the twin does not pay for it."""
    deadline = time.monotonic() + seconds
    while backlog(database) and time.monotonic() < deadline:
        time.sleep(0.1)


def backlog(database: MariaDB) -> int:
    """Events that have not been acknowledged."""
    ((pending, stamped, published),) = query(
        database,
        "SELECT (SELECT COUNT(*) FROM audit_log WHERE position IS NULL),"
        " (SELECT position FROM audit_head WHERE id = 1),"
        " (SELECT COALESCE(MAX(position), 0) FROM audit_sinks WHERE name = 'mqtt')",
    )
    return int(pending) + int(stamped) - int(published)


def query(database: MariaDB, sql: str) -> tuple[tuple[Any, ...], ...]:
    """Rows from the shop's tables, as they are now."""
    connection = database.connect(DATABASE)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            rows = cursor.fetchall()
        connection.commit()
        return rows
    finally:
        connection.close()


def versions(database: MariaDB) -> str:
    """What was measured, in one line."""
    ((mariadb,),) = query(database, "SELECT VERSION()")
    parts = [f"Python {sys.version.split()[0]}", f"MariaDB {mariadb}", broker_version()]
    parts += [f"{name} {version(name)}" for name in ("gunicorn", "Flask", "SQLAlchemy", "PyMySQL")]
    return ", ".join(parts)


def broker_version() -> str:
    """Name and version of the broker."""
    command = [find("mosquitto") or "mosquitto", "-h"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return shown.split("\n", 1)[0]


def make_database(folder: Path) -> tuple[MariaDB, Mosquitto]:
    """The two private servers, not yet started."""
    return MariaDB(folder / "database", **MARIADB_OPTIONS), Mosquitto(folder / "broker")
