"""The slugs that products had.

A slug that a product gave up leads to that product, not to another slug: whatever it is called
later, one redirection goes there, and there can be no circle. A slug that a product *has* always
means that product, whoever had it before; the former one is only passed over, and counts again when
the slug is free. Of several products that gave up the same slug the last one has it.
"""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session

from shop.products.models import Product, ProductSlug


def remember(session: Session, product: Product, slug: str) -> None:
    """The product, which must be locked, gives up this slug."""
    known = session.get(ProductSlug, slug, populate_existing=True)
    if known is None:
        session.add(ProductSlug(slug=slug, product_id=product.id))
    else:
        known.product_id = product.id


def forget(session: Session, product: Product) -> None:
    """Forget what a product, which is about to be deleted, was called."""
    session.execute(delete(ProductSlug).where(ProductSlug.product_id == product.id))
