"""Arguments of calls: what a model wrote becomes what a tool takes, or a sentence that tells the model what is wrong.

P10: no schema and no arguments, wherever they come from, take longer than a blink.
"""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema.protocols import Validator

from chatcluster import arguments as arguments_module
from chatcluster.arguments import ARGUMENTS_CHARACTERS_MAX, CHECKS_MAX, ArgumentCheck, BadArguments, decoded
from chatcluster.ports import Tool
from chatcluster.tools.agents import TOOLS as AGENT_TOOLS
from chatcluster.tools.read_result import TOOL as READ_RESULT

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [('{"name": "Ann"}', {"name": "Ann"}), ('{"name": "Ann", "age": 3}', {"name": "Ann", "age": 3})],
)
def test_what_the_schema_asks_for_is_taken(text: str, arguments: dict[str, Any]) -> None:
    assert ArgumentCheck(PERSON).arguments(text) == arguments


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_arguments_that_never_came_are_none(text: str) -> None:
    assert ArgumentCheck({"type": "object"}).arguments(text) == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name"', "not JSON"),
        ("[1]", "not a JSON object"),
        ('"Ann"', "not a JSON object"),
        ("{}", "'name' is a required property"),
        ('{"name": 5}', "name: 5 is not of type 'string'"),
        ('{"name": "Ann", "shoe": 1}', "'shoe' was unexpected"),
        ("[" * 100_000, "not JSON"),
        ('{"name": "' + "x" * ARGUMENTS_CHARACTERS_MAX + '"}', "call it with less"),
    ],
)
def test_what_is_wrong_is_said_to_the_model(text: str, problem: str) -> None:
    with pytest.raises(BadArguments, match=problem):
        ArgumentCheck(PERSON).arguments(text)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"$schema": "https://example.com/draft"},
        {"$schema": 5},
        {"$schema": {}},
        {"$schema": ["x"]},
        {"$schema": "http://[bad"},
        {"$id": 5},
        {"type": "bogus"},
        {"properties": 5},
        {"$ref": "#/$defs/no"},
        {"pattern": "(a+)+$", "properties": {"name": {"pattern": "(a+)+$"}}},
        {"patternProperties": {"(a+)+$": False}, "additionalProperties": False},
    ],
)
def test_p10_a_schema_that_makes_no_sense_or_costs_too_much_checks_nothing(schema: dict[str, Any]) -> None:
    """Nor is anything fetched from anywhere."""
    text = '{"name": "' + "a" * 50 + '!"}'
    assert ArgumentCheck(schema).arguments(text) == decoded(text)


def test_p10_a_schema_that_branches_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    counted = arguments_module._counted

    def counting(check: Any, count: Any) -> Any:
        inner = counted(check, count)

        def step(*args: Any) -> Any:
            nonlocal steps
            steps += 1
            return inner(*args)

        return step

    monkeypatch.setattr(arguments_module, "_counted", counting)
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(12):
        schema = {"anyOf": [schema, schema, schema]}
    assert ArgumentCheck(schema).arguments("{}") == {}
    assert steps <= CHECKS_MAX + 1


def test_p10_more_values_than_are_looked_at_are_taken_as_they_are() -> None:
    many = '{"names": [' + ",".join(["1"] * (CHECKS_MAX + 1)) + "]}"
    schema = {"properties": {"names": {"items": {"type": "string"}}}}
    assert len(ArgumentCheck(schema).arguments(many)["names"]) == CHECKS_MAX + 1
    with pytest.raises(BadArguments):
        ArgumentCheck(schema).arguments('{"names": [1]}')


@pytest.mark.parametrize("tool", [*AGENT_TOOLS, READ_RESULT], ids=lambda tool: tool.name)
def test_tools_of_ours_are_never_run_with_arguments_that_nobody_looked_at(tool: Tool) -> None:
    many = '{"prompt": [' + ",".join(["1"] * (CHECKS_MAX + 1)) + "]}"
    with pytest.raises(BadArguments, match="far more"):
        ArgumentCheck(tool.parameters).arguments(many)


def test_a_schema_is_made_ready_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Validator] = []
    ready = arguments_module._made_ready
    monkeypatch.setattr(arguments_module, "_made_ready", lambda *args: made.append(ready(*args)) or made[-1])  # type: ignore[func-returns-value]
    check = ArgumentCheck(PERSON)
    assert not made, "P10: the tools of a turn are many, and few of them are called"
    for _ in range(3):
        check.arguments('{"name": "Ann"}')
    assert len(made) == 1
