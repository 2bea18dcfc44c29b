"""What every sink is: a place outside the process that acknowledges events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from shop.audit.events import Outgoing


class SinkDown(Exception):
    """The sink cannot be reached, or stopped answering; try again later with a new connection."""


class SinkRefused(Exception):
    """The sink will not take the event at `position` (None: it does not say which).

    `lasting` means that it is for this very message (it is too large, say) and would be the same
    each time; otherwise it may be for everything, and may pass.
    """

    def __init__(self, why: str, position: int | None = None, *, lasting: bool = False) -> None:
        super().__init__(why)
        self.position = position
        self.lasting = lasting


class Sink(ABC):
    """One connection to a broker at a time. Used from one thread.

    The table is the only queue: whatever a connection had not acknowledged when it was closed is
    read from the log and published again.
    """

    name: str

    @abstractmethod
    def open(self) -> None:
        """Connect. Raises SinkDown."""

    @abstractmethod
    def publish(self, event: Outgoing, *, again: bool = False) -> None:
        """Hand an event over without waiting for its acknowledgement.

        `again` says that later events of its row may have been handed over before: it tells no
        last state of anything.

        Raises:
            SinkDown: the connection is lost.
            SinkRefused: it cannot be sent at all; the next one can.
        """

    def flush(self) -> None:  # noqa: B027 (a sink that keeps nothing back has nothing to do)
        """Send what was handed over and kept back to go together; so does `acknowledged`.

        Raises:
            SinkDown: the connection is lost.
        """

    @abstractmethod
    def acknowledged(self, timeout: float) -> Sequence[int]:
        """Positions acknowledged since the last call; waits for one at most `timeout` seconds.

        Raises:
            SinkDown: the connection is lost.
            SinkRefused: the broker will not take an event; what it acknowledged before was
                answered by an earlier call.
        """

    @abstractmethod
    def close(self) -> None:
        """Drop the connection and everything unacknowledged on it."""


class Window:
    """Events in flight, and the last position up to which *all* are acknowledged."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._sent: deque[int] = deque()
        self._done: set[int] = set()

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def waiting(self) -> int:
        """How many events are not acknowledged."""
        return len(self._sent) - len(self._done)

    def was_passed(self, position: int) -> bool:
        """Whether a later event was acknowledged already."""
        return any(other > position for other in self._done)

    def sent(self, position: int) -> None:
        """An event was handed to the sink; positions come in ascending order."""
        self._sent.append(position)

    def acknowledge(self, positions: Sequence[int]) -> None:
        """Acknowledgements came, in any order."""
        self._done.update(positions)
        while self._sent and self._sent[0] in self._done:
            self.position = self._sent.popleft()
            self._done.discard(self.position)
