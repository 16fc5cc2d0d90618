"""Reasoning over Chat Completions: what is told as such, and what of it goes back to its model."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
from played_transcripts import SERVER
from test_llm_openai import ROUTE, body_of, wire_messages
from told_histories import assistant, history, tool, user

from chatcluster.llm.openai import ChunkDecoder
from chatcluster.llm.openai_request import request_body
from chatcluster.parts import OpaquePart, Part, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart, joined
from chatcluster.ports import Delta, ModelRequest


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_the_reasoning_that_led_to_calls_goes_back_to_the_model_in_the_field_that_it_came_in(field: str) -> None:
    decoder = ChunkDecoder(ROUTE, new_call_id=lambda: "call_a")
    said = decoder.feed(b'{"choices":[{"delta":{"%s":"Hm, the weather."}}]}' % field.encode())
    said += decoder.feed(b'{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}')
    said += decoder.feed(b"[DONE]")
    parts = joined(event.part for event in said if isinstance(event, Delta))
    step = history(user("a"), assistant(*parts), tool(ToolResultPart("call_a", "ok")))
    assert body_of(step)["messages"][1][field] == "Hm, the weather."
    assert field not in body_of(step, model="another")["messages"][1]
    answered = history(user("a"), assistant(ReasoningPart("Hm"), TextPart("b")), user("c"))
    assert field not in body_of(answered)["messages"][1]


def thoughtful(*parts: Part) -> tuple[Role, tuple[Part, ...]]:
    """An answer with its reasoning, and the mark of the field that it had if it called something."""
    mark = OpaquePart(SERVER.name, ROUTE.model, "reasoning", '{"field":"reasoning_content"}')
    has_calls = any(isinstance(part, ToolCallPart) for part in parts)
    return assistant(ReasoningPart("Hm."), *parts, *([mark] if has_calls else []))


def test_what_was_reasoned_behind_a_call_goes_back_in_each_turn_to_come_and_other_reasoning_does_not() -> None:
    """DeepSeek: between two messages of the user all of it, or none."""
    turn = (
        thoughtful(ToolCallPart("call_a", "f", "{}")),
        tool(ToolResultPart("call_a", "ok")),
        thoughtful(TextPart("b")),
    )
    said = wire_messages(history(user("a"), *turn, user("c"), thoughtful(TextPart("d")), user("e")))
    told = [(message["role"], message.get("reasoning_content")) for message in said]
    assert told == [
        ("user", None),
        ("assistant", "Hm."),
        ("tool", None),
        ("assistant", "Hm."),
        ("user", None),
        ("assistant", None),
        ("user", None),
    ]


@pytest.mark.parametrize(("host", "reasoning"), [("api.deepseek.com", "(unknown)"), ("a.example", None)])
def test_of_a_step_that_another_model_made_the_reasoning_is_said_to_be_unknown(
    host: str, reasoning: str | None
) -> None:
    step = (assistant(ToolCallPart("call_a", "f", "{}")), tool(ToolResultPart("call_a", "ok")))
    request = ModelRequest(UUID(int=1), history(user("a"), *step, user("b")))
    route = msgspec.structs.replace(ROUTE, base_url=f"https://{host}/v1")
    _, called, *_ = json.loads(b"".join(request_body(request, route)))["messages"]
    assert called.get("reasoning_content") == reasoning


def test_reasoning_that_a_gateway_tells_as_a_list_goes_back_as_one_with_its_signature_and_what_is_encrypted() -> None:
    """OpenRouter before Claude and Gemini, which refuse calls without: each text is one again, whatever its pieces."""
    pieces: list[list[dict[str, Any]]] = [
        [{"type": "reasoning.text", "text": "Hm, ", "format": "anthropic-claude-v1", "index": 0}],
        [{"type": "reasoning.text", "text": "rain.", "signature": None, "index": 0}],
        [{"type": "reasoning.text", "signature": "c2ln", "format": "anthropic-claude-v1", "index": 0}],
        [
            {"type": "reasoning.encrypted", "data": "YQ==", "id": "call_a", "index": 1},
            {"type": "reasoning.encrypted", "data": "Yg==", "id": "call_b", "index": 1},
        ],
    ]
    decoder = ChunkDecoder(ROUTE, new_call_id=lambda: "call_a")
    deltas: list[dict[str, Any]] = [{"reasoning": "Hm, rain.", "reasoning_details": pieces[0]}]
    deltas += [{"reasoning_details": more} for more in pieces[1:]]
    deltas += [{"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]
    said = [one for delta in deltas for one in decoder.feed(json.dumps({"choices": [{"delta": delta}]}).encode())]
    said += decoder.feed(b"[DONE]")
    parts = joined(event.part for event in said if isinstance(event, Delta))
    step = history(user("a"), assistant(*parts), tool(ToolResultPart("call_a", "ok")))
    sent = body_of(step)["messages"][1]
    assert sent["reasoning_details"] == [
        {
            "type": "reasoning.text",
            "text": "Hm, rain.",
            "signature": "c2ln",
            "format": "anthropic-claude-v1",
            "index": 0,
        },
        *pieces[3],
    ]
    assert "reasoning" not in sent, "it is the same once more"
    assert "reasoning_details" not in body_of(step, model="another")["messages"][1]


def test_reasoning_that_is_in_the_list_alone_is_told_as_it_comes() -> None:
    """Else readers see nothing of it, and it counts as a standstill."""
    pieces = [{"type": "reasoning.text", "text": "Hm, ", "index": 0}, {"type": "reasoning.summary", "summary": "rain."}]
    decoder = ChunkDecoder(ROUTE)
    deltas = [{"reasoning_details": [one]} for one in pieces]
    said = [one for delta in deltas for one in decoder.feed(json.dumps({"choices": [{"delta": delta}]}).encode())]
    assert said == [Delta(ReasoningPart("Hm, ")), Delta(ReasoningPart("rain."))]


@pytest.mark.parametrize("flag", ["google", "vertex"])
@pytest.mark.parametrize(
    ("thoughts", "words"),
    [
        (["<thought>Two ", "cities."], ["</thought>It ", "rains."]),
        (["Two ", "cities."], ["It ", "rains."]),
        (["<thought>Two cities.</thought>It "], ["rains."]),
    ],
    ids=["Google's tags", "Vertex, without", "all at once"],
)
def test_what_gemini_flags_as_a_thought_is_reasoning(flag: str, thoughts: list[str], words: list[str]) -> None:
    deltas: list[dict[str, Any]] = [{"content": one, "extra_content": {flag: {"thought": True}}} for one in thoughts]
    deltas += [{"content": one, "extra_content": None} for one in words]
    decoder = ChunkDecoder(ROUTE)
    said = [one for delta in deltas for one in decoder.feed(json.dumps({"choices": [{"delta": delta}]}).encode())]
    parts = joined(event.part for event in said if isinstance(event, Delta))
    assert parts == (ReasoningPart("Two cities."), TextPart("It rains."))


@pytest.mark.parametrize("odd", ["Hm", {"text": "Hm"}, [None, 7, "a"], [[{}]]])
def test_reasoning_details_of_an_unknown_form_are_passed_over(odd: Any) -> None:
    decoder = ChunkDecoder(ROUTE)
    said = decoder.feed(json.dumps({"choices": [{"delta": {"content": "a", "reasoning_details": odd}}]}).encode())
    assert said == [Delta(TextPart("a"))]
