"""The reference of the file formats, made from the docstrings of their fields."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from runner.policy import show_size

HEAD = """\
# Reference of the YAML files

Made by `claw-runner schema docs` from the code; do not edit. The same as JSON schemas, for editors: `schemas/`.
"""


def reference(*models: type[BaseModel]) -> str:
    """A Markdown page with one table of keys for each model."""
    return "\n".join([HEAD, *(_page(model) for model in models)])


def _page(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    rows = [_row(path, node, required) for path, node, required in _keys(schema, schema, ())]
    head = [f"## {model.__name__}", "", schema.get("description", ""), ""]
    return "\n".join([*head, "| key | value | default | meaning |", "|---|---|---|---|", *rows, ""])


Key = tuple[tuple[str, ...], dict[str, Any], bool]


def _keys(schema: dict[str, Any], node: dict[str, Any], path: tuple[str, ...]) -> list[Key]:
    """Every key below a node, with its schema and whether it must be there; nested ones after their parent."""
    found: list[Key] = []
    for name, value in node.get("properties", {}).items():
        inner = _resolved(schema, value)
        found.append(((*path, name), inner, name in node.get("required", ())))
        found += _keys(schema, inner, (*path, name))
        found += _keys(schema, _resolved(schema, inner.get("items", {})), (*path, f"{name}[]"))
    return found


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """A node with what its `$ref` points to, its own words first. Of several forms, with the keys of the mapping."""
    if "oneOf" in node:
        forms = [_resolved(schema, form) for form in node["oneOf"]]
        keys: dict[str, Any] = next((form["properties"] for form in forms if "properties" in form), {})
        return {**node, "oneOf": forms, "properties": keys}
    if "$ref" not in node:
        return node
    target: dict[str, Any] = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _row(path: tuple[str, ...], node: dict[str, Any], required: bool) -> str:
    nested = "properties" in node
    default = "required" if required else "" if nested else _default(node)
    cells = (f"`{'.'.join(path)}`", _type(node), default, node.get("description", ""))
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(node: dict[str, Any]) -> str:
    value = node.get("default")
    if value is None:
        return "none"
    if node.get("format") == "size":
        return f"`{show_size(value)}`"
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def _type(node: dict[str, Any]) -> str:
    """What may be written, in words."""
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    if node.get("format") == "size":
        return "size"
    if forms := node.get("anyOf") or node.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(form) for form in forms if form.get("type") != "null"))
    match node.get("type"):
        case "array":
            items = node.get("items", {})
            return "list of mappings" if "$ref" in items else f"list of {_type(items)}"
        case "object":
            return "mapping"
        case kind:
            return f"{_TYPES.get(str(kind), 'any')}{_bounds(node)}"


_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _bounds(node: dict[str, Any]) -> str:
    bounds = [f"{sign} {node[key]:,}" if key in node else "" for key, sign in _BOUNDS.items()]
    return f" {', '.join(bound for bound in bounds if bound)}".rstrip()
