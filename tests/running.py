"""The whole shop as real processes, and a subscriber that remembers everything it hears.

``RunningShop`` is gunicorn with its workers, started as a user would start it, on a port and a
data folder of its own.  Like the servers of ``tests.servers`` it ends with the test run, however
that ends: the kernel kills the master, and workers without a master end by themselves.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
import psutil
import requests
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.servers import HOST, Server, ServerError, find

ROOT = Path(__file__).resolve().parent.parent
ADMIN, PASSWORD = "admin@example.com", "correct horse battery"

#: What a client meets when the server dies before or while it answers.
CUT_OFF = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)

_COMMAND_SECONDS = 60
_LONGEST_SESSION = 0xFFFFFFFF
# What a program needs from its surroundings besides the settings that a test gives it.
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class RunningShop(Server):
    """gunicorn with the shop: a master, ``workers`` workers and what they start.

    Without ``mqtt_url`` the shop brings its embedded broker.  ``settings`` are the shop's own, by
    their lower-case names (``lease_seconds=2``); settings of the surroundings do not count.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        mqtt_url: str | None,
        *,
        workers: int = 2,
        preload: bool = False,
        wsgi: str = "wsgi:app",
        options: Sequence[str] = (),
        **settings: object,
    ) -> None:
        """Keep the settings for ``start``; the data folder of the shop is ``folder``."""
        super().__init__(folder)
        self.preload = preload
        self.wsgi = wsgi
        self._options = list(options)
        # Tests of many minutes must not end because a token does.
        given = {"var": folder.absolute(), "database_url": database_url, "workers": workers}
        given |= {"access_token_seconds": 86_400} | settings
        if mqtt_url is not None:
            given["mqtt_url"] = mqtt_url
        self._settings = {f"SHOP_{name.upper()}": str(value) for name, value in given.items()}
        self._migrated = False
        self._token: str | None = None

    def change(self, **settings: object) -> None:
        """Use other settings from the next start on."""
        self._settings |= {f"SHOP_{name.upper()}": str(value) for name, value in settings.items()}

    @property
    def url(self) -> str:
        """Where the shop answers."""
        return f"http://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """All variables that the shop's processes see."""
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        return kept | {"PORT": str(self.port)} | self._settings

    @property
    def exit_code(self) -> int | None:
        """The exit code of the master that has ended last; None while one runs."""
        return None if self._process is None else self._process.poll()

    def command(self) -> list[str]:
        """See ``Server``; ``env`` sets the surroundings and becomes gunicorn, under the same id."""
        env = find("env")
        if env is None:
            raise ServerError("env is not installed")
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        gunicorn = [str(Path(sys.executable).parent / "gunicorn"), "-c", "gunicorn.conf.py"]
        preload = ["--preload"] if self.preload else []
        options = [*preload, *self._options]
        return [env, "-i", "-C", str(ROOT), *variables, *gunicorn, *options, self.wsgi]

    def prepare(self) -> None:
        """See ``Server``; the first start migrates the database."""
        if not self._migrated:
            self.flask("db", "upgrade")
            self._migrated = True

    def answers(self) -> bool:
        """See ``Server``; ready means that the database answers too."""
        try:
            return requests.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def flask(self, *arguments: str, text: str = "") -> str:
        """Run a ``flask`` command over the same settings and answer what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", *arguments],
            cwd=ROOT,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
        )
        if done.returncode != 0:
            raise ServerError(f"flask {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def admin_token(self) -> str:
        """Make the first administrator and sign in; later calls answer the same token."""
        if self._token is None:
            self.flask("shop", "create-admin", ADMIN, "--password-stdin", text=f"{PASSWORD}\n")
            credentials = {"email": ADMIN, "password": PASSWORD}
            answer = requests.post(f"{self.url}/api/v1/auth/login", json=credentials, timeout=20)
            answer.raise_for_status()
            self._token = str(answer.json()["access_token"])
        return self._token

    def processes(self) -> list[psutil.Process]:
        """Every live process of the last start, the master first; orphans are among them."""
        if self._process is None:
            return []
        # The master leads a session of its own, which its children stay in when it dies.
        session = self._process.pid
        found = [process for process in psutil.process_iter() if _belongs(process, session)]
        return sorted(found, key=lambda process: (process.pid != session, process.pid))

    def worker_pids(self) -> list[int]:
        """The process ids of the workers: forked, so their command line is the master's."""
        master, *others = self.processes()
        command = master.cmdline()
        return [process.pid for process in others if _command(process) == command]

    def kill_worker(self, chance: random.Random, wanted: int | None = None) -> int | None:
        """Kill one worker at once, if there is one; the master will start another.

        It is the ``wanted`` one if that is a living worker, else any; answers which it was.
        """
        pids = self.worker_pids()
        if not pids:
            return None
        pid = wanted if wanted in pids else chance.choice(pids)
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
        return pid

    def send(self, number: signal.Signals, *, to_all: bool = False) -> None:
        """Send a signal to the master, or to all processes as the interrupt key does."""
        if to_all:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> int | None:
        """Wait for the master's end and answer its exit code; None when it still runs."""
        with suppress(subprocess.TimeoutExpired):
            self._running_process().wait(seconds)
        return self.exit_code

    def kill(self) -> None:
        """End the master and every worker at once, with no chance to save anything."""
        others = self.processes()
        if self.running:
            # One request for the whole group: no worker may notice the death of another.
            os.killpg(self.pid, signal.SIGKILL)
        super().kill()
        for process in others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(others, timeout=10)

    def stop(self) -> None:
        """End the shop with SIGTERM, or by force if it takes too long."""
        super().stop()
        if self.processes():
            self.kill()


def _belongs(process: psutil.Process, session: int) -> bool:
    try:
        if os.getsid(process.pid) != session:
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def is_listened_to(port: int) -> bool:
    """Tell whether anybody accepts connections on a port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it came; ``at`` is on the clock of ``time.monotonic``."""

    topic: str
    payload: bytes
    at: float


class Subscriber:
    """A durable MQTT 5 subscriber to everything: the broker keeps for it what comes while it is
    away, and it comes back by itself."""

    def __init__(self, port: int, topic: str = "shop/#", name: str = "history") -> None:
        """Nothing is connected before ``start``."""
        self.arrivals: list[Arrival] = []
        self._port = port
        self._topic = topic
        self._subscribed = threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        self._client = client

    def __enter__(self) -> Self:
        """Connect and subscribe."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Disconnect; the broker goes on collecting."""
        self.stop()

    def start(self) -> None:
        """Connect and wait until the broker has the subscription."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _LONGEST_SESSION
        self._client.connect(HOST, self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        if not self._subscribed.wait(20):
            raise ServerError("the broker did not confirm the subscription")

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def heard_since(self, moment: float) -> Arrival | None:
        """The first message after a moment of the monotonic clock."""
        return next((arrival for arrival in self.arrivals if arrival.at > moment), None)

    def _on_connect(self, client: mqtt.Client, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if not reason.is_failure:
            client.subscribe(self._topic, qos=1)

    def _on_subscribe(self, *_details: Any) -> None:
        self._subscribed.set()

    def _on_message(self, _c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        self.arrivals.append(Arrival(message.topic, bytes(message.payload), time.monotonic()))
