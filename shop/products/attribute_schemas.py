"""Shapes of definitions of attributes."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from shop.products.models import KINDS, AttributeDefinition
from shop.web.fields import Attributes, Choice, Code, Line, StrictSchema

_MOST_OPTIONS = 100


def _options(**kwargs: Any) -> fields.List[str]:
    about = {"description": "What a choice may be; nothing else has options."}
    texts = Line(Attributes.longest)
    return fields.List(texts, validate=validate.Length(0, _MOST_OPTIONS), metadata=about, **kwargs)


class AttributeIn(StrictSchema):
    """A definition of an attribute."""

    code = Code(Attributes.names.regex.pattern, Attributes.names.max, required=True,
                metadata={"example": "weight"})  # fmt: skip
    name = Line(200, required=True, metadata={"example": "Weight"})
    kind = Choice(KINDS, required=True)
    options = _options(load_default=list)
    unit = Line(20, allow_none=True, load_default=None, metadata={"example": "g"})


class AttributePatch(StrictSchema):
    """Changes of a definition; code and kind stay."""

    name = Line(200)
    options = _options()
    unit = Line(20, allow_none=True)


class AttributeOut(StrictSchema):
    """A definition as it is shown."""

    id = fields.Integer(required=True)
    code = fields.String(required=True)
    name = fields.String(required=True)
    kind = fields.String(required=True)
    options = fields.List(fields.String(), required=True)
    unit = fields.String(required=True, allow_none=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class AttributePage(StrictSchema):
    """Definitions, by code."""

    items = fields.List(fields.Nested(AttributeOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


def attribute_out(definition: AttributeDefinition) -> dict[str, Any]:
    """`AttributeOut`, ready for JSON."""
    return {name: getattr(definition, name) for name in AttributeOut._declared_fields}
