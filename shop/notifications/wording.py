"""What notifications say, made from their kind and data when they are shown or mailed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: ISO 4217: currencies whose smallest unit is not a hundredth.
_DIGITS = dict.fromkeys(
    ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND",
     "VUV", "XAF", "XOF", "XPF"), 0,
) | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)  # fmt: skip

#: Title and text; `{name}` is taken from the data.
_WORDS: Mapping[str, tuple[str, str]] = {
    "order-placed": (
        "We have your order {number}",
        "Thank you for your order {number} of {total}.",
    ),
    "order-paid": (
        "Your order {number} is paid",
        "We have received {total} for your order {number}.",
    ),
    "order-shipped": ("Your order {number} is on its way", "Your order {number} was sent."),
    "order-delivered": ("Your order {number} has arrived", "Your order {number} was delivered."),
    "order-refunded": (
        "Money goes back to you",
        "{amount} of your order {number} were given back.",
    ),
    "order-cancelled": (
        "Your order {number} was cancelled",
        "Your order {number} was cancelled. What was paid goes back.",
    ),
    "review-approved": ("Your review is published", "Your review {review_id} can be seen by all."),
    "review-reply": ("We have answered your review", "There is an answer to your review."),
    "review-request": (
        "How do you like it?",
        "Your order {number} has arrived. Tell others what you think of it.",
    ),
    "low-stock": (
        "{name} is running out",
        "Of {name} {on_hand} are left; the mark is {threshold}.",
    ),
    "digest": (
        "The shop since yesterday",
        "Orders: {orders}. Paid: {revenue}. Given back: {refunds}. Running out: {low_stock}."
        " Events that were refused: {parked}.",
    ),
}


def say(kind: str, data: Mapping[str, Any]) -> tuple[str, str]:
    """Title and text of a notification that is not a message."""
    title, text = _WORDS[kind]
    shown = {name: _plain(value) for name, value in data.items()}
    return title.format_map(shown), text.format_map(shown)


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"amount", "currency"}:
        return _money(value["amount"], value["currency"])
    return value


def _money(amount: int, currency: str) -> str:
    digits = _DIGITS.get(currency, 2)
    whole, part = divmod(amount, 10**digits)
    return f"{whole}.{part:0{digits}} {currency}" if digits else f"{whole} {currency}"
