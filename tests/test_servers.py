"""The private servers of the tests do what other tests build upon."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pymysql
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests import servers
from tests.servers import HOST, MariaDB, Mosquitto, ServerError, free_port, require

# Long enough for a loaded machine: no test waits so long unless it fails.
PATIENCE = 20.0

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def needs_mariadb() -> None:
    """Skip the test where no private MariaDB can be started."""
    require("mariadb", "the private MariaDB server", private=True)


@pytest.fixture
def needs_mosquitto() -> None:
    """Skip the test where no private broker can be started."""
    require("mosquitto", "the private Mosquitto broker", private=True)


@pytest.fixture
def database(tmp_path: Path, needs_mariadb: None) -> Iterator[MariaDB]:
    """A running server; its folder has a path too long for a socket."""
    with MariaDB(tmp_path / ("long" * 30), sql_mode="", max_connections=33) as server:
        yield server


@pytest.fixture
def broker(tmp_path: Path, needs_mosquitto: None) -> Iterator[Mosquitto]:
    """A running broker."""
    with Mosquitto(tmp_path / "broker") as server:
        yield server


def rows(server: MariaDB, statement: str, timeout: float = PATIENCE) -> list[tuple[object, ...]]:
    """Run one statement in a connection and transaction of its own."""
    with server.connect(timeout=timeout) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        connection.commit()
        return list(cursor.fetchall())


def accepts(port: int) -> bool:
    """Tell whether anybody listens on a port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


class Subscriber(mqtt.Client):
    """An MQTT client that puts what it hears into queues, to be waited for."""

    def __init__(self, name: str, *, lasting: bool = False) -> None:
        """Set up the queues; a ``lasting`` session outlives its connection."""
        super().__init__(CallbackAPIVersion.VERSION2, client_id=name, clean_session=not lasting)
        self.session_found: queue.Queue[bool] = queue.Queue()
        self.granted: queue.Queue[int] = queue.Queue()
        self.received: queue.Queue[bytes] = queue.Queue()
        self.on_connect = self._connected
        self.on_subscribe = self._subscribed
        self.on_message = self._message

    def _connected(
        self,
        _client: mqtt.Client,
        _data: object,
        flags: mqtt.ConnectFlags,
        _code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.session_found.put(flags.session_present)

    def _subscribed(
        self,
        _client: mqtt.Client,
        _data: object,
        _number: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self.granted.put(int(codes[0].value))

    def _message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self.received.put(bytes(message.payload))


@contextmanager
def connected(client: Subscriber, server: Mosquitto) -> Iterator[bool]:
    """Keep a client connected; the value tells whether the broker still had its session."""
    client.connect(HOST, server.port)
    client.loop_start()
    try:
        yield client.session_found.get(timeout=PATIENCE)
    finally:
        client.disconnect()
        client.loop_stop()


def publish(server: Mosquitto, text: str) -> None:
    """Publish with QoS 1 and wait until the broker has confirmed it."""
    sender = Subscriber("sender")
    with connected(sender, server):
        sender.publish("test/topic", text, qos=1).wait_for_publish(PATIENCE)


def leave_subscription(server: Mosquitto) -> None:
    """Make a lasting session that subscribes with QoS 1, and disconnect it."""
    client = Subscriber("absent", lasting=True)
    with connected(client, server):
        client.subscribe("test/#", qos=1)
        assert client.granted.get(timeout=PATIENCE) == 1


def test_committed_row_survives_kill(database: MariaDB) -> None:
    url = database.create_database("a`b")
    port, pid = database.port, database.pid
    assert url == f"mysql+pymysql://root@127.0.0.1:{port}/a`b"
    rows(database, "CREATE TABLE `a``b`.t (word VARCHAR(9)) ENGINE=InnoDB")
    rows(database, "INSERT INTO `a``b`.t VALUES ('Grüße😀')")
    database.kill()
    assert not database.running
    assert not accepts(port)
    database.restart()
    assert (database.port, database.pid != pid) == (port, True)
    assert rows(database, "SELECT word FROM `a``b`.t") == [("Grüße😀",)]
    database.drop_database("a`b")
    assert rows(database, "SHOW DATABASES LIKE 'a%'") == []


def test_mariadb_options_and_accounts(database: MariaDB) -> None:
    asked = "SELECT @@global.sql_mode, @@max_connections, @@innodb_flush_log_at_trx_commit"
    assert rows(database, asked) == [("", 33, 1)]
    names = "SELECT DISTINCT user FROM mysql.user ORDER BY user"
    assert rows(database, names) == [("mariadb.sys",), ("root",)]
    assert rows(database, "SELECT @@tmpdir") == [(str(database.temporary),)]
    database.options["max_connections"] = 44
    database.restart()
    assert rows(database, "SELECT @@max_connections") == [(44,)]


def test_two_servers_share_nothing(database: MariaDB, tmp_path: Path) -> None:
    with MariaDB(tmp_path / "second", "--log-bin") as other:
        other.create_database("mine")
        assert rows(other, "SELECT @@log_bin") == [(1,)]
        assert rows(database, "SHOW DATABASES LIKE 'mine'") == []


def test_freeze_holds_queries_and_thaw_lets_them_go_on(database: MariaDB) -> None:
    patient = database.connect(timeout=PATIENCE)
    hasty = database.connect(timeout=0.3)
    database.freeze()
    database.freeze()
    with ThreadPoolExecutor() as pool, patient.cursor() as cursor:
        answer = pool.submit(cursor.execute, "SELECT 1")
        try:
            with pytest.raises(pymysql.OperationalError, match="timed out"):
                hasty.cursor().execute("SELECT 1")
            assert database.running
            assert not answer.done()
        finally:
            database.thaw()
        assert answer.result(PATIENCE) == 1
    patient.close()


def test_frozen_server_can_be_stopped(database: MariaDB) -> None:
    database.freeze()
    started = time.perf_counter()
    database.stop()
    assert not database.running
    assert time.perf_counter() - started < servers.STOP_SECONDS
    assert "Shutdown complete" in database.log_tail()


def test_frozen_server_can_be_killed(broker: Mosquitto) -> None:
    broker.freeze()
    broker.kill()
    assert not broker.running


def test_dead_server_is_not_signalled(broker: Mosquitto) -> None:
    broker.stop()
    broker.stop()
    broker.kill()
    for act in (broker.freeze, broker.thaw):
        with pytest.raises(ServerError, match="not running"):
            act()


def test_mqtt_round_trip(broker: Mosquitto) -> None:
    assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    client = Subscriber("present")
    with connected(client, broker):
        client.subscribe("test/#", qos=1)
        assert client.granted.get(timeout=PATIENCE) == 1
        publish(broker, "hello")
        assert client.received.get(timeout=PATIENCE) == b"hello"


def test_orderly_restart_keeps_queued_message(broker: Mosquitto) -> None:
    port = broker.port
    leave_subscription(broker)
    publish(broker, "kept")
    broker.stop()
    assert not accepts(port)
    broker.start()
    assert broker.port == port
    client = Subscriber("absent", lasting=True)
    with connected(client, broker) as session_found:
        assert session_found
        assert client.received.get(timeout=PATIENCE) == b"kept"


def test_killed_broker_forgets(broker: Mosquitto) -> None:
    leave_subscription(broker)
    publish(broker, "lost")
    broker.kill()
    broker.start()
    with connected(Subscriber("absent", lasting=True), broker) as session_found:
        assert not session_found


def test_killed_broker_remembers_if_it_saves_each_change(broker: Mosquitto) -> None:
    broker.settings |= {"autosave_interval": 1, "autosave_on_changes": True}
    broker.restart()
    leave_subscription(broker)
    publish(broker, "saved")
    # The broker confirms a message before it saves it, and a second message comes after the save.
    publish(broker, "later")
    broker.kill()
    broker.start()
    client = Subscriber("absent", lasting=True)
    with connected(client, broker) as session_found:
        assert session_found
        assert client.received.get(timeout=PATIENCE) == b"saved"


def test_start_needs_an_answer_in_the_protocol(broker: Mosquitto) -> None:
    assert broker.answers()
    broker.stop()
    with socket.create_server((HOST, broker.port)):
        assert accepts(broker.port)
        assert not broker.answers()


@pytest.mark.usefixtures("needs_mosquitto")
def test_broker_that_refuses_strangers_is_ready(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, allow_anonymous=False) as server:
        assert server.running


@pytest.mark.usefixtures("needs_mosquitto")
def test_failing_start_shows_the_log(tmp_path: Path) -> None:
    server = Mosquitto(tmp_path, no_such_setting="x")
    with pytest.raises(ServerError, match="no_such_setting"):
        server.start()
    assert not server.running


@pytest.mark.usefixtures("needs_mosquitto")
def test_mute_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 0.3)
    monkeypatch.setattr(Mosquitto, "answers", lambda _: False)
    server = Mosquitto(tmp_path)
    with pytest.raises(ServerError, match=r"no answer in 0\.3 s"):
        server.start()
    assert not server.running


def test_running_server_is_not_started_again(broker: Mosquitto) -> None:
    with pytest.raises(ServerError, match="already running"):
        broker.start()
    assert broker.running


def test_foreign_server_on_the_port_is_noticed(broker: Mosquitto, tmp_path: Path) -> None:
    late = Mosquitto(tmp_path / "late")
    late.port = broker.port
    with pytest.raises(ServerError, match="another process has the port"):
        late.start()
    assert broker.answers()


@pytest.mark.usefixtures("needs_mosquitto")
def test_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = Mosquitto(tmp_path)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        # The kernel would kill it in the moment in which the thread ends.
        time.sleep(0.1)
        assert server.running
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of a parent")
@pytest.mark.usefixtures("needs_mosquitto")
def test_server_dies_with_the_test_run(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from tests.servers import Mosquitto\n"
        "server = Mosquitto(pathlib.Path(sys.argv[1]))\n"
        "server.start()\n"
        "print(server.port, server.answers(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    port, answered = done.stdout.split()
    assert answered == "True"
    deadline = time.perf_counter() + PATIENCE
    while accepts(int(port)):
        assert time.perf_counter() < deadline, "the broker outlived its test run"
        time.sleep(0.01)


def test_free_ports_differ_and_accept_a_listener() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    with socket.create_server((HOST, ports[0])):
        pass


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No program can be found and no variable is set."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "SYSTEM_FOLDERS", (str(tmp_path / "sbin"),))
    for variable in (*servers.URL_VARIABLES.values(), servers.REQUIRE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def install(binary: str, folder: Path) -> None:
    """Put an empty program into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / binary).touch(mode=0o755)


@pytest.mark.parametrize("wanted", ["", "mosquitto", "mosquitto,other", "mariadbs"])
def test_missing_server_skips(bare: pytest.MonkeyPatch, wanted: str) -> None:
    bare.setenv("SHOP_TEST_REQUIRE", wanted)
    with pytest.raises(pytest.skip.Exception) as caught:
        require("mariadb", "row locks")
    assert str(caught.value) == (
        "mariadbd, mariadb-install-db not installed: not tested: row locks"
    )


@pytest.mark.parametrize("wanted", ["mosquitto", "mariadb, mosquitto", " mosquitto ,x"])
def test_missing_server_fails_where_it_is_required(bare: pytest.MonkeyPatch, wanted: str) -> None:
    bare.setenv("SHOP_TEST_REQUIRE", wanted)
    with pytest.raises(pytest.fail.Exception, match="mosquitto not installed: not tested: events"):
        require("mosquitto", "events")


def test_server_on_path_or_in_system_folder_is_found(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install("mosquitto", tmp_path)
    assert require("mosquitto", "events") is None
    install("mariadbd", tmp_path / "sbin")
    with pytest.raises(pytest.skip.Exception, match=r"^mariadb-install-db not"):
        require("mariadb", "row locks")
    install("mariadb-install-db", tmp_path)
    assert require("mariadb", "row locks") is None
    assert servers.find("mariadbd") == str(tmp_path / "sbin" / "mariadbd")


def test_external_server_is_used_unless_a_private_one_is_needed(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("SHOP_TEST_MQTT_URL", "mqtt://broker.example")
    assert servers.external_url("mosquitto") == "mqtt://broker.example"
    assert servers.external_url("mariadb") is None
    assert require("mosquitto", "events") == "mqtt://broker.example"
    with pytest.raises(pytest.skip.Exception):
        require("mosquitto", "a broker that dies", private=True)
    bare.setenv("SHOP_TEST_MQTT_URL", "")
    with pytest.raises(pytest.skip.Exception):
        require("mosquitto", "events")
