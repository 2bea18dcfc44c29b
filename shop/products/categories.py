"""The tree of categories."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from slugify import slugify
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop.db import is_duplicate
from shop.errors import Conflict, Fault, Invalid, NotFound
from shop.products import queries
from shop.products.models import Category
from shop.products.operations import SlugTaken

#: Levels of the tree; somebody has to find through it.
DEEPEST = 10


class BadParent(Invalid):
    """The category cannot be put there."""

    def __init__(self, why: str) -> None:
        super().__init__(why, faults=(Fault("/parent_id", why),))


class CategoryInUse(Conflict):
    """Something is in the category."""


def create_category(session: Session, data: dict[str, Any]) -> Category:
    """Create a category. Raises SlugTaken, BadParent."""
    tree = locked_tree(session)
    slug = data.get("slug") or slugify(data["name"], max_length=200, word_boundary=True)
    category = Category(
        name=data["name"], slug=slug or "category", position=data["position"],
        parent_id=data["parent_id"],
    )  # fmt: skip
    _check_parent(tree, None, data["parent_id"])
    session.add(category)
    _flush(session)
    return category


def change_category(session: Session, category: Category, changes: dict[str, Any]) -> None:
    """Change or move a category, with all below it. Raises SlugTaken, BadParent."""
    if "parent_id" in changes:
        _check_parent(locked_tree(session), category.id, changes["parent_id"])
    for field, value in changes.items():
        setattr(category, field, value)
    _flush(session)


def delete_category(session: Session, category: Category) -> None:
    """Delete an empty category. Raises CategoryInUse."""
    tree = locked_tree(session)
    if any(other.parent_id == category.id for other in tree):
        raise CategoryInUse("There are categories below it: move or delete them first.")
    if session.execute(queries.products_in([category.id]).limit(1)).first() is not None:
        raise CategoryInUse("There are products in it: move them first.")
    session.delete(category)
    session.flush()


def find_category(session: Session, category_id: int) -> Category:
    """The category, after the lock of the tree. Raises NotFound."""
    for category in locked_tree(session):
        if category.id == category_id:
            return category
    raise NotFound(f"There is no category {category_id}.")


def locked_tree(session: Session) -> Sequence[Category]:
    """All categories, locked in one order: two moves at once must not make a circle."""
    return session.scalars(queries.all_categories().with_for_update()).all()


def below(tree: Sequence[Any], category_id: int) -> set[int]:
    """Ids of a category and everything below it; of a tree of categories, or rows of theirs."""
    children: defaultdict[int | None, list[int]] = defaultdict(list)
    for category in tree:
        children[category.parent_id].append(category.id)
    found, waiting = set[int](), [category_id]
    while waiting:
        found.add(current := waiting.pop())
        waiting += children[current]
    return found


def counted_below(tree: Sequence[Category], counts: Iterable[Sequence[Any]]) -> Counter[int]:
    """What is counted in each category and below it, of pairs of a category and a number."""
    parents = {category.id: category.parent_id for category in tree}
    totals: Counter[int] = Counter()
    for category_id, count in counts:
        above: int | None = category_id
        while above is not None:
            totals[above] += count
            above = parents.get(above)
    return totals


def _check_parent(tree: Sequence[Category], category_id: int | None, parent_id: int | None) -> None:
    if parent_id is None:
        return
    parents = {category.id: category.parent_id for category in tree}
    if parent_id not in parents:
        raise BadParent("There is no such category.")
    if category_id is not None and parent_id in below(tree, category_id):
        raise BadParent("A category cannot be below itself.")
    above, height = parent_id, 1
    while (up := parents[above]) is not None:
        above, height = up, height + 1
    if height + (1 if category_id is None else _height(tree, category_id)) > DEEPEST:
        raise BadParent(f"The tree would be deeper than {DEEPEST} levels.")


def _height(tree: Sequence[Category], category_id: int) -> int:
    lower = [_height(tree, c.id) for c in tree if c.parent_id == category_id]
    return 1 + max(lower, default=0)


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        if is_duplicate(error, "categories", "slug"):
            raise SlugTaken("The slug is taken. Choose another one.") from error
        raise
