"""The Chat Completions wire, from transcripts: whatever a compatible server sends, it becomes the answer it
meant, or an error that says what to do (P3: what is streamed and what is kept agree, so nothing is dropped
silently and nothing ends without a word)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import openai
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from played_transcripts import SERVER, numbered_call_ids, played
from pydantic import TypeAdapter
from told_histories import assistant, history, require_taken, tool, user

from chatcluster.errors import ProviderError
from chatcluster.llm.conversation import GO_ON, OUTCOME_UNKNOWN
from chatcluster.llm.failures import Provider
from chatcluster.llm.openai import ChunkDecoder
from chatcluster.llm.openai_request import request_body
from chatcluster.llm.slices import SLICE_BYTES
from chatcluster.llm.streamed_calls import CALLS_CHARACTERS_MAX
from chatcluster.llm.wire import Route
from chatcluster.models import ModelOptions
from chatcluster.parts import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    joined,
)
from chatcluster.ports import Delta, Finished, KeepAlive, ModelEvent, ModelRequest, ToolSpec

TRANSCRIPTS = Path(__file__).parent / "transcripts"
ROUTE = Route(server=SERVER, model="asked")


def play(body: bytes, *, bytes_at_a_time: int = 1 << 20) -> list[ModelEvent]:
    decoder = ChunkDecoder(ROUTE, new_call_id=numbered_call_ids())
    return played(decoder, body, bytes_at_a_time=bytes_at_a_time)


def transcript(name: str) -> bytes:
    return (TRANSCRIPTS / f"{name}.sse").read_bytes()


@dataclass(frozen=True)
class Answer:
    parts: tuple[Part, ...]
    reason: str = "stop"
    usage: Usage | None = None
    model: str | None = None


def text(value: str) -> tuple[Part, ...]:
    return (TextPart(value),)


ANSWERS = {
    "reasoning_before_role": Answer(
        (ReasoningPart("They greet me."), TextPart("Hello from somebody else's server. It says ü and 🎉.")),
        usage=Usage(2, 13),
        model="gpt-x",
    ),
    "llamacpp_calls": Answer(
        (
            TextPart("V"),
            ToolCallPart("new_1", "weather", '{"city":"Rome"\n}', "z05b63F86RoNTlkiIl3RxvtnyA3k2shm"),
            ToolCallPart("new_2", "now", "{\n}", "zjFp2FDOBl1ifMuT79mD0bzrKkAbHzgR"),
        ),
        "tool_calls",
        Usage(425, 91, None, 424),
        "tiny",
    ),
    "portkey_calls": Answer(
        (
            ToolCallPart("new_1", "weather", '{"city": "Bern"}', "toolu_91d8893900d44724983a8db7"),
            ToolCallPart("new_2", "weather", '{"city": "Rom"}', "toolu_e51aafc0825d4e08b6cd3ea0"),
        ),
        "tool_calls",
        Usage(7, 9, None, 0),
        "m",
    ),
    "openai": Answer(text("Hello wörld 🌍"), usage=Usage(9, 4, 2, 5), model="gpt-x"),
    "openai_parallel_calls": Answer(
        (ToolCallPart("new_1", "weather", '{"city":"Bern"}', "call_a"), ToolCallPart("new_2", "time", "{}", "call_b")),
        "tool_calls",
    ),
    "azure_empty_choices": Answer(text("Hi"), "content_filter", model="gpt-azure"),
    "openrouter_comments": Answer((ReasoningPart("Think"), TextPart("Yes")), usage=Usage(3, 2), model="vendor/m"),
    "vllm_reasoning": Answer((ReasoningPart("Let me see."), TextPart("42")), usage=Usage(1, 9)),
    "deepseek_reasoning": Answer((ReasoningPart("Hm"), TextPart("Ok")), "length", Usage(7, 2, 1)),
    "ollama_calls_without_index": Answer(
        (ToolCallPart("new_1", "add", '{"a": 1, "ü": [2]}', "call_1"), ToolCallPart("new_2", "now", "{}", "call_2")),
        "tool_calls",
        model="qwen",
    ),
    "proxy_all_calls_index_zero": Answer(
        (ToolCallPart("new_1", "one", '{"x":1}', "a"), ToolCallPart("new_2", "two", "{}", "b")), "tool_calls"
    ),
    "changing_call_ids": Answer((ToolCallPart("new_1", "one", '{"q":"v"}', "x1"),), "tool_calls"),
    "calls_without_ids": Answer(
        (
            ToolCallPart("new_1", "one", "{}"),
            ToolCallPart("new_2", "one", '{"n":2}'),
            ToolCallPart("new_3", "two", "{}", "same"),
            ToolCallPart("new_4", "three", "{}"),
        ),
        "tool_calls",
    ),
    "no_done": Answer(text("Hi"), usage=Usage(2, 1)),
    "crlf_without_last_blank_line": Answer(text("Hi you")),
    "content_as_blocks": Answer((ReasoningPart("Hm. "), TextPart("So be it"))),
    "odd_shapes": Answer(text("still here \ufffd")),
    "refusal": Answer(text("I'm sorry")),
    "byte_order_mark": Answer(text("First words. Second words.")),
    "carriage_returns": Answer(text("Hi you")),
    "mixed_line_ends": Answer(text("Grüß dich 🌍")),
    "multi_line_data": Answer(text("Hi")),
    "empty_data": Answer(text("Hi")),
    "lines_without_data": Answer(text("Hi you")),
    "broken_utf8": Answer(text("a\ufffd\ufffdb")),
    "lone_surrogates": Answer(text("half \ufffd whole 🌍"), model="a\ufffdb"),
    "content_as_objects": Answer(text("Hi you there")),
    "visible_after_space": Answer(text("\n\nHi")),
    "absurd_usage": Answer(text("Hi"), usage=Usage(3)),
    "perplexity_message_beside_delta": Answer(text("Hi you")),
    "whole_message_at_the_end": Answer(text("Hi")),
    "legacy_function_call": Answer((ToolCallPart("new_1", "add", '{"a":1}'),), "tool_calls"),
    "gemini_thought_signature": Answer(
        (
            ToolCallPart("new_1", "weather", '{"city":"Bern"}', "function-call-1"),
            OpaquePart(
                "test.example",
                "asked",
                "extra_content",
                '{"call_id":"new_1","extra_content":{"google":{"thought_signature":"c2lnbmF0dXJl"}}}',
            ),
            ToolCallPart("new_2", "weather", '{"city":"Rom"}', "function-call-2"),
        ),
        "tool_calls",
        Usage(40, 12),
        "gemini-x",
    ),
    "name_after_arguments": Answer(
        (
            ToolCallPart("new_1", "weather", '{"city":"Bern"}', "call_a"),
            OpaquePart("test.example", "asked", "extra_content", '{"call_id":"new_1","extra_content":{"v":1}}'),
        ),
        "tool_calls",
    ),
    "call_cut_by_length": Answer(
        (TextPart("Let me see."), ToolCallPart("new_1", "write", '{"text":"Once upo', "call_a")), "length"
    ),
    "together_eos": Answer(text("Hi")),
    "gateway_end_turn": Answer(text("Hi")),
    "gemini_upper_case": Answer(text("Hi there")),
    "gemini_filtered_in_detail": Answer(text("Once upon"), "content_filter"),
    "glm_sensitive": Answer(text("Once upon"), "content_filter"),
    "glm_context_window": Answer(text("Once upon"), "length"),
    "mistral_model_length": Answer(text("Once upon"), "length"),
    "cohere_max_tokens": Answer(text("Once upon"), "length"),
    "ollama_empty_finish_reasons": Answer(text("Hi you")),
    "unknown_reason": Answer(text("Hi"), "other"),
}


@dataclass(frozen=True)
class Failure:
    kind: str
    retryable: bool
    says: str
    status_code: int | None = None


FAILURES = {
    "openrouter_error": Failure("generic", True, "Provider disconnected", 502),
    "litellm_error": Failure("usage_limit", False, "exceeded your budget", 429),
    "vllm_error": Failure("context_overflow", False, "maximum context length", 400),
    "cut": Failure("stream_incomplete", True, "in the middle of its answer"),
    "cut_in_json": Failure("generic", True, "cannot be read"),
    "empty": Failure("empty_answer", True, "empty answer"),
    "filtered_empty": Failure("content_filter", False, "content filter"),
    "html_in_stream": Failure("generic", True, "cannot be read"),
    "finish_error": Failure("generic", True, "broke off"),
    "vllm_abort": Failure("generic", True, "finish reason abort"),
    "sglang_abort_object": Failure("generic", True, "aborted by load shedding"),
    "deepseek_insufficient_system_resource": Failure("overloaded", True, "insufficient_system_resource"),
    "glm_network_error": Failure("generic", True, "network_error"),
    "cohere_error": Failure("generic", True, "finish reason ERROR"),
    "gemini_malformed_function_call": Failure("generic", True, "MALFORMED_FUNCTION_CALL"),
    "watsonx_time_limit": Failure("generic", True, "time_limit"),
    "openrouter_error_in_choice": Failure("rate_limit", True, "Rate limit exceeded at the provider", 429),
    "openrouter_raw_error": Failure("generic", True, "the tokenizer crashed", 502),
    "error_event": Failure("overloaded", True, "Our servers are overloaded"),
    "error_event_of_text": Failure("generic", True, "worker died"),
    "bedrock_exception_event": Failure("generic", True, "ended unexpectedly"),
    "error_text": Failure("generic", True, "unexpectedly stopped"),
    "error_array": Failure("overloaded", True, "The model is overloaded", 503),
    "errors_list": Failure("generic", True, "upstream reset", 502),
    "error_of_error": Failure("rate_limit", True, "slow down, please"),
    "minimax_base_resp": Failure("usage_limit", False, "insufficient balance"),
    "fastapi_detail": Failure("generic", True, "Engine loop has died"),
    "message_without_choices": Failure("generic", True, "something went wrong"),
    "error_line_without_data": Failure("generic", True, "CUDA out of memory", 500),
    "text_after_the_stream_broke": Failure("stream_incomplete", True, "in the middle of its answer"),
    "page_instead_of_events": Failure("stream_incomplete", True, "in the middle of its answer"),
    "whitespace_only": Failure("empty_answer", True, "reasoning or space"),
    "null_content": Failure("empty_answer", True, "empty answer"),
    "reasoning_only": Failure("empty_answer", True, "nothing but reasoning"),
    "reasoning_only_to_the_limit": Failure("empty_answer", False, "limit of length"),
}


@pytest.mark.parametrize("bytes_at_a_time", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_transcript_becomes_the_answer_that_it_means(name: str, bytes_at_a_time: int) -> None:
    *said, finished = play(transcript(name), bytes_at_a_time=bytes_at_a_time)

    assert isinstance(finished, Finished)
    parts = joined(event.part for event in said if isinstance(event, Delta))
    assert Answer(parts, finished.reason, finished.usage, finished.model) == ANSWERS[name]
    assert all(isinstance(event, Delta | KeepAlive) for event in said)


@pytest.mark.parametrize("bytes_at_a_time", [1, 1 << 20])
@pytest.mark.parametrize("name", FAILURES)
def test_a_transcript_without_an_answer_is_a_visible_error(name: str, bytes_at_a_time: int) -> None:
    with pytest.raises(ProviderError) as caught:
        play(transcript(name), bytes_at_a_time=bytes_at_a_time)

    expected, error = FAILURES[name], caught.value
    assert (error.kind, error.retryable, error.status_code) == (
        expected.kind,
        expected.retryable,
        expected.status_code,
    )
    assert expected.says in error.message
    assert len(error.message) <= 500
    assert error.provider == "test.example"


VENDORS_TYPE: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsStreaming)


@pytest.mark.parametrize("name", ["openai", "openai_parallel_calls", "refusal", "vllm_reasoning", "no_done"])
def test_the_vendors_client_reads_the_same(name: str) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=transcript(name))

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(api_key="key", base_url="https://test.example/v1", http_client=http, max_retries=0)
    texts: list[str] = []
    calls: dict[int, list[str]] = {}
    for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
        for delta in (choice.delta for choice in chunk.choices):
            texts.extend(filter(None, (delta.content, delta.refusal)))
            for call in delta.tool_calls or ():
                assert call.function is not None
                pieces = calls.setdefault(call.index, [])
                pieces.extend(filter(None, (call.id, call.function.name, call.function.arguments)))
    ours = ANSWERS[name].parts
    assert "".join(texts) == "".join(part.text for part in ours if isinstance(part, TextPart))
    assert ["".join(pieces) for pieces in calls.values()] == [
        f"{part.provider_id}{part.name}{part.arguments}" for part in ours if isinstance(part, ToolCallPart)
    ]


def test_every_transcript_has_an_expectation() -> None:
    assert {path.stem for path in TRANSCRIPTS.glob("*.sse")} == {*ANSWERS, *FAILURES}


def test_every_chunk_is_a_sign_of_life() -> None:
    """A silence guard that is reset by events must not abort a stream that sends empty chunks and comments."""
    events = play(transcript("openrouter_comments"))
    assert [type(event).__name__ for event in events] == [
        *("KeepAlive", "KeepAlive", "Delta", "KeepAlive", "Delta", "KeepAlive", "KeepAlive", "Finished")
    ]


def test_pieces_of_a_call_are_progress_and_what_says_nothing_is_not() -> None:
    """The bound on the time without a token needs to tell them apart."""
    decoder = ChunkDecoder(ROUTE)

    def kind(delta: str) -> str:
        (event,) = decoder.feed(b'{"choices":[{"delta":%s}],"usage":{"prompt_tokens":1}}' % delta.encode())
        return type(event).__name__

    assert kind('{"tool_calls":[{"index":0,"id":"a","function":{"arguments":"{"}}]}') == "Progress"
    assert kind('{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"}"}}]}') == "Delta"
    assert kind('{"tool_calls":[{"index":0,"function":{"arguments":""}}]}') == "KeepAlive"
    assert kind('{"role":"assistant","content":""}') == "KeepAlive"
    assert kind("{}") == "KeepAlive"
    assert decoder.feed(b"") == [KeepAlive()]
    assert decoder.feed(b'{"choices":[],"usage":{"completion_tokens":9}}') == [KeepAlive()]


def test_a_call_is_told_when_its_name_is_known_and_its_arguments_as_they_come() -> None:
    decoder = ChunkDecoder(ROUTE, new_call_id=lambda: "ours")

    def said(piece: str) -> list[ModelEvent]:
        return decoder.feed(b'{"choices":[{"delta":{"tool_calls":[%s]}}]}' % piece.encode())

    assert said('{"index":0,"id":"theirs","function":{"name":"f","arguments":""}}') == [
        Delta(ToolCallPart("ours", "f", "", "theirs"))
    ]
    assert said('{"index":0,"function":{"arguments":"{\\"a\\":"}}') == [Delta(ToolArgumentsPart("ours", '{"a":'))]
    assert said('{"index":0,"function":{"arguments":"1}"}}') == [Delta(ToolArgumentsPart("ours", "1}"))]
    assert decoder.feed(b"[DONE]") == [Finished("tool_calls")]


def test_arguments_that_never_came_are_none() -> None:
    decoder = ChunkDecoder(ROUTE, new_call_id=lambda: "ours")
    decoder.feed(b'{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":" "}}]}}]}')
    assert decoder.feed(b"[DONE]") == [Delta(ToolArgumentsPart("ours", "{}")), Finished("tool_calls")]


def test_ids_of_calls_are_ours_and_never_the_same() -> None:
    ids = set()
    for _ in range(3):
        (event,) = ChunkDecoder(ROUTE).feed(
            b'{"choices":[{"delta":{"tool_calls":[{"id":"call_0","function":{"name":"f"}}]}}]}'
        )
        assert isinstance(event, Delta)
        assert isinstance(event.part, ToolCallPart)
        ids.add(event.part.id)
    assert len(ids) == 3
    assert all(re.fullmatch("call_[0-9a-f]{32}", call_id) for call_id in ids)


def test_a_reason_that_nobody_knows_does_not_end_the_answer() -> None:
    """Together with the end of the stream it does; a connection that is lost behind it is a lost connection."""
    decoder = ChunkDecoder(ROUTE)
    decoder.feed(b'{"choices":[{"delta":{"content":"Hi"},"finish_reason":"brand_new"}]}')
    assert not decoder.has_finish_reason
    assert decoder.end() == [Finished("other")]


def test_text_is_passed_on_chunk_by_chunk_before_the_end() -> None:
    decoder = ChunkDecoder(ROUTE)
    assert decoder.feed(b'{"choices":[{"delta":{"content":"a"}}]}') == [Delta(TextPart("a"))]
    before = decoder.has_finish_reason
    assert decoder.feed(b'{"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}]}') == [Delta(TextPart("b"))]
    assert (before, decoder.has_finish_reason) == (False, True)
    assert decoder.feed(b"[DONE]") == [Finished("stop")]
    assert decoder.feed(b"garbage") == []
    assert decoder.end() == []


def test_an_answer_that_was_not_streamed_is_taken_whole() -> None:
    decoder = ChunkDecoder(ROUTE)
    body = b'{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"}}],"usage":null}'
    assert decoder.feed(body) + decoder.end() == [Delta(TextPart("Hi")), Finished("stop", None, "m")]


def test_a_call_without_a_name_is_an_error_and_not_an_answer() -> None:
    decoder = ChunkDecoder(ROUTE)
    decoder.feed(b'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}')
    with pytest.raises(ProviderError, match="without a name") as caught:
        decoder.feed(b"[DONE]")
    assert caught.value.retryable


def test_calls_that_never_end_are_bounded() -> None:
    decoder = ChunkDecoder(ROUTE)
    piece = b'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"%s"}}]}}]}' % (
        b"x" * (CALLS_CHARACTERS_MAX // 4)
    )
    for _ in range(3):
        decoder.feed(piece)
    with pytest.raises(ProviderError, match="without an end") as caught:
        decoder.feed(piece)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "payload", [b"[" * 100_000, b'{"choices":' + b"[" * 100_000, b"\xff\xfe", b"{", b"[" + b"NaN," * 99_999]
)
def test_an_unreadable_chunk_is_a_short_retryable_error(payload: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        ChunkDecoder(ROUTE).feed(payload)
    assert caught.value.retryable
    assert len(caught.value.message) <= 500


def test_an_error_in_mid_stream_never_shows_the_key() -> None:
    with pytest.raises(ProviderError) as caught:
        ChunkDecoder(ROUTE).feed(b'{"error":{"message":"bad key sk-very-secret-key given"}}')
    assert "secret" not in caught.value.message


# --- the request ------------------------------------------------------------------------------


def body_of(messages: tuple[Message, ...], **route: Any) -> Any:
    """The body, which the vendor's types take."""
    slices = request_body(ModelRequest(UUID(int=1), messages), msgspec.structs.replace(ROUTE, **route))
    body = json.loads(b"".join(slices))
    require_taken(VENDORS_TYPE, body)
    return body


def wire_messages(messages: tuple[Message, ...]) -> Any:
    return body_of(messages)["messages"]


def test_a_request_asks_for_a_stream_with_usage() -> None:
    assert body_of(history((Role.SYSTEM, text("Be kind.")), user("Hi"))) == {
        "model": "asked",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_request_says_what_its_route_says() -> None:
    options = ModelOptions(
        temperature=0.5, reasoning_effort="low", extra_body={"top_k": 3, "stream_options": None, "messages": []}
    )
    body = body_of(history(user("Hi")), include_usage=False, output_tokens_max=9, options=options)
    assert "stream_options" not in body_of(history(user("Hi")), include_usage=False)
    assert body == {
        "model": "asked",
        "stream": True,
        "max_tokens": 9,
        "temperature": 0.5,
        "reasoning_effort": "low",
        "top_k": 3,
        "stream_options": None,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    at_openai = body_of(history(user("Hi")), output_tokens_max=9, base_url="https://api.openai.com/v1")
    assert at_openai["max_completion_tokens"] == 9


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://gateway.example/v1"])
def test_a_limit_that_the_options_name_takes_the_place_of_ours_under_whichever_name(limit: str, base_url: str) -> None:
    """Servers refuse both at once, and behind a gateway only its administrator knows which one is taken."""
    options = ModelOptions(extra_body={limit: 500})
    body = body_of(history(user("Hi")), output_tokens_max=32_000, options=options, base_url=base_url)
    assert {name: value for name, value in body.items() if "tokens" in name} == {limit: 500}


def test_an_answer_that_a_server_of_another_wire_paused_is_gone_on_with_on_request() -> None:
    asked = history(user("a"), assistant(TextPart("Let me look.")))
    paused = msgspec.structs.replace(asked[-1], finish_reason="pause")
    assert [message["content"] for message in wire_messages((asked[0], paused))] == ["a", "Let me look.", GO_ON]


def test_a_model_that_searches_the_web_is_asked_to_but_for_no_summary() -> None:
    options = ModelOptions(web_search={"search_context_size": "low"})
    assert body_of(history(user("Hi")), options=options)["web_search_options"] == {"search_context_size": "low"}
    summary = ModelRequest(UUID(int=1), history(user("Hi")), may_call_tools=False)
    assert b"web_search" not in b"".join(request_body(summary, msgspec.structs.replace(ROUTE, options=options)))


def test_reasoning_is_not_sent_back() -> None:
    messages = wire_messages(
        history(user("a"), assistant(ReasoningPart("hm"), TextPart("b"), TextPart("c")), user("d"))
    )
    assert [message["content"] for message in messages] == ["a", "bc", "d"]


def test_an_answer_without_content_is_not_sent() -> None:
    """Providers refuse such a message for good; the user messages around it become one."""
    messages = wire_messages(history(user("a"), assistant(ReasoningPart("hm")), user("b"), assistant(), user("c")))
    assert messages == [{"role": "user", "content": "a\n\nb\n\nc"}]


def test_a_call_is_followed_by_its_result_and_by_the_next_message() -> None:
    call = ToolCallPart("1", "f", '{"x": 1}')
    messages = wire_messages(history(user("a"), assistant(call), tool(ToolResultPart("1", "ok")), user("b")))
    assert messages == [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
        {"role": "user", "content": "b"},
    ]


def test_a_request_offers_tools_and_may_forbid_to_call_them() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = (ToolSpec("weather", "Tells the weather.", schema), ToolSpec("now", "", {}))
    request = ModelRequest(UUID(int=1), history(user("Hi")), tools=tools)
    body = json.loads(b"".join(request_body(request, ROUTE)))
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Tells the weather.", "parameters": schema},
        },
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert "tool_choice" not in body
    forbidden = json.loads(b"".join(request_body(msgspec.structs.replace(request, may_call_tools=False), ROUTE)))
    assert forbidden.pop("tool_choice") == "none"
    assert forbidden == body


def test_a_call_goes_out_under_the_servers_id_and_ours_where_it_gave_none() -> None:
    calls = (ToolCallPart("call_ours", "f", "{}", "theirs"), ToolCallPart("call_two", "f", "{}"))
    results = (ToolResultPart("call_two", "2"), ToolResultPart("call_ours", "1"))
    _, said, *answered = wire_messages(history(user("a"), assistant(*calls), tool(*results)))
    assert [call["id"] for call in said["tool_calls"]] == ["theirs", "call_two"]
    assert [(result["tool_call_id"], result["content"]) for result in answered] == [("theirs", "1"), ("call_two", "2")]


SIGNATURE = '{"call_id":"call_a","extra_content":{"google":{"thought_signature":"c2ln"}}}'


@pytest.mark.parametrize(
    ("provider", "model", "data", "is_sent"),
    [
        ("server", "default-model", SIGNATURE, True),
        ("another", "default-model", SIGNATURE, False),
        ("server", "another", SIGNATURE, False),
        ("server", "default-model", "damaged", False),
    ],
)
def test_what_a_server_hangs_on_a_call_goes_back_to_it_and_to_no_other(
    provider: str, model: str, data: str, is_sent: bool
) -> None:
    parts = (ToolCallPart("call_a", "f", "{}", "a"), OpaquePart(provider, model, "extra_content", data))
    request = ModelRequest(UUID(int=1), history(user("a"), assistant(*parts)))
    route = msgspec.structs.replace(ROUTE, server=Provider("server"), model="default-model")
    body = json.loads(b"".join(request_body(request, route)))
    (call,) = body["messages"][1]["tool_calls"]
    assert call.get("extra_content") == ({"google": {"thought_signature": "c2ln"}} if is_sent else None)


def test_gemini_gets_its_word_for_calls_that_another_model_made() -> None:
    """It refuses a call without a signature. Of calls side by side the first one has it."""
    calls = (ToolCallPart("call_a", "f", "{}", "a"), ToolCallPart("call_b", "f", "{}", "b"))
    request = ModelRequest(UUID(int=1), history(user("a"), assistant(*calls)))
    for host, extra in (("generativelanguage.googleapis.com", "skip_thought_signature_validator"), ("a.example", None)):
        route = msgspec.structs.replace(ROUTE, base_url=f"https://{host}/v1beta/openai")
        first, second = json.loads(b"".join(request_body(request, route)))["messages"][1]["tool_calls"]
        assert first.get("extra_content") == (extra and {"google": {"thought_signature": extra}})
        assert "extra_content" not in second


def test_a_failed_call_says_so_and_an_image_of_a_result_follows_all_results() -> None:
    calls = (ToolCallPart("1", "draw", "{}"), ToolCallPart("2", "look", "{}"))
    results = (
        ToolResultPart("1", (TextPart("Here it is:"), ImagePart("image/png", "aGk="))),
        ToolResultPart("2", "no such file", is_error=True),
    )
    said = wire_messages(history(user("a"), assistant(*calls), tool(*results), user("and now?")))
    assert said[2:] == [
        {
            "role": "tool",
            "tool_call_id": "1",
            "content": "Here it is:\n[image 1 of this result is in the message after the results]",
        },
        {"role": "tool", "tool_call_id": "2", "content": "Error: no such file"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                {"type": "text", "text": "and now?"},
            ],
        },
    ]


def test_an_image_of_a_person_goes_out_with_its_text() -> None:
    said = wire_messages(history((Role.USER, (TextPart("What is this?"), ImagePart("image/png", "aGk=")))))
    assert [block["type"] for block in said[0]["content"]] == ["text", "image_url"]


def test_a_poisoned_history_is_repaired_before_it_is_sent() -> None:
    """Results in another order, twice, late, missing, or of no call; arguments that are no JSON."""
    messages = wire_messages(
        history(
            tool(ToolResultPart("orphan", "?")),
            user("a"),
            assistant(ToolCallPart("1", "f", "not json"), ToolCallPart("2", "g", "{}"), ToolCallPart("3", "h", "{}")),
            tool(ToolResultPart("2", "two"), ToolResultPart("2", "two again")),
            user("b"),
            tool(ToolResultPart("1", "one"), ToolResultPart("9", "nine")),
            assistant(TextPart("c")),
            tool(ToolResultPart("3", "too late")),
        )
    )
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "a"),
        ("assistant", None),
        ("tool", "one"),
        ("tool", "two"),
        ("tool", OUTCOME_UNKNOWN),
        ("user", "b"),
        ("assistant", "c"),
    ]
    assert [call["function"]["arguments"] for call in messages[1]["tool_calls"]] == ["{}", "{}", "{}"]


LONG = 3 * SLICE_BYTES
HISTORIES = {
    "one long text": history(user("x" * LONG)),
    "of many characters that are escaped": history(user('"\n\x01' * (LONG // 3))),
    "of characters beyond 16 bits": history(user("\U0001f600" * LONG)),
    "many texts of one role": history(*[user("a word")] * 50_000),
    "many parts": history((Role.USER, text("a") * 50_000)),
    "many turns": history(*[user("a word"), assistant(TextPart("another"))] * 25_000),
    "many that are left out": history(*[user(""), assistant(ReasoningPart("hm"))] * 25_000, user("a")),
    "a long result": history(assistant(ToolCallPart("1", "f", "{}")), tool(ToolResultPart("1", "x" * LONG))),
}


@pytest.mark.parametrize("messages", HISTORIES.values(), ids=HISTORIES)
def test_p10_a_long_history_becomes_a_request_in_slices_of_bounded_size(messages: tuple[Message, ...]) -> None:
    slices = list(request_body(ModelRequest(UUID(int=1), messages), ROUTE))
    assert max(map(len, slices)) <= SLICE_BYTES * 7, "a character takes six bytes at most"
    said = json.loads(b"".join(slices))["messages"]
    words = [part.text for message in messages for part in message.parts if isinstance(part, TextPart)]
    assert "".join(message["content"] or "" for message in said).replace("\n\n", "") in (
        "".join(words).replace("\n\n", ""),
        "x" * LONG,
    )


@pytest.mark.parametrize(
    "payload",
    [
        b'{"usage":[' + b",".join([b"[]"] * 2_000_000) + b"]}",
        b'{"choices":[' + b",".join([b"{}"] * 2_000_000) + b"]}",
        b'{"choices":[{"delta":{"content":"\xff' + b"x" * (5 << 20) + b'"}}]}',
    ],
    ids=["values that nobody asked for", "more choices than anybody asked for", "large and no UTF-8"],
)
def test_p10_a_chunk_that_would_take_long_to_read_is_an_error(payload: bytes) -> None:
    """One model server stalls no other chat of the replica."""
    with pytest.raises(ProviderError, match="cannot be read") as caught:
        ChunkDecoder(ROUTE).feed(payload)
    assert caught.value.retryable


def test_p10_a_large_piece_of_text_in_one_chunk_is_taken() -> None:
    words = "a longer text without end and with a comma in it now and then, as people write it, " * (1 << 15)
    events = ChunkDecoder(ROUTE).feed(json.dumps({"choices": [{"delta": {"content": words}}]}).encode())
    assert events == [Delta(TextPart(words))]
