"""Private MariaDB and Mosquitto servers for the tests.

A test that kills, freezes or restarts a server must not do it to one that somebody else uses.
So each server here is a child process of the test run, listens on a loopback port of its own and
keeps its data in a folder of its own; both stay the same over any number of restarts::

    with MariaDB(tmp_path / "database") as server:
        url = server.create_database("shop")
        server.kill()
        server.restart()
"""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.cursors import Cursor

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.01
LOG_LINES = 30

# Distributions install servers here, and these folders are often missing from a user's PATH.
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")

BINARIES = {
    "mariadb": ("mariadbd", "mariadb-install-db"),
    "mosquitto": ("mosquitto",),
    "redis": ("redis-server",),
}
URL_VARIABLES = {"mariadb": "SHOP_TEST_MARIADB_URL", "mosquitto": "SHOP_TEST_MQTT_URL"}
REQUIRE_VARIABLE = "SHOP_TEST_REQUIRE"

# The kernel is asked to kill the server when the test run dies, however it dies: no clean-up code
# runs after SIGKILL.  The request has to be made in the child.  A preexec_fn would make it between
# fork and exec, where a lock held by any other thread of the test run stays locked for ever; this
# program makes it after exec, in a process with a single thread, and then becomes the server
# (with the same process id, so a signal sent to the child reaches the server itself).
# Had the test run died before the request, nobody would kill the server: hence the look at the
# parent.  Python ignores two signals, and what is ignored stays so over exec: hence the reset.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL)) != 0:
        sys.exit("prctl refused the parent death signal")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the test run has ended")
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""

# To the kernel the "parent" is the thread that made the child, not its process: a server started
# by a short-lived thread would be killed when that thread ends.  So one thread, which lives as
# long as the test run, starts them all.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-starter")

_given_ports: set[int] = set()


class ServerError(RuntimeError):
    """A private server could not be started, or was not running when it had to be."""


def find(binary: str) -> str | None:
    """Return the path of an installed program, or None if there is none."""
    return shutil.which(binary) or shutil.which(binary, path=os.pathsep.join(SYSTEM_FOLDERS))


def external_url(name: str) -> str | None:
    """Return the URL of the server that the environment offers for ``name``, or None."""
    return os.environ.get(URL_VARIABLES[name]) or None


def require(name: str, what: str, *, private: bool = False) -> str | None:
    """Make sure that a server can be had, or skip the test.

    ``name`` is ``mariadb`` or ``mosquitto``; ``what`` says what goes untested without it.
    The answer is the URL of the server from the environment, or None if a private one is to be
    started.  A test that stops or freezes its server asks for a ``private`` one: then the
    environment's server is left out of account.

    A skipped test is easily overlooked.  Where the server must be there, name it in
    SHOP_TEST_REQUIRE (a list with commas), and the test fails instead.
    """
    if not private and (url := external_url(name)) is not None:
        return url
    missing = [binary for binary in BINARIES[name] if find(binary) is None]
    if not missing:
        return None
    message = f"{', '.join(missing)} not installed: not tested: {what}"
    wanted = os.environ.get(REQUIRE_VARIABLE, "").split(",")
    if name in (entry.strip() for entry in wanted):
        pytest.fail(f"{message} ({REQUIRE_VARIABLE} asks for {name})", pytrace=False)
    pytest.skip(message)


def free_port() -> int:
    """Return a loopback port that nobody listens on and that was not returned before.

    The port is not one that the kernel gives to outgoing connections.  While a server is down its
    clients try to connect again and again; with such a port one of these attempts would sooner or
    later get the server's port as its own, connect to itself and keep the server from restarting.

    The choice does not come from ``random``, which a plugin may seed alike in parallel test runs.
    """
    first, end = 10_000, max(_first_outgoing_port(), 20_000)
    for _ in range(1_000):
        port = first + secrets.randbelow(end - first)
        if port not in _given_ports and _is_free(port):
            _given_ports.add(port)
            return port
    raise ServerError(f"no free port found from {first} to {end - 1}")


def _first_outgoing_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        # Only Linux has this file; the lowest start that the systems in use have is 32768.
        return 32_768


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this option too: closed connections of the last run do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _program(binary: str) -> str:
    path = find(binary)
    if path is None:
        raise ServerError(f"{binary} is not installed")
    return path


class Server(ABC):
    """One server process, which this object starts, signals and ends.

    Signals go only through the ``Popen`` object of the running child.  It knows whether the child
    has been waited for, so a process id that the system has given to somebody else in the
    meantime is never signalled.
    """

    def __init__(self, folder: Path) -> None:
        """Choose the port; the server is started by ``start`` or by a ``with`` statement."""
        self.folder = folder.absolute()
        self.port = free_port()
        self.log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line, beginning with the absolute path of the program."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the files that the server needs; called before every start."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server answers in its own protocol."""

    def __repr__(self) -> str:
        """Name the server in messages."""
        return f"<{type(self).__name__} on port {self.port}>"

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server, whatever state the test has left it in."""
        self.stop()

    @property
    def running(self) -> bool:
        """True while the process exists, be it frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running_process().pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if self.running:
            raise ServerError(f"{self} is already running")
        if not _is_free(self.port):
            # Otherwise the other server's answer would pass for that of ours.
            raise ServerError(f"{self} cannot start: another process has the port")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self._process = self._spawn()
        try:
            self._wait_until_ready()
        except BaseException:
            # This includes the interrupt of an impatient user: no half-started server is left.
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in good order, or by force if it takes too long; frozen or not."""
        if not self.running:
            return
        process = self._running_process()
        process.terminate()
        # A frozen process learns of the request only when it goes on.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server at once, with no chance to save anything; no error if it is not running.

        The system has closed all its connections when this returns.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Stop the server if it is running, and start it on the same port with the same data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Hold the server: its connections stay open, but nobody gets an answer."""
        process = self._running_process()
        process.send_signal(signal.SIGSTOP)
        # The signal is sent, but the threads of the server stop a little later.  WNOWAIT leaves
        # the news of an exit to the Popen object, and lets a second freeze return as well.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._running_process()

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._running_process().send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(lines[-LOG_LINES:])

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self} is not running; its log ends with:\n{self.log_tail()}")
        return self._process

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Without -I and -S the launcher would spend its time on settings of the environment.
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        command = launcher + self.command()
        with self.log.open("ab") as log:
            # The interrupt key of a terminal goes to all processes of a session; in a session of
            # its own the server outlives it until the test run has come to its fixtures' end.
            return _starter.submit(
                lambda: subprocess.Popen(
                    command,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            ).result()

    def _wait_until_ready(self) -> None:
        # Tests may have stopped or moved the wall clock; this clock is left alone by them.
        deadline = time.perf_counter() + START_SECONDS
        while not self.answers():
            self._running_process()
            if time.perf_counter() > deadline:
                raise ServerError(
                    f"{self} gave no answer in {START_SECONDS:g} s; its log ends with:\n"
                    f"{self.log_tail()}"
                )
            time.sleep(POLL_SECONDS)
        self._running_process()


# Small buffers make starting quick and let several servers run side by side.
_MARIADB_OPTIONS: dict[str, str | int] = {
    "aria_pagecache_buffer_size": "1M",
    "innodb_buffer_pool_size": "32M",
    "innodb_log_file_size": "16M",
    "key_buffer_size": "1M",
    # The kernel's limit for asynchronous I/O is shared by all servers of the machine; a server
    # that does not get its share starts with a warning, and differently from the others.
    "innodb_use_native_aio": "OFF",
    # A committed row has to be in the log when COMMIT returns: tests kill the server after it.
    "innodb_flush_log_at_trx_commit": 1,
    # Whether statements are slower after a restart must not depend on the run before.
    "innodb_buffer_pool_dump_at_shutdown": "OFF",
    "innodb_buffer_pool_load_at_startup": "OFF",
    # The compiled-in default is latin1, which cannot hold most of the world's names.
    "character_set_server": "utf8mb4",
}


class MariaDB(Server):
    """A private MariaDB server; user ``root`` has no password and there are no other accounts.

    ``arguments`` are put on the command line as they are (``"--log-bin"``); ``options`` are put
    there as ``--name=value`` (``innodb_snapshot_isolation="ON"``, ``sql_mode=""``), and replace
    an option that is set here.  ``options`` may be changed before a restart.

    The data directory is a copy of one that was made with the options of this module.  An option
    that counts only when it is made, such as ``innodb_page_size``, cannot be given.
    """

    def __init__(self, folder: Path, *arguments: str, **options: str | int) -> None:
        """Keep the options for ``start``; all files of the server go into ``folder``."""
        super().__init__(folder)
        self.arguments = list(arguments)
        self.options = _MARIADB_OPTIONS | options
        self.data = self.folder / "data"
        self.temporary = self.folder / "temporary"

    def command(self) -> list[str]:
        """See ``Server``; what the helpers rely on comes last, where it cannot be replaced."""
        return [
            _program("mariadbd"),
            "--no-defaults",
            *_account_option(),
            *(f"--{name}={value}" for name, value in self.options.items()),
            *self.arguments,
            f"--datadir={self.data}",
            # The default is shared by all servers of the machine, and a starting server removes
            # the temporary tables that it finds, be they its own or another's who still uses them.
            f"--tmpdir={self.temporary}",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            "--skip-name-resolve",
            # A socket's path has room for about 100 characters, and folders of tests are often
            # longer.  These two are relative to the data directory, which the server enters.
            "--socket=server.sock",
            "--pid-file=server.pid",
        ]

    def prepare(self) -> None:
        """See ``Server``; existing data is kept."""
        self.temporary.mkdir(exist_ok=True)
        if self.data.exists():
            return
        # An interrupted copy must not pass for a data directory at the next start.
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(_data_template(), unfinished)
        unfinished.rename(self.data)

    def answers(self) -> bool:
        """See ``Server``; to connect, PyMySQL logs in and runs a first statement."""
        try:
            self.connect(timeout=1).close()
        except pymysql.MySQLError:
            return False
        return True

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database of this server."""
        return f"mysql+pymysql://root@{HOST}:{self.port}/{database}"

    def connect(self, database: str | None = None, timeout: float = 10) -> Connection[Cursor]:
        """Return a new connection, each statement of which must be answered within ``timeout``."""
        return pymysql.connect(
            host=HOST,
            port=self.port,
            user="root",
            database=database,
            charset="utf8mb4",
            connect_timeout=timeout,
            read_timeout=timeout,
            write_timeout=timeout,
        )

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        self._execute(f"CREATE DATABASE {_quoted(name)} CHARACTER SET utf8mb4")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database; it is no error if there is none of this name."""
        self._execute(f"DROP DATABASE IF EXISTS {_quoted(name)}")

    def _execute(self, statement: str) -> None:
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _account_option() -> list[str]:
    # MariaDB refuses to run as root unless it is told to; for others the option has no meaning.
    return ["--user=root"] if os.geteuid() == 0 else []


@functools.cache
def _data_template() -> Path:
    """Return a fresh data directory, made once in a test run, to be copied for each server.

    Making one takes most of a second or more, copying it about a tenth.
    """
    folder = Path(tempfile.mkdtemp(prefix="mariadb-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [
        _program("mariadb-install-db"),
        "--no-defaults",
        *_account_option(),
        f"--datadir={folder / 'data'}",
        # A folder of its own, for the reason given in ``MariaDB.command``.
        f"--tmpdir={folder}",
        "--auth-root-authentication-method=normal",
        # This leaves out the anonymous accounts as well, which exist for the sake of that database.
        "--skip-test-db",
        "--skip-name-resolve",
        *(f"--{name}={value}" for name, value in _MARIADB_OPTIONS.items()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()[-LOG_LINES:]
        raise ServerError("mariadb-install-db failed:\n" + "\n".join(lines))
    return folder / "data"


# A CONNECT packet of MQTT 3.1.1 with a clean session and no client identifier, and a DISCONNECT
# packet; the answer to them is a CONNACK packet that begins with the bytes below.
_MQTT_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
_MQTT_DISCONNECT = b"\xe0\x00"
_MQTT_CONNACK = b"\x20\x02"

_MOSQUITTO_SETTINGS: dict[str, str | int | bool] = {
    "allow_anonymous": True,
    # Sessions, their subscriptions and queued messages are written to a file at the end of an
    # orderly stop, and read back at the next start.
    "persistence": True,
    # Nothing is written in between.  So kill() loses everything since the start, always: with the
    # timer that is the default (half an hour) or a short one, it would depend on the moment.
    # The opposite case, a broker that loses next to nothing, is made with autosave_interval=1 and
    # autosave_on_changes=True: then the file is written after each change.
    "autosave_interval": 0,
    # By default the 1001st message for an absent subscriber is dropped without a word, and a test
    # with many messages would look for the loss in the wrong place.
    "max_queued_messages": 0,
    # max_inflight_messages keeps its default, 20: it holds messages back, but loses none, and
    # tests should see the broker work as it does in operation.
    # Small packets are sent at once; waiting to fill them costs up to 40 ms each.
    "set_tcp_nodelay": True,
    # Statistics under $SYS would come in between when a test subscribes to everything.
    "sys_interval": 0,
    # The log goes to the file that also catches what is printed before the log is set up.
    "log_dest": "stderr",
}


class Mosquitto(Server):
    """A private Mosquitto broker.

    ``settings`` are lines of its configuration file (``max_inflight_messages=1``) and replace
    those that are set here.  They may be changed before a restart.
    """

    def __init__(self, folder: Path, **settings: str | int | bool) -> None:
        """Keep the settings for ``start``; all files of the broker go into ``folder``."""
        super().__init__(folder)
        self.settings = _MOSQUITTO_SETTINGS | settings
        self.configuration = self.folder / "mosquitto.conf"

    @property
    def url(self) -> str:
        """The URL of the broker."""
        return f"mqtt://{HOST}:{self.port}"

    def command(self) -> list[str]:
        """See ``Server``."""
        return [_program("mosquitto"), "-c", str(self.configuration)]

    def prepare(self) -> None:
        """See ``Server``; the configuration is written anew, the saved sessions are kept."""
        lines = [f"listener {self.port} {HOST}", f"persistence_location {self.folder}/"]
        if os.geteuid() == 0:
            # Otherwise the broker becomes user mosquitto, who may not write into our folder.
            lines.append("user root")
        for name, value in self.settings.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            lines.append(f"{name} {text}")
        self.configuration.write_text("\n".join(lines) + "\n")

    def answers(self) -> bool:
        """See ``Server``; a refusal is an answer too, for brokers that ask for a password."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(_MQTT_CONNECT + _MQTT_DISCONNECT)
                return connection.recv(4).startswith(_MQTT_CONNACK)
        except OSError:
            return False
