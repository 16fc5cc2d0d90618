"""What real servers refuse of the schema of a tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOGETHER = {"oneOf", "allOf", "anyOf"}
OPENAI_TOOLS_MAX = 128


def too_many_for_openai(count: int) -> str | None:
    """Why, if so many tools are refused."""
    if count <= OPENAI_TOOLS_MAX:
        return None
    expected = (
        f"Expected an array with maximum length {OPENAI_TOOLS_MAX}, but got an array with length {count} instead."
    )
    return f"Invalid 'tools': array too long. {expected}"


def refused_by_openai(schema: Mapping[str, Any]) -> str | None:
    """Why, if it is refused."""
    if schema.get("type") != "object" or (TOGETHER | {"enum", "not"}) & schema.keys():
        return "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
    if not isinstance(schema.get("properties"), dict):
        return "In context=(), object schema missing properties."
    return None


def refused_by_anthropic(schema: Mapping[str, Any]) -> str | None:
    if schema.get("type") != "object":
        return "type: Field required: 'object'"
    if TOGETHER & schema.keys():
        return "input_schema does not support oneOf, allOf, or anyOf at the top level"
    return None
