"""What a model's server is told of a tool: a schema that every server takes. Pure.

Schemas come from outside, and no server takes all that JSON Schema has. One that meets what it does not take refuses
the whole request, so one odd tool would end every turn of its chats. What is known to be refused:

* an object at the top without ``properties``, and an array without ``items`` (OpenAI);
* at the top, whatever puts schemas together (OpenAI, Anthropic), which is legal and common;
* names of arguments with other characters than ``[A-Za-z0-9_.-]``, or more than 64 (Anthropic);
* what is no schema of draft 2020-12 (Anthropic), as earlier drafts have it: ``required: true``, exclusive bounds that
  are flags, ``items`` for each place of an array;
* what refers to nothing that is there, and what nests without end.

Schemas that are put together at the top become the arguments of all of them, so that a model sees what there is. What
is lost so is told in words, in the description of the schema: that of a tool has 1024 characters at most (OpenAI).
Arguments are checked against the schema as it came (``arguments.py``), and the tool has the last word.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

from chatcluster.ports import Tool, ToolSpec

DEPTH_MAX = 30
TOGETHER = ("allOf", "anyOf", "oneOf")
NOT_AT_THE_TOP = (*TOGETHER, "enum", "const", "not", "if", "then", "else", "$ref")
TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
"""Keywords that hold schemas by name."""
LISTS = (*TOGETHER, "prefixItems")
SINGLE = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedProperties", "unevaluatedItems", "contentSchema"),
)
CLOSED = ("additionalProperties", "unevaluatedProperties")
"""What says that an object has no other arguments than are named."""
TEXTS = (
    *("title", "description", "format", "pattern", "$ref", "$schema", "$id", "$comment", "$anchor"),
    *("$dynamicRef", "$dynamicAnchor", "contentEncoding", "contentMediaType"),
)
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
COUNTS = (
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    *("minContains", "maxContains"),
)

ALTERNATIVES_MAX = 50
"""An argument may have so many; each is held against the others. The rest is told in words."""
HOPS_MAX = 20
"""From one reference to the next. More lead nowhere."""
TOLD = "\n\nThe arguments also have to be valid by this JSON schema: "

_ARGUMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_REFERENCE = re.compile(r"#/(\$defs|definitions)/([^/]+)")


def spec_of(tool: Tool) -> ToolSpec:
    parameters = _fit(tool.parameters, DEPTH_MAX)
    lost = {name: parameters.pop(name) for name in NOT_AT_THE_TOP if name in parameters}
    arguments = dict(parameters.get("properties", {}))
    required = list(parameters.get("required", ()))
    _take_in(lost, parameters, arguments, required)
    required = list(dict.fromkeys(required))
    arguments |= {name: {} for name in required if name not in arguments}  # required, and of any kind
    odd = {name: arguments.pop(name) for name in list(arguments) if _ARGUMENT.fullmatch(name) is None}
    fit = {"type": "object", **parameters, "properties": arguments, "required": [n for n in required if n not in odd]}
    if not fit["required"]:
        del fit["required"]
    if lost or odd:
        for word in CLOSED:
            fit.pop(word, None)
        lost |= _named_oddly(odd, required)
        fit["description"] = f"{fit.get('description', '')}{TOLD}{msgspec.json.encode(lost).decode()}".strip()
    _drop_dangling(fit)
    return ToolSpec(tool.name, tool.description, fit)


def _named_oddly(odd: dict[str, Any], required: list[str]) -> dict[str, Any]:
    needed = [name for name in required if name in odd]
    return ({"properties": odd} if odd else {}) | ({"required": needed} if needed else {})


def _take_in(lost: dict[str, Any], whole: dict[str, Any], arguments: dict[str, Any], required: list[str]) -> None:
    """The arguments of schemas that are put together at the top. Those of ``allOf`` are required as they say."""
    for schema, is_certain in _put_together(lost, whole):
        for name, one in schema.get("properties", {}).items():
            arguments[name] = one if name not in arguments else _either(arguments[name], one)
        required.extend(schema.get("required", ()) if is_certain else ())


def _put_together(lost: dict[str, Any], whole: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each once, however often, and over how many others, it is referred to; and whether all of it holds."""
    waiting: deque[tuple[Any, bool]] = deque([(lost, True)])
    seen: dict[int, Any] = {}
    while waiting:
        schema, is_certain = waiting.popleft()
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen[id(schema)] = schema
        yield schema, is_certain
        waiting.append((_named(schema.get("$ref", ""), whole), is_certain))
        for word in TOGETHER:
            waiting.extend((inner, is_certain and word == "allOf") for inner in schema.get(word, ()))


def _named(reference: str, whole: dict[str, Any]) -> Any:
    """The schema of the same document; None if it is none of those with a name."""
    found = _REFERENCE.fullmatch(reference)
    return whole.get(found[1], {}).get(found[2]) if found else None


def _either(one: Any, other: Any) -> Any:
    known = one["anyOf"] if isinstance(one, dict) and list(one) == ["anyOf"] else [one]
    return one if other in known or len(known) >= ALTERNATIVES_MAX else {"anyOf": [*known, other]}


# --- any schema -------------------------------------------------------------------------------


def _fit(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    """The schema without what is none of draft 2020-12."""
    fit: dict[str, Any] = {}
    for word, value in _of_this_draft(schema).items():
        if word in NAMED:
            if isinstance(value, dict):
                fit[word] = {name: _fit_any(one, depth) for name, one in value.items()}
        elif word in LISTS:
            if isinstance(value, list) and value:
                fit[word] = [_fit_any(one, depth) for one in value]
        elif word in SINGLE:
            if isinstance(value, dict | bool):  # a ``not`` that is none would leave nothing
                fit[word] = _fit_any(value, depth)
        elif _is_sound(word, value):
            fit[word] = value
    kinds = fit.get("type", ())
    if (kinds == "array" or "array" in kinds) and "items" not in fit:
        fit["items"] = {}
    return fit


def _fit_any(schema: Any, depth: int) -> Any:
    if isinstance(schema, bool):
        return schema
    return _fit(schema, depth - 1) if isinstance(schema, dict) and depth else {}


def _of_this_draft(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as an earlier draft's would be written today."""
    written = dict(schema)
    if isinstance(dependencies := written.pop("dependencies", None), dict):
        lists = {name: needed for name, needed in dependencies.items() if isinstance(needed, list)}
        schemas = {name: needed for name, needed in dependencies.items() if name not in lists}
        written = _with_named(written, dependentRequired=lists, dependentSchemas=schemas)
    if isinstance(written.get("items"), list):
        written["prefixItems"] = written.pop("items")
        written["items"] = written.pop("additionalItems", {})
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if written.get(flag) is True and bound in written:
            written[flag] = written.pop(bound)
    return written


def _with_named(schema: dict[str, Any], **named: dict[str, Any]) -> dict[str, Any]:
    """With these as well, where there are any."""
    known = {word: schema[word] if isinstance(schema.get(word), dict) else {} for word in named}
    return schema | {word: known[word] | more for word, more in named.items() if more}


def _is_sound(word: str, value: Any) -> bool:
    """Whether the keyword may have this value, as far as it is one of those that are looked at."""
    if word in TEXTS:
        return isinstance(value, str)
    if word in NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if word in COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    match word:
        case "type":
            kinds = value if isinstance(value, list) and value else [value]
            return all(isinstance(kind, str) and kind in TYPES for kind in kinds)
        case "required":
            return _is_list_of_names(value)
        case "dependentRequired":
            return isinstance(value, dict) and all(map(_is_list_of_names, value.values()))
        case "enum" | "examples":
            return isinstance(value, list)
        case "uniqueItems" | "deprecated" | "readOnly" | "writeOnly":
            return isinstance(value, bool)
        case _:
            return True


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


# --- references -------------------------------------------------------------------------------


def _drop_dangling(whole: dict[str, Any]) -> None:
    """A schema that refers to what is not there may be anything."""
    schemas = list(_all_in(whole))
    named = {one["$id"] for one in schemas if "$id" in one} | {
        f"#{one['$anchor']}" for one in schemas if "$anchor" in one
    }
    known: dict[str, Any] = {}  # what each reference leads to: there may be many of one

    def at(reference: str) -> Any:
        if reference not in known:
            known[reference] = _at(reference, whole)
        return known[reference]

    dangling = [one for one in schemas if "$ref" in one and one["$ref"] not in named and not _leads_on(one, at)]
    for one in dangling:
        one.pop("$ref", None)  # a schema may stand in two places: as an argument, and where it was taken from


def _all_in(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting: list[Any] = [whole]
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, dict):
            yield schema
            waiting.extend(one for word in NAMED for one in schema.get(word, {}).values())
            waiting.extend(one for word in LISTS for one in schema.get(word, ()))
            waiting.extend(schema[word] for word in SINGLE if word in schema)


def _leads_on(schema: Any, at: Callable[[str], Any]) -> bool:
    """Whether there is a schema in the end that refers to no other."""
    for _ in range(HOPS_MAX):
        if isinstance(schema, bool) or (isinstance(schema, dict) and "$ref" not in schema):
            return True
        if not isinstance(schema, dict):
            return False
        schema = at(schema["$ref"])
    return False


def _at(reference: str, whole: dict[str, Any]) -> Any:
    """What is there in the same document; None if nothing is."""
    start, *steps = unquote(reference).split("/")
    found: Any = whole if start == "#" else None
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = found[int(name)] if _INDEX.fullmatch(name) and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return found
