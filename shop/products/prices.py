"""What variants cost, what they cost before, and which prior price may be shown beside it.

**The rule of the prior price** (Directive 98/6/EC, Article 6a, paragraphs 1 and 2). When the price
of a variant changes at an instant T, the prior price is the lowest price that was in force at any
moment of the 30 days before T: [T - 30 days, T). The price that was in force when those 30 days
began counts, however old it is; for a variant that is younger, all of its prices count. It is shown
only if the new price is lower than it, since only then is the new price a reduction; otherwise
there is none. It stands as long as the new price does: the Directive counts from the moment in
which a reduction began, so time alone changes nothing and no job is needed.

A series of reductions is not treated as one (paragraph 5 leaves that to the member states): each
step is compared with the lowest price of its own 30 days, which is never to the consumer's loss.
Prices from the time of a draft count too; that can only make the prior price lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from shop import clock
from shop.audit.capture import AuditedWrites
from shop.inserts import Row
from shop.products import queries
from shop.products.models import PriceChange, Variant

WINDOW = timedelta(days=30)


def open_history(writes: AuditedWrites, variants: Sequence[Row]) -> None:
    """Begin the history of new variants, in one statement for all of them."""
    moment = clock.now()
    rows = [
        {
            "variant_id": variant["id"], "price_amount": variant["price_amount"],
            "currency": variant["currency"], "from_at": moment,
        }
        for variant in variants
    ]  # fmt: skip
    writes.later(PriceChange.__table__, rows)


def set_price(session: Session, variant: Variant, price: dict[str, Any]) -> None:
    """Let a variant, which must be locked, cost this from now on, and keep what it did cost.

    `price` is a loaded `Money`. Nothing happens when it costs that already.
    """
    amount, currency = price["amount"], price["currency"]
    if (variant.price_amount, variant.currency) == (amount, currency):
        return
    moment = clock.now()
    lowest = session.execute(
        queries.lowest_price(variant.id, currency, moment - WINDOW)
    ).scalar_one_or_none()
    variant.price_amount, variant.currency = amount, currency
    variant.prior_price_amount = lowest if lowest is not None and amount < lowest else None
    session.add(
        PriceChange(variant_id=variant.id, price_amount=amount, currency=currency, from_at=moment)
    )
