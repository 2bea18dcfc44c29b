"""The embedded MQTT broker of development: rumqttd as a child process, on loopback.

Started once, by the gunicorn master. Its address stands in `mqtt.url` in the data folder, where
the workers and the command line find it. It keeps nothing on disk; the audit log is the truth.
"""

from __future__ import annotations

import atexit
import socket
from pathlib import Path

from iotcore import Broker

_URL_FILE = "mqtt.url"

#: iotcore's own defaults listen on every interface, speak no MQTT 5 and drop larger payloads.
_SETTINGS = """\
id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 500
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "mqtt"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 16777216
max_inflight_count = 500
dynamic_filters = true
"""


def embedded_url(folder: Path) -> str | None:
    """The address of the embedded broker that runs over this data folder, if one does."""
    try:
        return (folder / _URL_FILE).read_text().strip() or None
    except FileNotFoundError:
        return None


class EmbeddedBroker:
    """The broker on `port`, or on the next free port after it."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self.port = _free_port(port)
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._broker: Broker | None = None

    def start(self) -> None:
        """Start it and publish its address to the processes of this data folder."""
        settings = self._folder / "mqtt.toml"
        settings.write_text(_SETTINGS.format(port=self.port))
        self._broker = Broker(config_path=str(settings)).start()
        (self._folder / _URL_FILE).write_text(self.url + "\n")

    def disown(self) -> None:
        """In a process that was forked from the owner: leave the broker alone at the end."""
        if self._broker is not None:
            atexit.unregister(self._broker.stop)

    def stop(self) -> None:
        """Stop it and withdraw its address."""
        (self._folder / _URL_FILE).unlink(missing_ok=True)
        if self._broker is not None:
            self._broker.stop()


def _free_port(first: int) -> int:
    for port in range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {first} to {first + 99} for the embedded broker")
