"""Reading what is plainly allowed as a schema would, at a small part of the cost.

What a reader here answers is what `Schema.load` answers, by the same fields and the same rules.
Whatever it does not take, allowed or not, is for the schema to read, which alone says what is
wrong. For values that come many at once, such as the rows of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from marshmallow import Schema, ValidationError, fields, missing

from shop.web.fields import Attributes, Choice, Code, Integer, Text

#: Answers what a value, which came from JSON, is read as. Raises NotPlain, or
#: marshmallow's ValidationError.
Reader = Callable[[Any], Any]


def loading(schema: Schema) -> Reader:
    """What `schema.load` does, the short way where that is one."""
    if not _is_simple(schema):
        return schema.load
    read = reader(schema)

    def load(value: Any) -> Any:
        with suppress(NotPlain, ValidationError):
            return read(value)
        return schema.load(value)

    return load


def _is_simple(schema: Schema) -> bool:
    renamed = any(field.data_key or field.attribute for field in schema.load_fields.values())
    hooked = any(hooks for name, hooks in schema._hooks.items() if name != "validates_schema")
    looks_back = any(options["pass_original"] for _, _, options in _checks(schema))
    return not (schema.many or schema.partial or hooked or looks_back or renamed)


def _checks(schema: Schema) -> list[tuple[str, bool, dict[str, Any]]]:
    """What looks at all that was read: name, for one or many, options."""
    return schema._hooks.get("validates_schema", [])


class NotPlain(Exception):
    """This has to be read by the schema."""


def reader(schema: Schema) -> Reader:
    """A reader of what the schema loads; of hooks it may have those that look at all of it."""
    known = [(name, _reader(field), *_absent(field)) for name, field in schema.load_fields.items()]
    checks = [getattr(schema, name) for name, _, _ in _checks(schema)]

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise NotPlain
        found: dict[str, Any] = {}
        met = 0
        for name, read_field, allows_none, required, default in known:
            if name in value:
                met += 1
                raw = value[name]
                if raw is not None:
                    found[name] = read_field(raw)
                elif allows_none:
                    found[name] = None
                else:
                    raise NotPlain
            elif required:
                raise NotPlain
            elif default is not missing:
                found[name] = default() if callable(default) else default
        if met != len(value):
            raise NotPlain
        for check in checks:
            check(found, partial=schema.partial, many=False, unknown=schema.unknown)
        return found

    return read


def _absent(field: fields.Field[Any]) -> tuple[bool, bool, Any]:
    return bool(field.allow_none), field.required, field.load_default


def _reader(field: fields.Field[Any]) -> Reader:
    for kind, make in _MAKERS.items():
        if isinstance(field, kind) and _reads_as(kind, type(field)):
            return make(field)
    return field.deserialize


def _reads_as(kind: type[fields.Field[Any]], own: type[fields.Field[Any]]) -> bool:
    """Whether a kind of field reads as the one that it is made from."""
    return (own.deserialize, own._deserialize) == (kind.deserialize, kind._deserialize)


def _of_type(kind: type, field: fields.Field[Any]) -> Reader:
    rules = field.validators

    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise NotPlain
        for rule in rules:
            rule(value)
        return value

    return read


def _text(field: Text) -> Reader:
    checked = _of_type(str, field)
    return lambda value: checked(value).strip()


def _list(field: fields.List[Any]) -> Reader:
    checked, read_one = _of_type(list, field), _reader(field.inner)

    def read(value: Any) -> list[Any]:
        if None in checked(value):
            raise NotPlain
        return [read_one(item) for item in value]

    return read


def _attributes(field: Attributes) -> Reader:
    read_value: Mapping[type, Reader] = {
        str: _text(field.value.text),
        int: _of_type(int, field.value.number),
        bool: lambda value: value,
    }
    check_name = field.names

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict or len(value) > field.most:
            raise NotPlain
        found = {}
        for name, one in value.items():
            check_name(name)
            if (read_one := read_value.get(type(one))) is None:
                raise NotPlain
            found[name] = read_one(one)
        return found

    return read


#: What makes the reader of a field of these kinds; all others read for themselves.
_MAKERS: dict[type[fields.Field[Any]], Callable[[Any], Reader]] = {
    Text: _text,
    Code: lambda field: _of_type(str, field),
    Choice: lambda field: _of_type(str, field),
    Integer: lambda field: _of_type(int, field),
    Attributes: _attributes,
    fields.List: _list,
    fields.Nested: lambda field: loading(field.schema),
}
