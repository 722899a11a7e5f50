"""JSON schemas as teachers are asked to keep to them: whether a text fits, and whether a server can enforce it."""

import json
from typing import Any

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


NOT_JSON = "it is not JSON"


def misfit(text: str, schema: dict[str, Any]) -> str:
    """Why the text is no JSON that fits the schema, in a few words; empty when it fits.

    Checked are types, required and forbidden properties, items and enumerations, with references and `anyOf`; what
    else JSON Schema knows (lengths, patterns, numbers' ranges) is not.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return NOT_JSON
    return _misfit(value, schema, schema, "the answer")


def is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes it: every object lists all its properties as required and allows no other."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
            return False
    return all(map(is_strict, schema.values()))


def _misfit(value: Any, schema: dict[str, Any], root: dict[str, Any], what: str) -> str:
    if "$ref" in schema:
        return _misfit(value, root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {}), root, what)
    if "anyOf" in schema:
        found = [_misfit(value, one, root, what) for one in schema["anyOf"]]
        return "" if "" in found else found[0]
    if "enum" in schema and value not in schema["enum"]:
        return f"{what} is none of {json.dumps(schema['enum'])}"
    if (kind := schema.get("type")) in TYPES and not _is_a(value, kind):
        return f"{what} is not of the type {kind}"
    inner = _properties(value, schema, what) if isinstance(value, dict) else _items(value, schema, what)
    return next((wrong for one, its, name in inner if (wrong := _misfit(one, its, root, name))), "") or (
        _keys(value, schema, what) if isinstance(value, dict) else ""
    )


def _is_a(value: Any, kind: str) -> bool:
    """In JSON a truth value is no number, though in Python it is."""
    return isinstance(value, TYPES[kind]) and not (isinstance(value, bool) and kind in ("integer", "number"))


def _properties(value: dict[str, Any], schema: dict[str, Any], what: str) -> list[tuple[Any, dict[str, Any], str]]:
    known: dict[str, dict[str, Any]] = schema.get("properties", {})
    return [(value[name], known[name], f"{name!r} of {what}") for name in known if name in value]


def _items(value: Any, schema: dict[str, Any], what: str) -> list[tuple[Any, dict[str, Any], str]]:
    items = schema.get("items")
    if not (isinstance(value, list) and isinstance(items, dict)):
        return []
    return [(one, items, f"item {place} of {what}") for place, one in enumerate(value)]


def _keys(value: dict[str, Any], schema: dict[str, Any], what: str) -> str:
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        return f"{what} has no {', '.join(map(repr, missing))}"
    unknown = [name for name in value if name not in schema.get("properties", {})]
    if unknown and schema.get("additionalProperties") is False:
        return f"{what} must not have {', '.join(map(repr, unknown))}"
    return ""
