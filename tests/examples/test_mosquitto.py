"""The samples for Mosquitto start as they are, and keep what they say they keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.broker_loss import arrived, publish
from tests.running import ROOT, Subscriber
from tests.servers import HOST, Mosquitto, require

PLACES = {"listener 1883 127.0.0.1", "persistence_location /var/lib/mosquitto/"}


class Sampled(Mosquitto):
    """A broker with a file of ours: only port, folder and user are its own."""

    def __init__(self, folder: Path, sample: Path) -> None:
        super().__init__(folder, log_dest="stderr")
        self._sample = sample.read_text()

    def prepare(self) -> None:
        """See `Mosquitto`."""
        super().prepare()
        lines = set(self._sample.splitlines())
        assert lines >= PLACES
        own = self.configuration.read_text().splitlines()
        kept = [line for line in self._sample.splitlines() if line not in PLACES]
        places = [line for line in own if line.startswith(("listener", "persistence_l", "user"))]
        self.configuration.write_text("\n".join([*places, "log_dest stderr", *kept]) + "\n")


@pytest.mark.parametrize(("name", "most"), [("default", 100), ("strict", 1)])
def test_a_killed_broker_loses_no_more_than_the_sample_says(
    tmp_path: Path, name: str, most: int
) -> None:
    """DO-12."""
    require("mosquitto", "the samples for Mosquitto", private=True)
    events = 1100 if name == "default" else 110
    with Sampled(tmp_path, ROOT / "examples" / "mosquitto" / f"{name}.conf") as broker:
        with Subscriber(broker.port, topic="bench/#"):
            pass
        publish(broker.port, events)
        broker.kill()
        broker.start()

        assert f"listener {broker.port} {HOST}" in broker.configuration.read_text()
        # More than the thousand that Mosquitto keeps by itself.
        assert events - most <= arrived(broker.port) <= events
