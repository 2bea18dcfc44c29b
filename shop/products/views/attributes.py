"""The doors of definitions of attributes."""

from __future__ import annotations

from typing import Any

from flask import Response, url_for

from shop.db import db, transactional
from shop.errors import NotFound
from shop.products import attributes as definitions
from shop.products import queries
from shop.products.attribute_schemas import (
    AttributeIn,
    AttributeOut,
    AttributePage,
    AttributePatch,
    attribute_out,
)
from shop.products.models import AttributeDefinition
from shop.web.answers import answer, check_version
from shop.web.api import ETAG, LINK, LOCATION, Blueprint
from shop.web.callers import EMPLOYEES, EVERYONE
from shop.web.idempotency import keep_answer
from shop.web.pagination import PageQuery, decode_cursor, page

attributes = Blueprint("attributes", __name__, description="What attributes of products may be")

_SCOPE = "attributes:code"


@attributes.get("/attributes")
@attributes.allow(*EVERYONE)
@attributes.query(PageQuery)
@attributes.response(200, AttributePage, headers=ETAG | LINK)
@attributes.conditional
@attributes.shared
def list_attributes(limit: int, cursor: str | None = None) -> Response:
    """The defined attributes, by code. Those that are not defined are free."""
    after = str(decode_cursor(_SCOPE, cursor, [str])[0]) if cursor else ""
    rows = db.session.scalars(queries.definitions(after, limit + 1)).all()
    return page(rows, limit, scope=_SCOPE, key=lambda row: (row.code,), shape=_shown)


def _shown(rows: Any) -> list[dict[str, Any]]:
    return [attribute_out(row) for row in rows]


@attributes.post("/attributes")
@attributes.allow(*EMPLOYEES, scope="products:write")
@attributes.body(AttributeIn)
@attributes.response(201, AttributeOut, headers=ETAG | LOCATION)
@attributes.refuses(409)
@attributes.idempotent()
@transactional
def define_attribute(data: dict[str, Any]) -> Response:
    """Define an attribute. Its values are checked from then on; what is stored stays."""
    made = definitions.create_definition(db.session(), data)
    location = url_for("attributes.get_attribute", id=made.id)
    return keep_answer(answer(attribute_out(made), 201, version=made.version, location=location))


@attributes.get("/attributes/<id:id>")
@attributes.allow(*EVERYONE)
@attributes.response(200, AttributeOut, headers=ETAG)
@attributes.conditional
@attributes.shared
@attributes.refuses(404)
def get_attribute(id: int) -> Response:
    """One definition."""
    found = db.session.get(AttributeDefinition, id)
    if found is None:
        raise NotFound(f"There is no attribute {id}.")
    return answer(attribute_out(found), version=found.version, modified=found.updated_at)


@attributes.patch("/attributes/<id:id>")
@attributes.allow(*EMPLOYEES, scope="products:write")
@attributes.body(AttributePatch)
@attributes.response(200, AttributeOut, headers=ETAG)
@attributes.versioned
@attributes.refuses(404)
@transactional
def change_attribute(changes: dict[str, Any], id: int) -> Response:
    """Change a definition; code and kind stay, and so do stored values. Needs `If-Match`."""
    definition = definitions.find_for_change(db.session(), id)
    check_version(definition.version, required=True)
    definitions.change_definition(db.session(), definition, changes)
    return answer(attribute_out(definition), version=definition.version)


@attributes.delete("/attributes/<id:id>")
@attributes.allow(*EMPLOYEES, scope="products:write")
@attributes.response(204)
@attributes.versioned
@attributes.refuses(404)
@transactional
def delete_attribute(id: int) -> Response:
    """Let an attribute be free again; stored values stay. Needs `If-Match`."""
    definition = definitions.find_for_change(db.session(), id)
    check_version(definition.version, required=True)
    definitions.delete_definition(db.session(), definition)
    return Response(status=204)
