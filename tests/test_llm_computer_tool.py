"""The screen of a workspace in the words of the model's provider: calls come in them and go back in them, and the tool
is the one that other models have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio
from anthropic.types.computer_member_name import COMPUTER_MEMBER_NAME_VALUES
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from played_transcripts import SERVER, numbered_call_ids
from pydantic import TypeAdapter
from told_histories import user

from chatcluster.arguments import ArgumentCheck
from chatcluster.errors import InvalidRequest, ProviderError
from chatcluster.llm.anthropic import WIRE, MessageDecoder
from chatcluster.llm.client import HttpModel
from chatcluster.llm.computer_toolset import ENTRY, NOT_HERE, arguments_of, member_call
from chatcluster.llm.simulator.screen_rules import MEMBERS
from chatcluster.llm.simulator.server import Simulator, SimulatorOptions
from chatcluster.llm.wire import Route, with_prefix
from chatcluster.llm.wires import server_at
from chatcluster.models import ComputerTool, Kind, ModelEntry, ModelOptions, require_able
from chatcluster.parts import Message, Part, Role, TextPart, ToolArgumentsPart, ToolCallPart, ToolResultPart, joined
from chatcluster.ports import Delta, Finished, ModelRequest, ToolSpec
from chatcluster.tool_schemas import spec_of
from chatcluster.tools.workspace_list import ON_SCREEN

DEADLINE_SECONDS = 120.0
VENDORS_TYPE: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)
SCREEN = spec_of(ON_SCREEN[0])
OTHERS = ToolSpec("computer", "Of somebody's own.", {"type": "object", "properties": {"action": {"type": "string"}}})
TOLD = ModelOptions(computer_tool=ComputerTool.TOOLSET_20260801)
ROUTE = Route(kind=Kind.ANTHROPIC, server=SERVER, model="claude-x", base_url="https://test.example", options=TOLD)

SAID: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("screenshot", {}, {"action": "screenshot"}),
    ("left_click", {"coordinate": [3, 4]}, {"action": "click", "x": 3, "y": 4}),
    ("left_click", {}, {"action": "click"}),
    ("right_click", {"coordinate": [3, 4]}, {"action": "click", "button": "right", "x": 3, "y": 4}),
    ("middle_click", {"coordinate": [3, 4]}, {"action": "click", "button": "middle", "x": 3, "y": 4}),
    (
        "double_click",
        {"coordinate": [3, 4], "text": "shift"},
        {"action": "double_click", "x": 3, "y": 4, "hold": "shift"},
    ),
    ("triple_click", {"coordinate": [3, 4]}, {"action": "triple_click", "x": 3, "y": 4}),
    (
        "left_click_drag",
        {"coordinate": [5, 6], "start_coordinate": [3, 4]},
        {"action": "drag", "to_x": 5, "to_y": 6, "x": 3, "y": 4},
    ),
    ("mouse_move", {"coordinate": [3, 4]}, {"action": "move", "x": 3, "y": 4}),
    (
        "scroll",
        {"coordinate": [3, 4], "scroll_direction": "up", "scroll_amount": 5, "text": "ctrl"},
        {"action": "scroll", "x": 3, "y": 4, "direction": "up", "amount": 5, "hold": "ctrl"},
    ),
    ("key", {"text": "Tab", "repeat": 3}, {"action": "key", "text": "Tab", "repeat": 3}),
    ("type", {"text": "héllo"}, {"action": "type", "text": "héllo"}),
    ("wait", {"duration": 2}, {"action": "wait", "seconds": 2}),
]


def body_of(*said: tuple[Role, tuple[Part, ...]], tool: ToolSpec = SCREEN, route: Route = ROUTE) -> Any:
    """The body, which the vendor's types take."""
    body = json.loads(b"".join(WIRE.body(asking(*said, tool=tool), route)))
    VENDORS_TYPE.validate_python(body)
    return body


def asking(*said: tuple[Role, tuple[Part, ...]], tool: ToolSpec = SCREEN) -> ModelRequest:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    history = tuple(Message(index, role, parts, 1, at) for index, (role, parts) in enumerate(said, 1))
    return ModelRequest(UUID(int=1), history, tools=(tool,))


def called(arguments: str, name: str = "computer") -> tuple[tuple[Role, tuple[Part, ...]], ...]:
    return (
        user("a"),
        (Role.ASSISTANT, (ToolCallPart("c1", name, arguments),)),
        (Role.TOOL, (ToolResultPart("c1", "done"),)),
    )


@pytest.mark.parametrize(("member", "given", "ours"), SAID, ids=[f"{member} {given}" for member, given, _ in SAID])
def test_each_call_is_one_of_our_tool_and_goes_back_as_it_came(
    member: str, given: dict[str, Any], ours: dict[str, Any]
) -> None:
    assert arguments_of(member, given) == ours
    ArgumentCheck(SCREEN.parameters).arguments(json.dumps(ours))
    assert member_call(ours) == (member, given)
    (_, call, result) = body_of(*called(json.dumps(ours)))["messages"]
    assert call["content"] == [
        {"type": "tool_use", "id": "c1", "name": member, "input": given, "toolset_name": "computer"}
    ]
    assert (result["content"][0]["toolset_name"], result["content"][0]["tool_use_id"]) == ("computer", "c1")


def test_every_member_of_the_vendor_s_set_is_served_or_turned_off() -> None:
    assert sorted({*NOT_HERE, *(member for member, _, _ in SAID)}) == sorted(COMPUTER_MEMBER_NAME_VALUES)
    assert sorted(MEMBERS) == sorted(COMPUTER_MEMBER_NAME_VALUES)


def test_the_set_is_offered_in_the_place_of_our_tool_and_only_where_the_model_s_options_say_so() -> None:
    (told,) = body_of(user("a"))["tools"]
    assert told == ENTRY | {"cache_control": {"type": "ephemeral"}}
    plain = msgspec.structs.replace(ROUTE, options=ModelOptions())
    assert [tool["name"] for tool in body_of(user("a"), route=plain)["tools"]] == ["computer"]
    assert with_prefix(asking(user("a")), ROUTE).prefix != with_prefix(asking(user("a")), plain).prefix


def test_a_tool_of_somebody_s_own_that_has_the_name_is_left_alone() -> None:
    body = body_of(*called('{"action": "click", "x": 1, "y": 1}'), tool=OTHERS)
    assert [tool["description"] for tool in body["tools"]] == ["Of somebody's own."]
    assert "toolset_name" not in json.dumps(body)


@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        '{"action": "dance"}',
        '{"action": ["click"]}',
        '{"action": "click", "button": "fourth"}',
        '{"action": "move"}',
        '{"action": "drag", "x": 1, "y": 1}',
        '{"action": "scroll", "amount": "all"}',
        '{"action": "type"}',
        '{"action": "wait", "seconds": 1e999}',
        '{"action": "wait", "seconds": -2}',
        '{"action": "scroll", "amount": -1}',
        '{"action": "move", "x": true, "y": 1}',
        '{"action": "move", "x": 1, "y": ' + "9" * 400 + "}",
        '{"action": "wait", "seconds": ' + "9" * 400 + "}",
    ],
)
def test_a_call_that_its_words_have_none_for_goes_back_as_one_of_no_set(arguments: str) -> None:
    """Of another model, or refused: the server would refuse the whole request, in every turn to come."""
    call, result = (message["content"][0] for message in body_of(*called(arguments))["messages"][1:])
    assert (call["name"], "toolset_name" in call, "toolset_name" in result) == ("computer", False, False)


def test_what_another_model_said_loosely_is_said_as_the_set_wants_it() -> None:
    assert member_call({"action": "click", "x": 3.0, "y": 4}) == ("left_click", {"coordinate": [3, 4]})
    assert member_call({"action": "wait", "seconds": 0.5}) == ("wait", {"duration": 1})
    assert member_call({"action": "scroll"}) == ("scroll", {"scroll_direction": "down", "scroll_amount": 3})
    for none in (0, True, "3", 10**400):
        assert member_call({"action": "key", "text": "Tab", "repeat": none}) == ("key", {"text": "Tab"})


def decoded(*inputs: str, member: str = "left_click", reason: str = "tool_use") -> list[Part]:
    """What is told of an answer that is one call, whose input comes in these pieces."""
    block = {"type": "tool_use", "id": "toolu_1", "name": member, "input": {}, "toolset_name": "computer"}
    events: list[dict[str, Any]] = [{"type": "content_block_start", "index": 0, "content_block": block}]
    for piece in inputs:
        delta = {"type": "input_json_delta", "partial_json": piece}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason}},
        {"type": "message_stop"},
    ]
    decoder = MessageDecoder(ROUTE, new_call_id=numbered_call_ids())
    said = [event for payload in events for event in decoder.feed(json.dumps(payload).encode())]
    return [event.part for event in said if isinstance(event, Delta)]


def test_a_call_is_told_with_the_arguments_of_our_tool_once_it_is_whole() -> None:
    call, arguments = decoded('{"coord', 'inate": [3, 4]}')
    assert isinstance(call, ToolCallPart)
    assert isinstance(arguments, ToolArgumentsPart)
    assert (call.name, json.loads(arguments.text)) == ("computer", {"action": "click", "x": 3, "y": 4})


def test_a_call_without_input_is_whole_unless_the_answer_was_cut_there() -> None:
    *_, arguments = decoded(member="screenshot")
    assert isinstance(arguments, ToolArgumentsPart)
    assert json.loads(arguments.text) == {"action": "screenshot"}
    assert not any(isinstance(part, ToolArgumentsPart) for part in decoded(reason="max_tokens"))


@pytest.mark.parametrize("text", ['{"coordinate": [3', '{"duration": 1e999}', "[]", "x"])
def test_input_that_is_none_is_told_as_it_came_for_the_call_to_be_refused(text: str) -> None:
    (*_, arguments) = decoded(text, reason="max_tokens")
    assert isinstance(arguments, ToolArgumentsPart)
    assert arguments.text == text


def test_what_the_tool_does_not_know_is_left_for_it_to_refuse() -> None:
    assert arguments_of("zoom", {"region": [0, 0, 1, 1]}) == {"action": "zoom", "region": [0, 0, 1, 1]}
    assert arguments_of("left_click", {"coordinate": "here"}) == {"action": "click", "coordinate": "here"}


@pytest.mark.parametrize("kind", [Kind.OPENAI, Kind.RESPONSES])
def test_it_is_for_the_wire_that_has_it(kind: Kind) -> None:
    entry = ModelEntry(name="m", provider="p", provider_model="m", options=TOLD)
    require_able(entry, Kind.ANTHROPIC)
    with pytest.raises(InvalidRequest, match="computer_tool"):
        require_able(entry, kind)


# --- over HTTP, with a strict provider --------------------------------------------------------


@pytest.fixture
async def model(nursery: trio.Nursery) -> AsyncIterator[HttpModel]:
    simulator = Simulator(SimulatorOptions(port=0, tokens=20, tokens_per_second=0))
    url: Any = await nursery.start(simulator.serve)
    server = server_at(url, "sk-test-0123456789")
    to = msgspec.structs.replace(ROUTE, server=server, base_url=url, api_key="sk-test-0123456789")
    async with HttpModel(lambda _: to, concurrent=2, first_url=url) as model:
        yield model
    nursery.cancel_scope.cancel()


async def answer(model: HttpModel, request: ModelRequest) -> tuple[Part, ...]:
    said: list[Part] = []
    with trio.fail_after(DEADLINE_SECONDS):
        async with model.stream(request) as events:
            async for event in events:
                if isinstance(event, Delta):
                    said.append(event.part)
                elif isinstance(event, Finished):
                    return joined(said)
    raise AssertionError("the events ended without Finished")


async def test_a_provider_that_speaks_it_is_called_back_in_its_own_words(model: HttpModel) -> None:
    asked = user('[[reasoning=2]] [[call=left_click {"coordinate": [3, 4]}]] [[call=key {"text": "Return"}]]')
    first = await answer(model, asking(asked))
    calls = [part for part in first if isinstance(part, ToolCallPart)]
    assert [(call.name, json.loads(call.arguments)["action"]) for call in calls] == [
        ("computer", "click"),
        ("computer", "key"),
    ]
    results = ((Role.TOOL, (ToolResultPart(call.id, "done"),)) for call in calls)
    second = await answer(model, asking(asked, (Role.ASSISTANT, first), *results))
    assert second[-1] == TextPart("* `left_click`: done\n* `key`: done")


@pytest.mark.parametrize(
    "change",
    [
        {"display_width_px": 1280},
        {"configs": {"dance": {"enabled": True}}},
        {"configs": {"key": {"enabled": True, "strict": True}}},
    ],
)
async def test_the_simulated_provider_refuses_a_set_that_the_vendor_would(
    model: HttpModel, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in change.items():
        monkeypatch.setitem(ENTRY, name, value)
    with pytest.raises(ProviderError):
        await answer(model, asking(user("a")))
