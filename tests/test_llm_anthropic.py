"""The Messages wire, from transcripts: what is streamed and what is kept agree (P3), what only the server understands
goes back to it verbatim, and the vendor's own client reads the same from the same bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import anthropic
import httpx2
import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from played_transcripts import SERVER, numbered_call_ids, played
from pydantic import TypeAdapter
from told_histories import assistant, history, require_taken, tool, user

from chatcluster.errors import ProviderError
from chatcluster.llm.anthropic import WIRE, MessageDecoder
from chatcluster.llm.conversation import GO_ON
from chatcluster.llm.failures import Provider
from chatcluster.llm.wire import Route, with_prefix
from chatcluster.models import Kind, ModelOptions
from chatcluster.parts import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    joined,
)
from chatcluster.ports import Delta, Finished, ModelEvent, ModelRequest, ToolSpec

TRANSCRIPTS = Path(__file__).parent / "transcripts" / "anthropic"
ROUTE = Route(
    kind=Kind.ANTHROPIC, server=SERVER, model="claude-x", base_url="https://test.example", api_key="sk-very-secret-key"
)


def transcript(name: str) -> bytes:
    return (TRANSCRIPTS / f"{name}.sse").read_bytes()


def play(body: bytes, *, bytes_at_a_time: int = 1 << 20) -> list[ModelEvent]:
    decoder = MessageDecoder(ROUTE, new_call_id=numbered_call_ids())
    return played(decoder, body, bytes_at_a_time=bytes_at_a_time)


def opaque(kind: str, value: Any) -> OpaquePart:
    return OpaquePart("test.example", "claude-x", kind, json.dumps(value, separators=(",", ":")))


@dataclass(frozen=True)
class Answer:
    parts: tuple[Part, ...]
    reason: str = "stop"
    usage: Usage | None = None
    model: str | None = "claude-x"


THOUGHT = opaque("thinking", {"type": "thinking", "thinking": "Two cities: two calls.", "signature": "c2lnbmVk"})
REDACTED = opaque("redacted_thinking", {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"})
SEARCH = opaque(
    "server_tool_use",
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather Bern"}},
)
FOUND = opaque(
    "web_search_tool_result",
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {
                "type": "web_search_result",
                "url": "https://example.org/bern",
                "title": "Bern",
                "encrypted_content": "ZW5j",
                "page_age": None,
            }
        ],
    },
)
CITED = opaque(
    "citations",
    [
        {
            "type": "web_search_result_location",
            "cited_text": "rain",
            "encrypted_index": "aWR4",
            "title": "Bern",
            "url": "https://example.org/bern",
        }
    ],
)
BERN = SourcePart("https://example.org/bern", "Bern")
RUNNING = opaque(
    "server_tool_use",
    {"type": "server_tool_use", "id": "srvtoolu_9", "name": "code_execution", "input": {"code": "1+1"}},
)
CONTAINER = opaque("container", {"id": "container_1", "expires_at": "2026-11-28T12:00:00Z", "skills": None})
BEGINNING: tuple[Part, ...] = (
    ReasoningPart("Two cities: two calls."),
    THOUGHT,
    REDACTED,
    TextPart("Let me look."),
)

ANSWERS = {
    "llamacpp_calls": Answer(
        (
            TextPart("V a"),
            ToolCallPart("new_1", "weather", '{"city":"Bern"}', "8pCMCyIAkQGXurqyNr6iGneSiPfMGLBe"),
            ToolCallPart("new_2", "now", "{\n}", "vWX4S5Dw3QCPsueqUiDLdTim68cS1Hly"),
        ),
        "tool_calls",
        Usage(425, 92, None, 424),
        "tiny",
    ),
    "counts_nothing": Answer(
        (
            ReasoningPart("They greet me."),
            opaque("thinking", {"type": "thinking", "thinking": "They greet me.", "signature": "cGxhY2Vob2xkZXI="}),
            TextPart("Hello from somebody else's server. It says ü and 🎉."),
        ),
        usage=Usage(0, 0),
    ),
    "text": Answer((TextPart("Grüß dich 🌍"),), usage=Usage(115, 7, 0, 100, 5)),
    "thinking_and_calls": Answer(
        (
            *BEGINNING,
            ToolCallPart("new_1", "weather", '{"city": "Bern"}', "toolu_1"),
            ToolCallPart("new_2", "now", "{}", "toolu_2"),
        ),
        "tool_calls",
        Usage(10, 50, 20),
    ),
    "web_search": Answer((SEARCH, FOUND, TextPart("It rains."), CITED, BERN), usage=Usage(10, 40, searches=1)),
    "pause_turn": Answer((RUNNING, CONTAINER), "pause", Usage(10, 9)),
    "refusal_after_text": Answer((TextPart("First you take"),), "content_filter", Usage(10, 3)),
    "context_window": Answer((TextPart("Grüß dich 🌍"),), "length", Usage(115, 7, 0, 100, 5), "claude-y"),
    "call_cut_by_max_tokens": Answer(
        (*BEGINNING, ToolCallPart("new_1", "weather", '{"city": "Be', "toolu_1")), "length", Usage(10, 50, 20)
    ),
    "odd": Answer(
        (TextPart("of no block"), opaque("brand_new_block", {"type": "brand_new_block", "x": 1}), TextPart("Hi")),
        "other",
        None,
        None,
    ),
}

FAILURES = {
    "refusal": ("content_filter", False, "This could be harmful."),
    "overloaded": ("overloaded", True, "Overloaded"),
    "api_error": ("generic", True, "Internal server error"),
    "too_long": ("context_overflow", False, "prompt is too long"),
    "cut": ("stream_incomplete", True, "in the middle of its answer"),
}


@pytest.mark.parametrize("bytes_at_a_time", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_transcript_becomes_the_answer_that_it_means(name: str, bytes_at_a_time: int) -> None:
    *said, finished = play(transcript(name), bytes_at_a_time=bytes_at_a_time)

    assert isinstance(finished, Finished)
    parts = joined(event.part for event in said if isinstance(event, Delta))
    assert Answer(parts, finished.reason, finished.usage, finished.model) == ANSWERS[name]


@pytest.mark.parametrize("bytes_at_a_time", [1, 1 << 20])
@pytest.mark.parametrize("name", FAILURES)
def test_a_transcript_without_an_answer_is_a_visible_error(name: str, bytes_at_a_time: int) -> None:
    with pytest.raises(ProviderError) as caught:
        play(transcript(name), bytes_at_a_time=bytes_at_a_time)
    kind, retryable, says = FAILURES[name]
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable)
    assert says in caught.value.message


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_cut_anywhere_is_never_taken_for_a_whole_one(name: str) -> None:
    """Each end of the body before the last event, at every byte."""
    body = transcript(name)
    last = body.rindex(b'data: {"type":"message_stop"}')
    for end in range(last + len(b'data: {"type":"message_stop"')):
        with pytest.raises(ProviderError) as caught:
            play(body[:end])
        assert caught.value.retryable


def test_every_transcript_has_an_expectation() -> None:
    assert {path.stem for path in TRANSCRIPTS.glob("*.sse")} == {*ANSWERS, *FAILURES}


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - {"odd", "call_cut_by_max_tokens"}))
def test_the_vendors_client_reads_the_same(name: str) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=transcript(name))

    client = anthropic.Anthropic(
        api_key="key", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)), max_retries=0
    )
    with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as stream:
        message = stream.get_final_message()
    theirs = [block.to_dict() for block in message.content]
    assert [as_block(part) for part in ANSWERS[name].parts if as_block(part)] == [
        block if block["type"] != "text" else {"type": "text", "text": block["text"]} for block in theirs
    ]
    assert message.model == ANSWERS[name].model


def as_block(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ToolCallPart(name=name, arguments=arguments, provider_id=provider_id):
            return {"type": "tool_use", "id": provider_id, "name": name, "input": json.loads(arguments)}
        case OpaquePart(kind=kind, data=data) if kind not in ("container", "citations"):
            block: dict[str, Any] = json.loads(data)
            return block
        case _:
            return None


def told_by(*events: dict[str, Any]) -> list[Any]:
    decoder = MessageDecoder(ROUTE, new_call_id=numbered_call_ids())
    return [event for one in events for event in decoder.feed(json.dumps(one).encode())]


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def ended(reason: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}}, {"type": "message_stop"}


@pytest.mark.parametrize("index", [0, 1])
def test_blocks_that_a_gateway_neither_begins_nor_ends_nor_numbers_are_whole(index: int) -> None:
    """What was thought keeps its signature, or the next request would be refused; nothing that was said is lost."""
    events = told_by(
        start(0, type="thinking", thinking=""),
        delta(0, thinking="Hm."),
        delta(0, signature="c2ln"),
        start(index, type="tool_use", id="toolu_1", name="f", input={}),
        delta(7, text="So"),
        *ended("tool_use"),
    )
    parts = joined(event.part for event in events if isinstance(event, Delta))
    thought = opaque("thinking", {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"})
    assert set(parts) == {ReasoningPart("Hm."), thought, ToolCallPart("new_1", "f", "{}", "toolu_1"), TextPart("So")}
    assert events[-1] == Finished("tool_calls")


@pytest.mark.parametrize(("reason", "arguments"), [("tool_use", "{}"), ("max_tokens", ""), ("refusal", "")])
def test_arguments_of_the_last_call_of_an_answer_that_was_cut_are_not_known(reason: str, arguments: str) -> None:
    events = told_by(
        *(start(n, type="tool_use", id=f"toolu_{n}", name="f", input={}) for n in (0, 1)),
        *({"type": "content_block_stop", "index": n} for n in (0, 1)),
        *ended(reason),
    )
    parts = joined(event.part for event in events if isinstance(event, Delta))
    assert [part.arguments for part in parts if isinstance(part, ToolCallPart)] == ["{}", arguments]


@pytest.mark.parametrize("pieces", [[], ['{"a":', "1}"]])
def test_arguments_that_come_with_the_beginning_of_a_call_and_after_it_come_once(pieces: list[str]) -> None:
    events = told_by(
        start(0, type="tool_use", id="toolu_1", name="f", input={"a": 1}),
        *(delta(0, partial_json=piece) for piece in pieces),
        *ended("tool_use"),
    )
    assert joined(event.part for event in events if isinstance(event, Delta)) == (
        ToolCallPart("new_1", "f", '{"a":1}', "toolu_1"),
    )


def test_an_answer_that_was_not_streamed_is_taken_whole() -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
    body = {
        "type": "message",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Hi"}, block],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    decoder = MessageDecoder(ROUTE, new_call_id=lambda: "ours")
    assert decoder.feed(json.dumps(body).encode()) + decoder.end() == [
        Delta(TextPart("Hi")),
        Delta(ToolCallPart("ours", "f", "", "toolu_1")),
        Delta(ToolArgumentsPart("ours", '{"a":1}')),
        Finished("tool_calls", Usage(1, 2), "claude-x"),
    ]


# --- the request ------------------------------------------------------------------------------


def body_of(
    messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), *, may_call: bool = True, **route: Any
) -> Any:
    """The body, which the vendor's types take."""
    request = ModelRequest(UUID(int=1), messages, tools=tools, may_call_tools=may_call)
    body = json.loads(b"".join(WIRE.body(request, msgspec.structs.replace(ROUTE, **route))))
    require_taken(VENDORS_TYPE, body)
    return body


VENDORS_TYPE: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)
MARK = {"cache_control": {"type": "ephemeral"}}


def unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: unmarked(inner) for key, inner in value.items() if key != "cache_control"}
    return [unmarked(inner) for inner in value] if isinstance(value, list) else value


def test_a_request_has_its_system_text_apart_and_marks_what_to_keep() -> None:
    tools = (ToolSpec("weather", "Tells the weather.", {"type": "object"}), ToolSpec("now", "", {}))
    body = body_of(
        history((Role.SYSTEM, (TextPart("Be kind."),)), user("a"), assistant(TextPart("b")), user("c"), user("d")),
        tools,
    )
    assert body == {
        "model": "claude-x",
        "max_tokens": 32_000,
        "stream": True,
        "tools": [
            {"name": "weather", "description": "Tells the weather.", "input_schema": {"type": "object"}},
            {"name": "now", "input_schema": {"type": "object", "properties": {}}, **MARK},
        ],
        "system": [{"type": "text", "text": "Be kind.", **MARK}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", **MARK}]},
            {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d", **MARK}]},
        ],
    }


def test_a_request_says_what_its_options_say() -> None:
    said = history(user("a"))
    effort = body_of(said, options=ModelOptions(reasoning_effort="high"))
    assert effort["output_config"] == {"effort": "high"}
    assert effort["thinking"] == {"type": "adaptive", "display": "summarized"}
    budget = body_of(said, output_tokens_max=2000, options=ModelOptions(thinking_tokens=9000))
    assert (budget["max_tokens"], budget["thinking"]["budget_tokens"]) == (2000, 1999)
    assert body_of(said, options=ModelOptions(temperature=0.5, extra_body={"top_k": 3}))["top_k"] == 3


@pytest.mark.parametrize(
    "base_url", ["https://host", "https://host/v1", "https://host/v1/messages", "https://host/v1/"]
)
def test_the_version_may_stand_in_the_base_url(base_url: str) -> None:
    route = msgspec.structs.replace(ROUTE, base_url=base_url)
    assert WIRE.target(ModelRequest(UUID(int=1), ()), route) == ("POST", "https://host/v1/messages")


def test_the_key_goes_where_the_version_wants_it() -> None:
    assert WIRE.headers(ROUTE) == {"anthropic-version": "2026-10-21", "authorization": "Bearer sk-very-secret-key"}
    warm = msgspec.structs.replace(ROUTE, options=ModelOptions(temperature=0.0))
    other = msgspec.structs.replace(ROUTE, options=ModelOptions(extra_body={"top_k": 3}))
    for route in (warm, other):
        assert WIRE.headers(route) == {"anthropic-version": "2023-06-01", "x-api-key": "sk-very-secret-key"}


def test_a_limit_with_no_room_for_thoughts_is_asked_for_without_them() -> None:
    options = ModelOptions(thinking_tokens=2000)
    for output_tokens, thinks in ((1024, False), (1025, True)):
        assert ("thinking" in body_of(history(user("a")), options=options, output_tokens_max=output_tokens)) is thinks


CALLS = (ToolCallPart("new_1", "weather", '{"city": "Bern"}', "toolu_1"), ToolCallPart("new_2", "now", "broken"))
RESULTS = (
    ToolResultPart("new_2", "no clock", is_error=True),
    ToolResultPart("new_1", (TextPart("Rain:"), ImagePart("image/png", "aGk="))),
)


def test_what_only_the_server_understands_goes_back_verbatim_and_results_come_first() -> None:
    body = body_of(history(user("a"), assistant(*BEGINNING, *CALLS), tool(*RESULTS), user("and?")))
    assert unmarked(body["messages"][1:]) == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Two cities: two calls.", "signature": "c2lnbmVk"},
                {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "new_2", "name": "now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "Rain:"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    ],
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "new_2",
                    "content": [{"type": "text", "text": "no clock"}],
                    "is_error": True,
                },
                {"type": "text", "text": "and?"},
            ],
        },
    ]


@pytest.mark.parametrize("change", [{"server": Provider("another")}, {"model": "claude-z"}])
def test_what_only_the_server_understands_goes_to_no_other(change: dict[str, Any]) -> None:
    said = history(user("a"), assistant(*BEGINNING, SEARCH, FOUND, TextPart("b"), CITED), user("c"))
    kinds = [block["type"] for block in body_of(said, **change)["messages"][1]["content"]]
    assert kinds == ["text", "text"]


def test_a_step_that_was_made_without_thinking_is_gone_on_with_without() -> None:
    options = ModelOptions(thinking_tokens=2000)
    step = (assistant(CALLS[0]), tool(RESULTS[1]))
    assert "thinking" not in body_of(history(user("a"), *step), options=options)
    assert "thinking" in body_of(history(user("a"), *step, assistant(TextPart("b")), user("c")), options=options)
    assert "thinking" in body_of(history(user("a"), assistant(THOUGHT, CALLS[0]), tool(RESULTS[1])), options=options)


def test_the_servers_own_calls_go_back_in_pairs_or_not_at_all() -> None:
    def kinds(*parts: Part) -> list[str]:
        messages = body_of(history(user("a"), assistant(*parts, TextPart("b")), user("c")))["messages"]
        return [block["type"] for block in messages[1]["content"]]

    assert kinds(SEARCH, FOUND) == ["server_tool_use", "web_search_tool_result", "text"]
    assert kinds(SEARCH) == kinds(FOUND) == ["text"]


def test_a_paused_answer_is_sent_back_as_it_is_with_its_container() -> None:
    body = body_of(history(user("a"), assistant(RUNNING, CONTAINER), reason="pause"))
    assert body["container"] == "container_1"
    assert body["messages"][-1] == {"role": "assistant", "content": [json.loads(RUNNING.data)]}
    interrupted = body_of(history(user("a"), assistant(RUNNING, CONTAINER), reason="interrupted"))
    assert [message["role"] for message in interrupted["messages"]] == ["user"]


def test_an_answer_that_another_model_paused_is_gone_on_with_on_request() -> None:
    """Models refuse a conversation that ends with words of their own."""
    said = history(user("a"), assistant(TextPart("Let me look."), RUNNING), reason="pause")
    assert body_of(said)["messages"][-1]["role"] == "assistant"
    for change in ({"server": Provider("another")}, {"model": "claude-z"}):
        *_, answer, last = body_of(said, **change)["messages"]
        assert [block["type"] for block in answer["content"]] == ["text"]
        assert (last["role"], last["content"][0]["text"]) == ("user", GO_ON)


def test_a_search_that_a_pause_left_open_long_ago_is_not_sent_with_the_one_that_pauses_now() -> None:
    use = {"type": "server_tool_use", "id": "srvtoolu_now", "name": "web_search", "input": {}}
    now = opaque("server_tool_use", use)
    before = history(user("a"), assistant(TextPart("Hm."), RUNNING), reason="pause")
    body = body_of((*before, *history(user("b"), assistant(now), reason="pause")))
    blocks = [block["type"] for message in body["messages"] for block in message["content"]]
    assert blocks == ["text", "text", "text", "server_tool_use"]
    assert body["messages"][-1]["content"] == [json.loads(now.data)]


def test_counts_that_a_gateway_does_not_repeat_at_the_end_stay() -> None:
    decoder = MessageDecoder(ROUTE)
    message = {"model": "claude-x", "usage": {"input_tokens": 900, "cache_read_input_tokens": 50, "output_tokens": 1}}
    decoder.feed(json.dumps({"type": "message_start", "message": message}).encode())
    ending = {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 7}
    decoder.feed(json.dumps({"type": "message_delta", "delta": {}, "usage": ending}).encode())
    assert decoder.usage == Usage(950, 7, cached_input_tokens=50)


LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {}})
SEARCHING = ModelOptions(web_search={"allowed_domains": ["example.org"], "max_uses": 3})


def test_a_model_that_searches_the_web_is_offered_its_servers_tool_behind_ours() -> None:
    body = body_of(history(user("a")), (LOOK,), options=SEARCHING)
    ours, theirs = body["tools"]
    assert ours["name"] == "look"
    assert theirs == {
        "type": "web_search_20250305",
        "name": "web_search",
        "allowed_domains": ["example.org"],
        "max_uses": 3,
        "cache_control": {"type": "ephemeral"},
    }
    assert "tool_choice" not in body
    assert [tool["name"] for tool in body_of(history(user("a")), options=SEARCHING)["tools"]] == ["web_search"]


def test_a_summary_is_told_of_the_search_and_may_not_and_a_title_is_not_even_told() -> None:
    """The one keeps what the server has of the prompt; the other has nothing to look for."""
    body = body_of(history(user("a")), may_call=False, options=SEARCHING)
    assert (len(body["tools"]), body["tool_choice"]) == (1, {"type": "none"})
    title = ModelRequest(UUID(int=1), history(user("a")), may_search=False)
    assert b"tools" not in b"".join(WIRE.body(title, msgspec.structs.replace(ROUTE, options=SEARCHING)))


def test_where_a_tool_of_ours_has_the_name_there_is_no_other() -> None:
    """Names of tools are unique there, or the whole request is refused."""
    ours = ToolSpec("web_search", "Ours.", {"type": "object", "properties": {}})
    (tool,) = body_of(history(user("a")), (ours,), options=SEARCHING)["tools"]
    assert tool["description"] == "Ours."


def test_what_was_signed_before_the_web_was_searched_is_not_sent_after() -> None:
    """It is bound to the tools, and the search is one of them."""
    thinking = msgspec.structs.replace(THOUGHT, prefix=with_prefix(asking_hi(), ROUTE).prefix)
    said = history(user("a"), assistant(thinking, TextPart("b")), user("c"))
    kinds = [
        [block["type"] for block in body_of(said, options=options)["messages"][1]["content"]]
        for options in (ModelOptions(), SEARCHING)
    ]
    assert kinds == [["thinking", "text"], ["text"]]


def asking_hi() -> ModelRequest:
    return ModelRequest(UUID(int=1), history(user("a")))


def test_citations_stay_with_their_text() -> None:
    body = body_of(history(user("a"), assistant(TextPart("It rains."), CITED), user("b")))
    (block,) = body["messages"][1]["content"]
    assert block["citations"][0]["cited_text"] == "rain"


def test_a_conversation_begins_with_a_user_and_calls_of_the_past_have_a_tool() -> None:
    body = body_of(history(assistant(CALLS[0]), tool(RESULTS[1]), assistant(TextPart("b")), user("c")))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    assert [tool["name"] for tool in body["tools"]] == ["none"]
    assert body["tool_choice"] == {"type": "none"}
    forbidden = body_of(history(user("a")), (ToolSpec("f", "", {"type": "object"}),), may_call=False)
    assert forbidden["tool_choice"] == {"type": "none"}
