"""Values that fit a JSON schema, computed from a question."""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# Schemas may contain themselves: from here on down, only what must be there is.
_MAX_DEPTH = 6

Schema = dict[str, Any]


def fill(schema: Schema, question: str) -> Any:
    """Return a value that fits a schema.

    Strings get the question, or the first value of an enumeration; numbers the first number in the question, or 0;
    booleans are true; arrays have one element; objects have the properties that are required, or all if none is.
    """
    return _value(schema, question, {**schema.get("definitions", {}), **schema.get("$defs", {})}, 0)


def _value(schema: Schema, question: str, definitions: dict[str, Schema], depth: int) -> Any:
    schema = _resolved(schema, definitions, depth)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = _kind(schema)
    if kind == "object":
        return _object(schema, question, definitions, depth)
    if kind == "array":
        return _array(schema, question, definitions, depth)
    if kind in ("integer", "number"):
        return _number(schema, question)
    return {"boolean": True, "null": None}.get(kind, question[: schema.get("maxLength")])


def _resolved(schema: Schema, definitions: dict[str, Schema], depth: int) -> Schema:
    """Follow references, and take the first choice that is not null, or null at the bottom."""
    if reference := schema.get("$ref"):
        target = definitions.get(str(reference).rpartition("/")[2], {})
        return _resolved({**target, **_without(schema, "$ref")}, definitions, depth)
    for key in ("anyOf", "oneOf"):
        if choices := schema.get(key):
            nulls = [choice for choice in choices if choice.get("type") == "null"]
            others = [choice for choice in choices if choice not in nulls]
            chosen = nulls if nulls and (depth > _MAX_DEPTH or not others) else others
            return _resolved({**_without(schema, key), **chosen[0]}, definitions, depth)
    if parts := schema.get("allOf"):
        merged = _without(schema, "allOf")
        for part in parts:
            merged |= _resolved(part, definitions, depth)
        return _resolved(merged, definitions, depth)
    return schema


def _without(schema: Schema, key: str) -> Schema:
    return {name: value for name, value in schema.items() if name != key}


def _kind(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    return str(kind or ("object" if "properties" in schema else "string"))


def _object(schema: Schema, question: str, definitions: dict[str, Schema], depth: int) -> dict[str, Any]:
    properties: dict[str, Schema] = schema.get("properties", {})
    names = schema.get("required") or (properties if depth <= _MAX_DEPTH else ())
    return {name: _value(properties.get(name, {}), question, definitions, depth + 1) for name in names}


def _array(schema: Schema, question: str, definitions: dict[str, Schema], depth: int) -> list[Any]:
    if items := schema.get("prefixItems"):
        return [_value(item, question, definitions, depth + 1) for item in items]
    least = schema.get("minItems", 0)
    count = least if depth > _MAX_DEPTH else max(1, least)
    return [_value(schema.get("items", {}), question, definitions, depth + 1) for _ in range(count)]


def _number(schema: Schema, question: str) -> int | float:
    found = _NUMBER.search(question)
    number = float(found.group()) if found else 0.0
    number = max(number, schema.get("minimum", number), schema.get("exclusiveMinimum", number - 1) + 1)
    number = min(number, schema.get("maximum", number), schema.get("exclusiveMaximum", number + 1) - 1)
    return int(number) if number == int(number) or schema.get("type") == "integer" else number
