"""A sink that keeps messages in a list: for tests, and for a shop embedded in another program."""

from __future__ import annotations

from collections.abc import Sequence

from shop.audit.events import Outgoing
from shop.audit.sinks.base import Sink


class MemorySink(Sink):
    """Acknowledges each event at once."""

    name = "memory"

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._acknowledged: list[int] = []

    def open(self) -> None:
        self._acknowledged.clear()

    def publish(self, event: Outgoing, *, again: bool = False) -> None:
        self.messages.append(event.message())
        self._acknowledged.append(event.position)

    def acknowledged(self, timeout: float) -> Sequence[int]:
        positions, self._acknowledged = self._acknowledged, []
        return positions

    def close(self) -> None:
        self._acknowledged.clear()
