"""What a model's server is told of a tool is a schema that every server takes, whatever the tool came with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chatcluster import tool_schemas
from chatcluster.ports import Tool
from chatcluster.tool_schemas import ALTERNATIVES_MAX, TOGETHER, TOLD, spec_of

TEXT = {"type": "string"}


def told(schema: Any) -> tuple[dict[str, Any], str]:
    """The schema that servers get, and what is said in words."""
    spec = spec_of(Tool(name="odd", description="Does it.", parameters=schema))
    assert spec.description == "Does it.", "OpenAI takes 1024 characters of that, and more of a schema's own"
    if TOLD.strip() not in spec.parameters.get("description", ""):
        return spec.parameters, ""
    return {word: value for word, value in spec.parameters.items() if word != "description"}, str(
        spec.parameters["description"]
    )


def test_what_is_referred_to_over_others_is_taken_in_and_once() -> None:
    inner = {"allOf": [{"properties": {"id": TEXT}, "required": ["id"]}]}
    schema = {"type": "object", "allOf": [{"$ref": "#/$defs/a"}] * 3, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": inner}}
    fit, _ = told(schema)
    assert (fit["properties"], fit["required"]) == ({"id": TEXT}, ["id"])


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"$ref": "#/$defs/a"}] * 1400, "$defs": {"a": {"properties": {f"n{n}": {} for n in range(3500)}}}},
        {"oneOf": [{"properties": {"x": {"const": n}}} for n in range(2000)]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    ],
)
def test_p10_the_work_for_a_schema_grows_with_its_size_alone(
    schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = 0

    def either(one: Any, other: Any) -> Any:
        nonlocal compared
        compared += len(one.get("anyOf", (one,)))
        return _either(one, other)

    _either = tool_schemas._either
    monkeypatch.setattr(tool_schemas, "_either", either)
    fit, _ = told({"type": "object", **schema})
    assert compared <= ALTERNATIVES_MAX * 2000
    assert all(len(one.get("anyOf", ())) <= ALTERNATIVES_MAX for one in fit["properties"].values())


def test_a_schema_that_every_server_takes_stays_as_it_is() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "city": {**TEXT, "minLength": 1, "default": None},
            "days": {"type": "array", "items": {"$ref": "#/$defs/Day"}},
            "either": {"anyOf": [TEXT, {"type": "null"}]},
            "kind": {"enum": ["a", None, 1]},
        },
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"Day": {"type": "object", "properties": {"of": {"type": "integer", "minimum": -1}}}},
    }
    assert told(schema) == (schema, "")


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"type": "object", "properties": None}])
def test_a_tool_without_arguments_says_that_it_has_none(schema: Any) -> None:
    assert told(schema) == ({"type": "object", "properties": {}}, "")


@pytest.mark.parametrize("word", TOGETHER)
def test_schemas_put_together_at_the_top_become_arguments_and_words(word: str) -> None:
    parts = [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}, "required": ["b"]}]
    schema, words = told({"type": "object", "properties": {"c": TEXT}, "required": ["c"], word: parts})
    assert schema["properties"] == {"a": TEXT, "b": TEXT, "c": TEXT}
    assert schema["required"] == (["c", "a", "b"] if word == "allOf" else ["c"])
    assert word not in schema
    assert json.loads(words[words.index("{") :]) == {word: parts}


def test_what_the_top_refers_to_is_taken_in() -> None:
    """As a server says one of several shapes, told apart by a constant."""
    kinds = {kind: {"type": "object", "properties": {"kind": {"const": kind}}} for kind in ("cat", "dog")}
    schema, _ = told({"type": "object", "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds], "$defs": kinds})
    assert schema["properties"] == {"kind": {"anyOf": [{"const": "cat"}, {"const": "dog"}]}}
    schema, _ = told({"$ref": "#/definitions/cat", "definitions": kinds})
    assert schema["properties"] == {"kind": {"const": "cat"}}


def test_an_argument_whose_name_is_refused_is_told_in_words() -> None:
    names = {"größe": TEXT, "$filter": TEXT, "x" * 65: TEXT}
    schema, words = told(
        {
            "type": "object",
            "properties": {"a": TEXT, **names},
            "required": ["a", "größe"],
            "additionalProperties": False,
        }
    )
    assert schema == {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
    assert json.loads(words[words.index("{") :]) == {"properties": names, "required": ["größe"]}


def test_an_argument_that_is_required_and_not_described_may_be_anything() -> None:
    schema = {"type": "object", "properties": {"a": TEXT}, "required": ["b", "a", "ö"], "unevaluatedProperties": False}
    fit, words = told(schema)
    assert fit == {"type": "object", "properties": {"a": TEXT, "b": {}}, "required": ["b", "a"]}
    assert json.loads(words[words.index("{") :]) == {"properties": {"ö": {}}, "required": ["ö"]}


@pytest.mark.parametrize(
    "reference",
    ["#/$defs/gone", "#/components/schemas/Pet", "https://example.com/pet.json", "#pet", "#/anyOf/0", "#/$defs/circle"],
)
def test_what_refers_to_nothing_may_be_anything(reference: str) -> None:
    """A server that resolves references refuses the whole request."""
    named = {"circle": {"$ref": "#/$defs/round"}, "round": {"$ref": "#/$defs/circle"}}
    schema, _ = told({"properties": {"a": {"$ref": reference, "title": "A"}}, "anyOf": [TEXT], "$defs": named})
    assert schema["properties"]["a"] == {"title": "A"}


@pytest.mark.parametrize("top", [{"$ref": "#/$defs/pet"}, {"anyOf": [{"$ref": "#/$defs/pet"}]}])
def test_what_was_taken_in_and_refers_to_nothing_may_be_anything_in_both_places(top: dict[str, Any]) -> None:
    pet = {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/Pet", "title": "A"}}}
    schema, _ = told({"type": "object", **top, "$defs": {"pet": pet}})
    assert schema["properties"]["a"] == schema["$defs"]["pet"]["properties"]["a"] == {"title": "A"}


def test_p10_references_to_the_places_of_a_long_list_are_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[str] = []

    def at(reference: str, whole: dict[str, Any]) -> Any:
        followed.append(reference)
        return _at(reference, whole)

    _at = tool_schemas._at
    monkeypatch.setattr(tool_schemas, "_at", at)
    chain = [{"$ref": f"#/properties/a/prefixItems/{number + 1}"} for number in range(200)]
    schema, _ = told({"type": "object", "properties": {"a": {"type": "array", "prefixItems": [*chain, TEXT]}}})
    assert len(followed) == 200, "each once, over however many others it is referred to"
    assert schema["properties"]["a"]["prefixItems"][-2:] == [chain[-1], TEXT]


@pytest.mark.parametrize("reference", ["#", "#/$defs/a~1b", "#/properties/b/prefixItems/0", "#pet"])
def test_what_refers_to_something_goes_on_doing_so(reference: str) -> None:
    listed = {"type": "array", "prefixItems": [TEXT], "items": False}
    named = {"a/b": TEXT, "pet": {**TEXT, "$anchor": "pet"}}
    schema, _ = told({"properties": {"a": {"$ref": reference}, "b": listed}, "$defs": named})
    assert schema["properties"]["a"] == {"$ref": reference}


@pytest.mark.parametrize(
    ("odd", "sound"),
    [
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": {}}),
        ({"type": "string", "required": True}, TEXT),
        ({"type": "any"}, {}),
        ({"type": "string", "description": None, "pattern": 7}, TEXT),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, {"type": "number", "exclusiveMinimum": 0}),
        ({"type": "number", "maximum": 9, "exclusiveMaximum": False}, {"type": "number", "maximum": 9}),
        (
            {"type": "array", "items": [TEXT], "additionalItems": False},
            {"type": "array", "prefixItems": [TEXT], "items": False},
        ),
        ({"type": "object", "properties": {"b": None}, "enum": 1}, {"type": "object", "properties": {"b": {}}}),
        ({"type": "string", "minLength": "1", "maxLength": -1}, TEXT),
        ({"anyOf": []}, {}),
        (
            {"unevaluatedItems": {"type": "any"}, "contains": {}, "minContains": "1"},
            {"unevaluatedItems": {}, "contains": {}},
        ),
        ({"unevaluatedProperties": 1, "dependentRequired": {"a": "b"}, "contentSchema": None}, {}),
        (
            {"dependencies": {"a": ["b"], "c": {"required": True}}, "dependentSchemas": {"d": TEXT}},
            {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"d": TEXT, "c": {}}},
        ),
        ({"dependencies": 1, "$dynamicRef": 1, "$defs": {"x": {"type": "any"}}}, {"$defs": {"x": {}}}),
        (None, {}),
        ("string", {}),
        (True, True),
    ],
)
def test_what_is_of_another_draft_or_none_is_written_as_draft_2020_has_it(odd: Any, sound: Any) -> None:
    schema, words = told({"type": "object", "properties": {"a": odd, "b": {"type": "array", "items": odd}}})
    assert schema["properties"] == {"a": sound, "b": {"type": "array", "items": sound}}
    assert words == ""
    Draft202012Validator.check_schema(schema)


def test_what_nests_without_end_ends() -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"type": "object", "properties": {"a": deep}}
    schema, _ = told(deep)
    assert len(json.dumps(schema)) < 2000
