"""A consumer of everything that happens in a shop: each event has its effect exactly once.

Give `Consumer` a function and run it; or run this file, which counts changes by table::

    python examples/consumer.py mqtt://127.0.0.1:1883 http://127.0.0.1:8000 inbox.db

with an access token or API key of staff in SHOP_TOKEN. docs/events.md says why it does this.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

Event = dict[str, Any]
Effect = Callable[[sqlite3.Connection, Event], None]

_TABLES = (
    "PRAGMA journal_mode = WAL",
    "CREATE TABLE IF NOT EXISTS inbox"
    " (consumer TEXT, event_id TEXT, PRIMARY KEY (consumer, event_id))",
    "CREATE TABLE IF NOT EXISTS progress (consumer TEXT PRIMARY KEY, position INTEGER NOT NULL)",
)
#: A hole is seen by the event after it; after the last one there is none, so look now and then.
_LOOK_SECONDS = 30.0
_PAUSE_SECONDS = 1.0
_PAGE = 100
#: Announces an event that the broker refused, with that event's position.
_GAP = "shop.audit.gap"


class Consumer:
    """Reads a shop's events by MQTT, and by HTTP what the broker lost.

    `effect` gets the connection to `database`, inside a transaction, and an event; what it writes
    there commits together with the fact that the event was seen. `name` must be this consumer's
    alone: the broker keeps its messages under it.
    """

    def __init__(
        self, broker: str, shop: str, token: str, database: str, effect: Effect,
        *, name: str = "consumer", topic: str = "shop/#",
    ) -> None:  # fmt: skip
        self._broker, self._shop, self._token = urlsplit(broker), shop, token
        self._effect, self._name, self._topic = effect, name, topic
        self._database = sqlite3.connect(database, isolation_level=None)
        for statement in _TABLES:
            self._database.execute(statement)
        self._database.execute("INSERT OR IGNORE INTO progress VALUES (?, 0)", (name,))
        self._look_at = 0.0

    @property
    def position(self) -> int:
        """Every event up to this position had its effect."""
        where = "SELECT position FROM progress WHERE consumer = ?"
        return int(self._database.execute(where, (self._name,)).fetchone()[0])

    def run(self) -> None:
        """Consume for ever."""
        while True:
            client = self._new_client()
            try:
                client.connect(self._broker.hostname or "", self._broker.port or 1883, **_KEPT)
                while client.loop(1.0) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                    if client.is_connected():
                        self._look_now_and_then()
            except OSError as error:
                print(f"interrupted: {error}", file=sys.stderr)
            # What was not acknowledged comes again with the next connection.
            client.disconnect()
            time.sleep(_PAUSE_SECONDS)

    def catch_up(self) -> None:
        """Take from the shop's log what did not come by the broker."""
        while events := self._events_after(self.position):
            for event in events:
                self._take(event)

    def _look_now_and_then(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        try:
            self.catch_up()
        except OSError as error:
            # The broker may well have what comes next.
            print(f"the shop's log cannot be read: {error}", file=sys.stderr)

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, self._name, protocol=mqtt.MQTTv5, manual_ack=True,
            reconnect_on_failure=False,
        )  # fmt: skip
        if self._broker.username:
            client.username_pw_set(self._broker.username, self._broker.password)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: mqtt.Client, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            raise ConnectionError(f"the broker refuses: {reason}")
        client.subscribe(self._topic, qos=1)
        # A broker that was restarted may have lost the session with all that waited in it.
        self._look_at = 0.0

    def _on_message(self, client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        # Nothing in it: a row is gone, and the broker forgets what it retained of it.
        if message.payload:
            event = json.loads(message.payload)
            if event["type"] == _GAP or int(event["position"]) > self.position + 1:
                self.catch_up()
            if event["type"] != _GAP:
                self._take(event)
        self._acknowledge(client, message)

    def _acknowledge(self, client: mqtt.Client, message: mqtt.MQTTMessage) -> None:
        client.ack(message.mid, message.qos)

    def _take(self, event: Event) -> None:
        """Effect, inbox and progress in one transaction; nothing if the inbox has the event."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            row = (self._name, event["id"])
            if self._database.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?)", row).rowcount:
                self._effect(self._database, event)
            # From 0 on to wherever the log begins; then one by one.
            self._database.execute(
                "UPDATE progress SET position = ?1 WHERE consumer = ?2 AND position IN (0, ?1 - 1)",
                (int(event["position"]), self._name),
            )
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _events_after(self, position: int) -> list[Event]:
        url = f"{self._shop}/api/v1/audit/events?limit={_PAGE}"
        if position:
            url += f"&after={position}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                events: list[Event] = json.load(answer)["items"]
        except urllib.error.HTTPError as error:
            if error.code == 410:
                # Too long away: a person has to decide how to go on without what is gone.
                sys.exit(error.read().decode())
            raise
        return events


def _kept_session() -> dict[str, Any]:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    # Seconds that the broker keeps what comes while nobody is connected: a week.
    properties.SessionExpiryInterval = 7 * 86_400
    return {"keepalive": 30, "clean_start": False, "properties": properties}


_KEPT = _kept_session()


def count_by_table(database: sqlite3.Connection, event: Event) -> None:
    """An effect that shows twice when it happens twice."""
    database.execute("CREATE TABLE IF NOT EXISTS changes (name TEXT PRIMARY KEY, count INTEGER)")
    database.execute(
        "INSERT INTO changes VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET count = count + 1",
        (event["data"]["table"],),
    )


if __name__ == "__main__":
    _, where, api, file = sys.argv
    Consumer(where, api, os.environ["SHOP_TOKEN"], file, count_by_table).run()
