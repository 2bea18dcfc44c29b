"""The state machine of orders: which action moves which order where.

An order stands on three axes. This table is all there is: operations ask it before they change
anything, and answers show what it allows as `next_actions`.
"""

from __future__ import annotations

from dataclasses import dataclass

from shop.errors import Conflict

STATUSES = ("placed", "completed", "cancelled")
PAYMENT_STATUSES = ("unpaid", "pending", "paid", "failed", "partially_refunded", "refunded")
#: `partially_shipped` and `returned` are kept free for shipments of parts and for returns.
FULFILMENT_STATUSES = ("unfulfilled", "partially_shipped", "shipped", "delivered", "returned")
_ANY: frozenset[str] = frozenset()


class InvalidTransition(Conflict):
    """The order is not in a state for this."""

    slug = "invalid-transition"


@dataclass(frozen=True, slots=True)
class State:
    """Where an order stands."""

    status: str
    payment_status: str
    fulfilment_status: str


@dataclass(frozen=True, slots=True)
class Move:
    """An action: from which states it starts (an empty set means any), and who may do it."""

    status: frozenset[str] = _ANY
    payment_status: frozenset[str] = _ANY
    fulfilment_status: frozenset[str] = _ANY
    for_staff: bool = False

    def starts_from(self, state: State) -> bool:
        """Whether an order in this state may be moved so."""
        return (
            (not self.status or state.status in self.status)
            and (not self.payment_status or state.payment_status in self.payment_status)
            and (not self.fulfilment_status or state.fulfilment_status in self.fulfilment_status)
        )


MOVES: dict[str, Move] = {
    "pay": Move(status=frozenset({"placed"}), payment_status=frozenset({"unpaid", "failed"})),
    "ship": Move(
        status=frozenset({"placed"}),
        payment_status=frozenset({"paid"}),
        fulfilment_status=frozenset({"unfulfilled"}),
        for_staff=True,
    ),
    "deliver": Move(
        status=frozenset({"placed"}), fulfilment_status=frozenset({"shipped"}), for_staff=True
    ),
    "cancel": Move(
        status=frozenset({"placed"}), fulfilment_status=frozenset({"unfulfilled"})
    ),
    "refund": Move(
        payment_status=frozenset({"paid", "partially_refunded"}), for_staff=True
    ),
}  # fmt: skip


def check(action: str, state: State) -> None:
    """Raises InvalidTransition when the table has no such move."""
    if not MOVES[action].starts_from(state):
        raise InvalidTransition(
            f"The order is {state.status}, {state.payment_status} and {state.fulfilment_status}:"
            f" {action} is not possible."
        )


def next_actions(state: State, *, is_staff: bool) -> list[str]:
    """What a caller may do with an order in this state, in the order of the table."""
    return [
        action
        for action, move in MOVES.items()
        if move.starts_from(state) and (is_staff or not move.for_staff)
    ]
