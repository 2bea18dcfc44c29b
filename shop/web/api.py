"""The API object and the blueprint of every feature: routes that describe themselves."""

from __future__ import annotations

import functools
import http
from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import flask_smorest
from flask import request
from flask_smorest.spec.plugins import FlaskPlugin
from flask_smorest.utils import prepare_response
from marshmallow import Schema, fields

from shop.errors import NotFound
from shop.web.answers import let_caches_keep
from shop.web.bodies import StrictParser
from shop.web.callers import ANONYMOUS, KEY_PREFIX, SCOPES, View, identify
from shop.web.fields import LARGEST_ID, document
from shop.web.idempotency import HEADER, LONGEST_KEY, PATTERN, REPLAYED, TAKES_KEYS, once
from shop.web.problems import CONTENT_TYPE, PROBLEMS
from shop.web.requests import NO_ID, IdConverter, NameConverter, document_id, document_name

BASE = "/api/v1"
ETAG = {"ETag": {"description": '`"<version>-<digest>"`', "schema": {"type": "string"}}}
LINK = {
    "Link": {
        "description": '`rel="next"`: the next page, if there is one.',
        "schema": {"type": "string"},
    }
}
MOVED = {"Location": {"description": "Where it is now.", "schema": {"type": "string"}}}
_ABOUT_KEYS = (
    "A value that no other request has, such as a random UUID. Send the same one when you send the"
    " request again: it has its effect once. After a success you get the same answer for 24 hours,"
    f" with the header `{REPLAYED}: true`."
)
_TOLD_OF_KEYS = {
    REPLAYED: {
        "description": f"`true` when an earlier request with the `{HEADER}` got this answer.",
        "schema": {"type": "string"},
    }
}
LOCATION = {"Location": {"description": "Where the new one is.", "schema": {"type": "string"}}}


class FaultShape(Schema):
    """One value that is not allowed."""

    pointer = fields.String(required=True)
    message = fields.String(required=True)


class Problem(Schema):
    """RFC 9457."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    request_id = fields.String(required=True)
    errors = fields.List(fields.Nested(FaultShape))
    first = fields.Integer(metadata={"description": "Where there is something (`gone`)."})
    total = fields.Dict(metadata={"description": "What it would be now (`price-changed`)."})
    items = fields.List(
        fields.Dict(), metadata={"description": "SKUs and their prices now (`price-changed`)."}
    )


class PathsOfOperations(FlaskPlugin):
    """Path parameters belong to the operation: `/products/{id}` takes a slug for GET only."""

    def path_helper(self, rule: Any, operations: Any, parameters: Any, **kwargs: Any) -> str:
        path = cast(str, super().path_helper(rule, operations, parameters, **kwargs))
        for operation in operations.values():
            operation["parameters"] = deepcopy(parameters) + operation.get("parameters", [])
        parameters.clear()
        return path


class Api(flask_smorest.Api):
    """flask-smorest with our problems and OpenAPI 3.1; its error handling is not used."""

    ERROR_SCHEMA = Problem
    #: Each operation lists every status it answers with; there is no "default".
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _init_spec(self, **options: Any) -> None:
        super()._init_spec(flask_plugin=PathsOfOperations(), **options)

    def _register_error_handlers(self) -> None:
        """`shop.web.problems` handles them."""

    def _register_responses(self) -> None:
        for status, _title, _meaning in PROBLEMS.values():
            response = {"description": http.HTTPStatus(status).phrase, "schema": Problem}
            prepare_response(response, self.spec, CONTENT_TYPE)
            self.spec.components.response(http.HTTPStatus(status).name, response, lazy=True)
        unchanged = {"description": "You have it already.", "headers": ETAG}
        self.spec.components.response("NOT_MODIFIED", unchanged, lazy=True)
        moved = {"description": "It is elsewhere.", "headers": MOVED}
        self.spec.components.response("MOVED_PERMANENTLY", moved, lazy=True)

    def _register_pagination_header(self) -> None:
        """Pages are described by their own shapes."""

    def describe(self, app: Any) -> None:
        """Teach the document our field types, path ids and the access token."""
        self.register_converter(IdConverter, document_id)
        self.register_converter(NameConverter, document_name)

        def describe_field(_self: Any, field: Any, **_kwargs: Any) -> Any:
            with app.app_context():
                return document(field)

        converter = self.ma_plugin.converter
        converter.add_attribute_function(describe_field)
        describe_fields = converter.schema2jsonschema

        def describe_schema(schema: Any) -> Any:
            # What a schema checks besides its fields, in its own words.
            return describe_fields(schema) | getattr(schema.Meta, "document", {})

        converter.schema2jsonschema = describe_schema
        self.spec.components.security_scheme(
            "access_token", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        )
        self.spec.components.security_scheme(
            "api_key",
            {"type": "http", "scheme": "bearer", "bearerFormat": f"{KEY_PREFIX}...",
             "description": f"For machines. Scopes: {', '.join(SCOPES)} (`x-scope`)."},
        )  # fmt: skip


class Blueprint(flask_smorest.Blueprint):
    """A feature's routes. Each operation states who may call it with `allow`."""

    ARGUMENTS_PARSER = StrictParser()

    def __init__(self, name: str, module: str, *, description: str) -> None:
        super().__init__(name, module, url_prefix=BASE, description=description)

    def allow(self, *roles: str, scope: str | None = None) -> Callable[[View], View]:
        """Let these roles call the operation, and API keys with this scope; put it right below the
        route.

        The caller is checked before body and existence: 401, then 403, then the rest.
        """

        def decorate(view: View) -> View:
            @functools.wraps(view)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                identify(roles, scope)
                if NO_ID in (request.view_args or {}).values():
                    raise NotFound("There is no such thing: ids are whole numbers from 1.")
                return view(*args, **kwargs)

            documented = self.doc(operationId=view.__name__, **_access(roles, scope))
            return cast(View, documented(self.refuses(*_refusals(roles))(guarded)))

        return decorate

    def body(self, schema: type[Schema], *, required: bool = True) -> Callable[[View], View]:
        """Take a JSON body of this shape; none is `{}` where it is not required."""

        def decorate(view: View) -> View:
            parsed = self.arguments(schema(), required=required)(view)
            taken = parsed if required else _or_nothing(parsed, view)
            return cast(View, self.refuses(400, 413, 415)(taken))

        return decorate

    def query(self, schema: type[Schema]) -> Callable[[View], View]:
        """Take query parameters of this shape, as keyword arguments."""
        return cast(
            Callable[[View], View], self.arguments(schema(), location="query", as_kwargs=True)
        )

    def response(
        self, status: int, shape: Any = None, *, headers: dict[str, Any] | None = None, **more: Any
    ) -> Callable[[View], View]:
        """Document the answer of a success; one that may be a repeated one can say so."""

        def decorate(view: View) -> View:
            told = _TOLD_OF_KEYS if hasattr(view, TAKES_KEYS) else {}
            known = super(Blueprint, self).response(
                status, shape, headers=(headers or {}) | told or None, **more
            )
            return cast(View, known(view))

        return decorate

    def refuses(self, *statuses: int) -> Callable[[View], View]:
        """Document the problems that the operation may answer with besides the usual ones."""
        responses = {status: http.HTTPStatus(status).name for status in statuses}
        return cast(Callable[[View], View], self.doc(responses=responses))

    def conditional(self, view: View) -> View:
        """Document that the operation answers 304 to who has it already."""
        described = _takes_header(
            view, "If-None-Match", "The `ETag` of what you have: 304 if it is still so."
        )
        return cast(View, self.doc(responses={304: "NOT_MODIFIED"})(described))

    def resumable(self, view: View) -> View:
        """Document that the operation is a stream that goes on behind the last event one has."""
        about = "The id of the last event that you have: what came after it comes first."
        schema: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
        return _takes_header(view, "Last-Event-ID", about, example=17, **schema)

    def shared(self, view: View) -> View:
        """Let caches keep what everybody sees of it; its answer must not depend on other headers
        than `Authorization`.
        """

        @functools.wraps(view)
        def kept(*args: Any, **kwargs: Any) -> Any:
            return let_caches_keep(view(*args, **kwargs))

        return cast(View, kept)

    def moves(self, view: View) -> View:
        """Document that what is asked for may be elsewhere by now."""
        return cast(View, self.doc(responses={301: "MOVED_PERMANENTLY"})(view))

    def idempotent(
        self, *, required: bool = False, guest: Callable[[], str | None] | None = None
    ) -> Callable[[View], View]:
        """Let requests name themselves by `Idempotency-Key`; put it right above the transaction.

        `guest` says who calls when nobody is signed in; see `shop.web.idempotency`.
        """
        schema = {"pattern": PATTERN, "minLength": 1, "maxLength": LONGEST_KEY}

        def decorate(view: View) -> View:
            described = _takes_header(
                once(view, required=required, guest=guest), HEADER, _ABOUT_KEYS,
                required=required, example="0f8fad5b-d9cb-469f-a165-70867728950e", **schema,
            )  # fmt: skip
            return self.refuses(400, 409, 422)(described)

        return decorate

    def versioned(self, view: View) -> View:
        """Document that the operation wants `If-Match`."""
        about = 'The `ETag` of what you read, or a bare `"<version>"`, or `*`.'
        return self.refuses(412, 428)(
            _takes_header(view, "If-Match", about, required=True, pattern=r"\S")
        )


def _or_nothing(parsed: View, view: View) -> View:
    """The parsed view, which gets an empty object where there is no body."""

    @functools.wraps(parsed)
    def taken(*args: Any, **kwargs: Any) -> Any:
        if request.content_length or "Transfer-Encoding" in request.headers:
            return parsed(*args, **kwargs)
        return view({}, *args, **kwargs)

    return cast(View, taken)


def _access(roles: tuple[str, ...], scope: str | None) -> dict[str, Any]:
    """For OpenAPI: who may call an operation, and how they show who they are."""
    ways: list[dict[str, list[str]]] = [{"access_token": []}]
    if scope is not None or ANONYMOUS in roles:
        ways.append({"api_key": []})
    if ANONYMOUS in roles:
        ways.insert(0, {})
    found: dict[str, Any] = {"security": ways, "x-roles": list(roles)}
    if scope is not None:
        found["x-scope"] = scope
    return found


def _refusals(roles: tuple[str, ...]) -> list[int]:
    # A key may be refused wherever it needs a scope.
    return [400, 401, 500, 503] + ([] if ANONYMOUS in roles else [403])


def _takes_header(
    view: View, name: str, about: str, *, required: bool = False, example: Any = "*", **schema: Any
) -> View:
    @functools.wraps(view)
    def described(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    # `doc(parameters=...)` would replace the parameters that are documented already.
    known = deepcopy(getattr(view, "_apidoc", {}))
    header = {
        "in": "header", "name": name, "description": about,
        "schema": {"type": "string"} | schema, "example": example, "required": required,
    }  # fmt: skip
    known.setdefault("arguments", {}).setdefault("parameters", []).append(header)
    vars(described)["_apidoc"] = known
    return cast(View, described)
