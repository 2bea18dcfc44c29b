"""Definitions of attributes, and whether values fit them.

A definition binds what is written from then on. What is stored stays as it is, and stays editable:
a value that a product has already is not judged again. So no change of a definition, and no end of
one, ever breaks a product. Attributes without a definition are free.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shop.db import is_duplicate
from shop.errors import Conflict, Fault, Invalid, NotFound
from shop.marks import marks_of
from shop.products import queries
from shop.products.models import AttributeDefinition

Values = Mapping[str, Any]

_TYPES = {"text": str, "integer": int, "boolean": bool, "choice": str}
_WANTED = {
    "text": "This attribute is a text.",
    "integer": "This attribute is a whole number.",
    "boolean": "This attribute is true or false.",
}


class CodeTaken(Conflict):
    """A code names one attribute."""


class BadOptions(Invalid):
    """A choice has options, and nothing else has."""

    def __init__(self, why: str) -> None:
        super().__init__(why, faults=(Fault("/options", why),))


class AttributeMisfit(Invalid):
    """A value is not what the definition of its attribute allows."""


#: Attributes with the JSON pointer to them.
Parts = Sequence[tuple[str, Values]]
#: Rows with `code`, `kind` and `options`, by code.
Definitions = Mapping[str, Any]
#: How long definitions are remembered, which other machines may change, and those of how many sets
#: of codes.
_SECONDS, _MOST_KNOWN = 0.8, 500
#: By database and codes: the mark when it was asked, until when it counts, and the answer.
_known: WeakKeyDictionary[Any, dict[frozenset[str], tuple[bytes, float, Definitions]]] = (
    WeakKeyDictionary()
)


def check(session: Session, parts: Parts, known: Values = MappingProxyType({})) -> None:
    """Compare attributes with their definitions.

    Values that are in `known` too are stored already and not judged.

    Raises:
        AttributeMisfit: with a fault for each value that does not fit.
    """
    judge(parts, definitions_of(session, parts), known)


def definitions_of(session: Session, parts: Parts) -> Definitions:
    """The definitions that there are of these attributes.

    Every new product asks for them, and hardly ever does one change: they are remembered for a
    moment, while the mark says that none has changed.
    """
    codes = frozenset(code for _, values in parts for code in values)
    if not codes:
        return {}
    bind = session.get_bind()
    mark = marks_of(bind.engine).get("attributes")
    if mark is None:
        return _ask(session, codes)
    known = _known.setdefault(bind, {})
    seen, now = mark.value(), time.monotonic()
    if codes not in known or known[codes][0] != seen or known[codes][1] < now:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[codes] = (seen, now + _SECONDS, _ask(session, codes))
    return known[codes][2]


def _ask(session: Session, codes: Collection[str]) -> Definitions:
    rows = session.connection().execute(queries.DEFINITIONS_OF, {"codes": sorted(codes)})
    return {row.code: row for row in rows}


def judge(parts: Parts, definitions: Definitions, known: Values = MappingProxyType({})) -> None:
    """The same with definitions that are known already. Raises AttributeMisfit."""
    if not definitions:
        return
    faults = tuple(
        fault for pointer, values in parts for fault in _faults(pointer, values, known, definitions)
    )
    if faults:
        raise AttributeMisfit("An attribute is not as it is defined.", faults=faults)


def _faults(
    pointer: str, values: Values, known: Values, definitions: Definitions
) -> Iterator[Fault]:
    for code, value in values.items():
        definition = definitions.get(code)
        # True is 1 to Python, and another value here.
        stored = code in known and (type(known[code]), known[code]) == (type(value), value)
        if definition is None or stored:
            continue
        if (why := _misfit(definition.kind, definition.options, value)) is not None:
            yield Fault(f"{pointer}/{code}", why)


def _misfit(kind: str, options: Sequence[str], value: Any) -> str | None:
    if kind == "choice":
        return None if value in options else f"Not one of its options: {', '.join(options[:10])}"
    return None if type(value) is _TYPES[kind] else _WANTED[kind]


def create_definition(session: Session, data: dict[str, Any]) -> AttributeDefinition:
    """Define an attribute. Raises CodeTaken, BadOptions."""
    _check_options(data["kind"], data["options"])
    definition = AttributeDefinition(**data)
    session.add(definition)
    try:
        session.flush()
    except IntegrityError as error:
        if is_duplicate(error, "attribute_definitions", "code"):
            raise CodeTaken("The code is taken: change that definition.") from error
        raise
    return definition


def change_definition(
    session: Session, definition: AttributeDefinition, changes: dict[str, Any]
) -> None:
    """Change a definition; code and kind stay. Raises BadOptions."""
    _check_options(definition.kind, changes.get("options", definition.options))
    for field, value in changes.items():
        setattr(definition, field, value)
    session.flush()


def delete_definition(session: Session, definition: AttributeDefinition) -> None:
    """Let an attribute be free from now on."""
    session.delete(definition)
    session.flush()


def find_for_change(session: Session, definition_id: int) -> AttributeDefinition:
    """The definition under a lock. Raises NotFound."""
    found = session.execute(queries.definition_for_change(definition_id)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"There is no attribute {definition_id}.")
    return found


def _check_options(kind: str, options: Sequence[str]) -> None:
    if kind == "choice" and not options:
        raise BadOptions("A choice has one option at least.")
    if kind != "choice" and options:
        raise BadOptions("Only a choice has options.")
    if len(set(options)) < len(options):
        raise BadOptions("An option is there twice.")
