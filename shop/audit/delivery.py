"""Delivery: events on one connection to a sink, and what became of each.

A sink may refuse an event, and then the question is whether it is the event or the sink. A gap
event in its place tells: a sink that takes it is well, so the event is parked. A sink that refuses
the gap event too may still take others: when it does, the event is parked all the same; when it
refuses so many different ones that it must be the sink, or there is nothing else to compare with,
nothing is parked and everything is tried again later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shop.audit.events import Event, Gap
from shop.audit.redelivery import MOST, Bite
from shop.audit.sinks.base import Sink, SinkDown, SinkRefused, Window

#: How often what may pass is tried before the event itself is thought to be the reason.
TRIES = 5
#: So many different events in a row that are refused with their gap events are an outage.
DIFFERENT = 20


@dataclass(slots=True)
class Memory:
    """What a sink refused, remembered from one connection to the next."""

    #: By table and reason: how often, and up to which position. Forgotten when the sink takes a
    #: later event of the table.
    tries: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    #: Up to here events go one at a time: it is not known which one broke the last connection.
    careful_until: int = 0
    #: Whether bites have one event and go alone, for the same reason.
    careful_bites: bool = False


class Delivery:
    """The events in flight on one connection. `parked` are gap events by the missing position."""

    def __init__(self, sink: Sink, position: int, memory: Memory) -> None:
        self.parked: dict[int, tuple[Gap, bool]] = {}
        self.bite: Bite | None = None
        self._sink = sink
        self._memory = memory
        self._window = Window(position)
        self._ahead: dict[int, Event] = {}
        self._gaps: dict[int, Gap] = {}
        self._suspects: dict[int, Gap] = {}
        self._last = position

    @property
    def position(self) -> int:
        """Everything up to it is acknowledged or parked."""
        return self._window.position

    @property
    def in_flight(self) -> int:
        """How many events wait for an acknowledgement that can come."""
        return self._window.waiting - len(self._suspects) + (self.bite.left if self.bite else 0)

    @property
    def is_careful(self) -> bool:
        """Whether events go one at a time."""
        return self._window.position < self._memory.careful_until

    @property
    def doubts(self) -> str | None:
        """Why a refused event waits for another one that tells whether it is the sink."""
        return next((gap.reason for gap in self._suspects.values()), None)

    def has_room(self, window: int) -> bool:
        """Whether one more event may be handed over."""
        if self.bite is not None and self._memory.careful_bites:
            return False
        return len(self._window) - len(self._suspects) < (1 if self.is_careful else window)

    def hand_over(self, event: Event) -> bool:
        """Publish an event, or say that it is missing; whether it was. Raises SinkDown."""
        self._window.sent(event.position)
        self._ahead[event.position] = event
        self._last = event.position
        try:
            self._sink.publish(event)
        except SinkRefused as refusal:
            self._refused(event, refusal)
            return False
        return True

    @property
    def bite_size(self) -> int:
        """How many events the next bite may have; 0 when it has to wait."""
        if not self._memory.careful_bites:
            return MOST
        return 0 if self.in_flight else 1

    def begin(self, bite: Bite) -> None:
        """Publish events that the sink had, or was owed, once more. Raises SinkDown."""
        self.bite = bite
        for event in bite.events:
            try:
                self._sink.publish(event, again=True)
            except SinkRefused as refusal:
                bite.refuse(event.position, str(refusal))

    def listen(self, timeout: float) -> bool:
        """Hear what the sink says; whether it said anything. Raises SinkDown."""
        try:
            positions = self._sink.acknowledged(timeout)
        except SinkRefused as refusal:
            self._heard_refusal(refusal)
            return True
        if self.bite is not None:
            positions = self.bite.acknowledge(positions)
        self._window.acknowledge(positions)
        if self._gaps or self._suspects or self._memory.tries:
            self._take_back(positions)
        return bool(positions)

    def settled(self) -> list[tuple[Gap, bool]]:
        """What is to be parked up to `position`; forgets what lies behind it."""
        passed = [position for position in self.parked if position <= self.position]
        self._ahead = {n: event for n, event in self._ahead.items() if n > self.position}
        return [self.parked.pop(position) for position in passed]

    def break_off(self) -> None:
        """The connection is given up: what was in flight goes one at a time next time."""
        if self._last > self.position:
            self._memory.careful_until = self._last
        if self.bite is not None and self.bite.left:
            self._memory.careful_bites = True

    def _heard_refusal(self, refusal: SinkRefused) -> None:
        position = refusal.position
        if self.bite is not None and position is not None and self.bite.awaits(position):
            self.bite.refuse(position, str(refusal))
        elif position in self._gaps:
            self._suspect(self._gaps.pop(position))
        elif position in self._ahead:
            self._refused(self._ahead[position], refusal)
        else:
            raise SinkDown(str(refusal)) from refusal

    def _refused(self, event: Event, refusal: SinkRefused) -> None:
        if not (refusal.lasting or self._suspects or self._is_overtaken(event)):
            kind = event.table, str(refusal)
            tries = self._memory.tries.get(kind, (0, 0))[0] + 1
            self._memory.tries[kind] = tries, event.position
            if tries < TRIES:
                raise SinkDown(f"an event was refused, which may pass: {refusal}") from refusal
        self._announce(Gap(event, str(refusal)))

    def _is_overtaken(self, event: Event) -> bool:
        """Whether a later event of the row was handed over: then this one must not follow it."""
        row = event.table, event.row_id
        return any(
            (other.table, other.row_id) == row and position > event.position
            for position, other in self._ahead.items()
        )

    def _announce(self, gap: Gap) -> None:
        try:
            self._sink.publish(gap)
        except SinkRefused:
            self._suspect(gap)
        else:
            self._gaps[gap.position] = gap

    def _suspect(self, gap: Gap) -> None:
        if self._window.was_passed(gap.position):
            # The sink took one that came after it.
            self.parked[gap.position] = gap, False
            self._window.acknowledge([gap.position])
            return
        self._suspects[gap.position] = gap
        if len(self._suspects) >= DIFFERENT:
            raise SinkDown(f"{self._sink.name} refuses everything: {gap.reason}")

    def _take_back(self, positions: Sequence[int]) -> None:
        """What the sink takes shows that it is well: suspects before it are parked."""
        for position in positions:
            if (gap := self._gaps.pop(position, None)) is not None:
                self.parked[position] = gap, True
            elif (event := self._ahead.get(position)) is not None:
                self._memory.tries = {
                    kind: (tries, last)
                    for kind, (tries, last) in self._memory.tries.items()
                    if kind[0] != event.table or last > position
                }
            cleared = [n for n in self._suspects if n < position]
            for n in cleared:
                self.parked[n] = self._suspects.pop(n), False
            self._window.acknowledge(cleared)
