"""The Responses wire, from transcripts: what is streamed and what is kept agree (P3), what only the server understands
goes back to it verbatim, and the vendor's own client reads the same from the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import openai
import pytest
from openai.types.responses import ResponseCompletedEvent, ResponseIncompleteEvent
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from played_transcripts import SERVER, numbered_call_ids, played
from pydantic import TypeAdapter
from told_histories import assistant, history, require_taken, user

from chatcluster.errors import ProviderError
from chatcluster.llm.error_bodies import ErrorObject
from chatcluster.llm.failures import Provider, judge
from chatcluster.llm.responses import WIRE, ResponseDecoder
from chatcluster.llm.sse import EventDecoder
from chatcluster.llm.wire import Route
from chatcluster.models import Kind, ModelOptions
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
from chatcluster.ports import Attachable, Attachment, Delta, Finished, ModelEvent, ModelRequest, ToolSpec

TRANSCRIPTS = Path(__file__).parent / "transcripts" / "responses"
ROUTE = Route(
    kind=Kind.RESPONSES, server=SERVER, model="gpt-x", base_url="https://test.example/v1", api_key="sk-very-secret-key"
)
IN_BACKGROUND = msgspec.structs.replace(ROUTE, in_background=True)


def transcript(name: str) -> bytes:
    return (TRANSCRIPTS / f"{name}.sse").read_bytes()


def play(
    body: bytes, *, bytes_at_a_time: int = 1 << 20, route: Route = ROUTE, behind: int | None = None
) -> list[ModelEvent]:
    decoder = ResponseDecoder(route, behind=behind, new_call_id=numbered_call_ids())
    return played(decoder, body, bytes_at_a_time=bytes_at_a_time)


def said_in(events: Iterable[ModelEvent]) -> tuple[Part, ...]:
    return joined(event.part for event in events if isinstance(event, Delta))


def opaque(value: dict[str, Any]) -> OpaquePart:
    return OpaquePart("test.example", "gpt-x", value["type"], json.dumps(value, separators=(",", ":")))


@dataclass(frozen=True)
class Answer:
    parts: tuple[Part, ...]
    reason: str = "stop"
    usage: Usage | None = None
    model: str | None = "gpt-x"


USAGE = Usage(20, 30, 12, 8, 4)
THOUGHT = opaque(
    {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [
            {"type": "summary_text", "text": "Two cities."},
            {"type": "summary_text", "text": "Two calls."},
        ],
        "encrypted_content": "ZW5jcnlwdGVk",
    }
)
SEARCH = opaque(
    {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "Bern"},
    }
)
WEATHER = ToolCallPart("new_1", "weather", '{"city":"Bern"}', "call_a")

ANSWERS = {
    "without_sequence_numbers": Answer(
        (TextPart("Let me look."), ToolCallPart("new_1", "look", '{"city":"Bern"}', "call_14nA2FkH-46Ecy70")),
        "tool_calls",
        Usage(0, 0),
    ),
    "llamacpp_calls": Answer(
        (
            TextPart("AV_K"),
            ToolCallPart("new_1", "weather", '{"city":"Rome"}', "call_wvIYZOSrzBJOlRyagN4qx3HnQKYs5tYw"),
            ToolCallPart("new_2", "now", "{}", "call_5ylCgozlzC7Pyj7LoFFVOmnT9Hga1xrZ"),
        ),
        "tool_calls",
        Usage(425, 111, None, 424),
        "tiny",
    ),
    "llamacpp_cut_by_length": Answer(
        (TextPart("seeV�"), ToolCallPart("new_1", "weather", "{", "call_upJ3o3qTCJM9kipkY2E3EFAZX42PbiRe")),
        "tool_calls",
        Usage(425, 30, None, 424),
        "tiny",
    ),
    "text": Answer((TextPart("Grüß dich 🌍"),), usage=USAGE),
    "reasoning_and_calls": Answer(
        (
            ReasoningPart("Two cities.\n\nTwo calls."),
            THOUGHT,
            WEATHER,
            ToolCallPart("new_2", "now", "{}", "call_b"),
        ),
        "tool_calls",
        USAGE,
    ),
    "arguments_at_once": Answer((WEATHER,), "tool_calls"),
    "refusal": Answer((TextPart("I'm sorry"),)),
    "max_output_tokens": Answer((TextPart("Once upon"),), "length", USAGE),
    "content_filter": Answer((TextPart("Once upon"),), "content_filter"),
    "steered": Answer((TextPart("Once upon"),), "other"),
    "web_search": Answer((SEARCH, TextPart("It rains."))),
    "without_pieces": Answer((ReasoningPart("Two cities.Two calls."), THOUGHT, TextPart("Hi"), WEATHER), "tool_calls"),
    "odd": Answer((TextPart("Hi"),), model=None),
}

FAILURES = {
    "filtered_empty": ("content_filter", False, "content filter"),
    "failed": ("generic", True, "The model crashed"),
    "rate_limited": ("rate_limit", True, "Slow down"),
    "cancelled": ("generic", True, "cancelled"),
    "error_event": ("overloaded", True, "Our servers are overloaded"),
    "too_long": ("context_overflow", False, "exceeds the context window"),
    "cut": ("stream_incomplete", True, "in the middle of its answer"),
}


@pytest.mark.parametrize("bytes_at_a_time", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_transcript_becomes_the_answer_that_it_means(name: str, bytes_at_a_time: int) -> None:
    *said, finished = play(transcript(name), bytes_at_a_time=bytes_at_a_time)

    assert isinstance(finished, Finished)
    assert Answer(said_in(said), finished.reason, finished.usage, finished.model) == ANSWERS[name]


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
    """Each end of the body before the last event is there, at every line and at every byte of the last."""
    body = transcript(name)
    last = body.rindex(b"\ndata: ")
    ends = [at for at, byte in enumerate(body[:last]) if byte == ord("\n")]
    for end in (*ends, *range(last, len(body) - 3)):
        with pytest.raises(ProviderError) as caught:
            play(body[:end])
        assert caught.value.retryable


def test_every_transcript_has_an_expectation() -> None:
    assert {path.stem for path in TRANSCRIPTS.glob("*.sse")} == {*ANSWERS, *FAILURES}


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - {"odd", "without_pieces"}))
def test_the_vendors_client_reads_the_same(name: str) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=transcript(name))

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(api_key="key", base_url="https://test.example/v1", http_client=http, max_retries=0)
    *_, last = client.responses.create(model="gpt-x", input="Hi", stream=True)
    assert isinstance(last, ResponseCompletedEvent | ResponseIncompleteEvent)
    theirs = [comparable(item.to_dict()) for item in last.response.output]
    assert theirs == [as_item(part) for part in ANSWERS[name].parts if not isinstance(part, ReasoningPart)]


def comparable(item: dict[str, Any]) -> Any:
    match item["type"]:
        case "message":
            return "".join(block.get("text") or block.get("refusal") for block in item["content"])
        case "function_call":
            return item["call_id"], item["name"], item["arguments"] or "{}"
        case _:
            return item


def as_item(part: Part) -> Any:
    match part:
        case TextPart(text=text):
            return text
        case ToolCallPart(name=name, arguments=arguments, provider_id=provider_id):
            return provider_id, name, arguments
        case OpaquePart(data=data):
            return json.loads(data)
        case _:
            raise AssertionError(part)


def test_an_answer_that_is_called_complete_at_its_limit_of_length_was_cut_there() -> None:
    route = msgspec.structs.replace(ROUTE, output_tokens_max=30)
    assert play(transcript("llamacpp_cut_by_length"), route=route)[-1] == Finished(
        "length", Usage(425, 30, None, 424), "tiny"
    )


def test_calls_without_numbers_are_told_apart_by_their_ids() -> None:
    """The second one's arguments never came: they are not the first one's."""
    decoder = ResponseDecoder(ROUTE)
    calls = [
        {"type": "function_call", "id": f"fc_{n}", "call_id": f"call_{n}", "name": "look", "arguments": ""}
        for n in "ab"
    ]
    begun = [{"type": "response.output_item.added", "item": call} for call in calls]
    pieces = [{"type": "response.function_call_arguments.delta", "item_id": "fc_a", "delta": '{"n":1}'}]
    ended = [{"type": "response.output_item.done", "item": call} for call in calls]
    told = [decoder.feed(json.dumps(event).encode()) for event in (*begun, *pieces, *ended)]
    said = said_in(event for events in told for event in events)
    assert [part.arguments for part in said if isinstance(part, ToolCallPart)] == ['{"n":1}', "{}"]


WORDS_AT_ONCE: tuple[dict[str, Any], ...] = (
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "Hm."},
    {
        "type": "response.output_item.done",
        "output_index": 1,
        "item": {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
    },
)


@pytest.mark.parametrize("behind", [None, 0])
def test_words_that_did_not_come_in_pieces_are_told_when_they_are_done(behind: int | None) -> None:
    """But not by an answer that is attached to: there they were said before."""
    decoder = ResponseDecoder(ROUTE, behind=behind)
    said = said_in(event for one in WORDS_AT_ONCE for event in decoder.feed(json.dumps(one).encode()))
    assert said == ((ReasoningPart("Hm."), TextPart("Hi")) if behind is None else (ReasoningPart("Hm."),))


def test_arguments_of_a_call_that_was_cut_are_not_known() -> None:
    decoder = ResponseDecoder(ROUTE)
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": ""}
    for event in (
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item | {"status": "incomplete"}},
    ):
        told = decoder.feed(json.dumps(event).encode())
    assert said_in(told) == ()


def test_an_answer_that_is_called_incomplete_is_cut_whatever_its_status_is() -> None:
    decoder = ResponseDecoder(ROUTE)
    decoder.feed(b'{"type":"response.output_text.delta","output_index":0,"delta":"Half"}')
    response = {"id": "resp_1", "incomplete_details": {"reason": "max_output_tokens"}}
    told = decoder.feed(json.dumps({"type": "response.incomplete", "response": response}).encode())
    assert told == [Finished("length")]


def test_an_answer_that_was_not_streamed_is_taken_whole() -> None:
    body = {
        "object": "response",
        "status": "completed",
        "model": "gpt-x",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
    }
    decoder = ResponseDecoder(ROUTE)
    assert decoder.feed(json.dumps(body).encode()) + decoder.end() == [
        Delta(TextPart("Hi")),
        Finished("stop", None, "gpt-x"),
    ]


# --- in the background ------------------------------------------------------------------------


def test_an_answer_in_the_background_says_who_it_is_and_where_each_piece_stands() -> None:
    events = play(transcript("text"), route=IN_BACKGROUND)
    assert events[0] == Attachable("resp_1")
    assert [event for event in events if isinstance(event, Delta)] == [
        Delta(TextPart("Grüß "), 4),
        Delta(TextPart("dich 🌍"), 5),
    ]


@pytest.mark.parametrize("name", ["text", "reasoning_and_calls", "web_search"])
def test_attached_behind_any_piece_the_rest_is_told_and_nothing_twice(name: str) -> None:
    events = transcript(name).split(b"\n\n")[:-1]
    whole = [part for part in said_in(play(transcript(name))) if isinstance(part, TextPart | ToolCallPart)]
    for after in range(len(events) - 1):
        before = b"".join(event + b"\n\n" for event in events[: after + 1])
        rest = b"".join(event + b"\n\n" for event in events[after + 1 :])
        known = said_until_cut(before)
        told = known + said_in(play(rest, route=IN_BACKGROUND, behind=after))
        texts = "".join(part.text for part in told if isinstance(part, TextPart))
        assert texts == "".join(part.text for part in whole if isinstance(part, TextPart))
        assert len([part for part in told if isinstance(part, ToolCallPart) and part.arguments]) >= len(
            [part for part in whole if isinstance(part, ToolCallPart)]
        ) - len([part for part in known if isinstance(part, ToolCallPart)])


def said_until_cut(body: bytes) -> tuple[Part, ...]:
    sse, decoder = EventDecoder(SERVER), ResponseDecoder(IN_BACKGROUND)
    return said_in(event for payload in sse.feed(body) if payload is not None for event in decoder.feed(payload))


def test_calls_that_had_begun_are_gone_on_with_under_their_ids_wherever_the_connection_broke() -> None:
    """What only the server understands is kept as well, once."""
    events = transcript("reasoning_and_calls").split(b"\n\n")[:-1]
    whole = deltas_of(events, ResponseDecoder(IN_BACKGROUND, new_call_id=numbered_call_ids()))
    for after in range(len(events) - 1):
        known = deltas_of(events[: after + 1], ResponseDecoder(IN_BACKGROUND, new_call_id=numbered_call_ids()))
        calls = [part for part in joined(known) if isinstance(part, ToolCallPart)]
        ids = numbered_call_ids()
        for _ in calls:
            ids()
        rest = ResponseDecoder(IN_BACKGROUND, behind=after, calls=calls, new_call_id=ids)
        assert joined([*known, *deltas_of(events[after + 1 :], rest)]) == joined(whole), after


def deltas_of(events: Iterable[bytes], decoder: ResponseDecoder) -> list[Part]:
    payloads = EventDecoder(SERVER).feed(b"".join(event + b"\n\n" for event in events))
    told = [one for payload in payloads if payload is not None for one in decoder.feed(payload)]
    return [one.part for one in told if isinstance(one, Delta)]


def test_a_call_that_is_another_one_than_before_is_not_gone_on_with() -> None:
    begun = ToolCallPart("ours", "add", '{"a": 1', "call_1")
    decoder = ResponseDecoder(IN_BACKGROUND, behind=3, calls=[begun])
    item = {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"b": 2}'}
    with pytest.raises(ProviderError, match="another call"):
        decoder.feed(json.dumps({"type": "response.output_item.done", "output_index": 0, "item": item}).encode())


@pytest.mark.parametrize("encrypted", [None, "ZW5j"])
def test_a_search_is_not_kept_without_the_reasoning_that_it_has_to_follow(encrypted: str | None) -> None:
    """It would be refused in the next turn: asked for plainly, no reasoning comes that could go back."""
    decoder = ResponseDecoder(ROUTE)
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": encrypted},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "message", "content": [{"type": "output_text", "text": "It rains."}]},
    ]
    done = [{"type": "response.output_item.done", "output_index": at, "item": item} for at, item in enumerate(items)]
    parts = [one.part for event in done for one in decoder.feed(json.dumps(event).encode()) if isinstance(one, Delta)]
    kinds = [part.kind for part in parts if isinstance(part, OpaquePart)]
    assert kinds == ([] if encrypted is None else ["reasoning", "web_search_call"])


@pytest.mark.parametrize("name", ["text", "web_search"])
def test_a_server_that_begins_anew_where_one_attaches_is_not_told_twice(name: str) -> None:
    events = transcript(name).split(b"\n\n")[:-1]
    whole = "".join(part.text for part in said_in(play(transcript(name))) if isinstance(part, TextPart))
    for after in range(len(events) - 1):
        known = said_until_cut(b"".join(event + b"\n\n" for event in events[: after + 1]))
        told = known + said_in(play(transcript(name), route=IN_BACKGROUND, behind=after))
        assert "".join(part.text for part in told if isinstance(part, TextPart)) == whole


@pytest.mark.parametrize("status", ["queued", "in_progress", "completed"])
def test_p5_an_answer_that_is_given_whole_in_the_place_of_its_rest_is_forgotten_and_not_cut(status: str) -> None:
    """Nobody knows which of its words are new, and where it is still under way there are none."""
    decoder = ResponseDecoder(IN_BACKGROUND, behind=4)
    body = {"object": "response", "id": "resp_1", "status": status, "output": []}
    with pytest.raises(ProviderError) as caught:
        decoder.feed(json.dumps(body).encode())
    assert (caught.value.kind, caught.value.retryable) == ("answer_forgotten", True)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_answer_in_the_background_that_is_not_streamed_is_attached_to_and_not_taken_for_whole(status: str) -> None:
    decoder = ResponseDecoder(IN_BACKGROUND)
    body = {"object": "response", "id": "resp_1", "status": status, "output": []}
    assert decoder.feed(json.dumps(body).encode()) == [Attachable("resp_1")]
    with pytest.raises(ProviderError) as caught:
        decoder.end()
    assert caught.value.kind == "stream_incomplete"


def test_a_call_that_had_begun_before_is_told_whole_when_it_is_done() -> None:
    events = transcript("reasoning_and_calls").split(b"\n\n")
    begun = next(at for at, event in enumerate(events) if b"function_call_arguments.delta" in event)
    parts = said_in(play(b"\n\n".join(events[begun + 1 :]), route=IN_BACKGROUND, behind=begun))
    assert parts[0] == ToolCallPart("new_1", "weather", '{"city":"Bern"}', "call_a")


def test_to_attach_is_to_get_and_sends_nothing() -> None:
    request = ModelRequest(UUID(int=1), (), attach=Attachment("resp/1", 7))
    assert WIRE.target(request, IN_BACKGROUND) == (
        "GET",
        "https://test.example/v1/responses/resp%2F1"
        "?stream=true&include%5B%5D=reasoning.encrypted_content&starting_after=7",
    )
    assert b"".join(WIRE.body(request, IN_BACKGROUND)) == b""


# --- the request ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-4o", "ft:gpt-4o-mini:us::1", "openai/gpt-4.1", "chatgpt-4o-latest"])
def test_models_that_refuse_to_be_asked_for_encrypted_reasoning_are_not(model: str) -> None:
    assert "include" not in body_of(history(user("a")), model=model)
    assert "include" in body_of(history(user("a")), model="gpt-5")


def test_a_model_that_says_so_itself_is_not_asked_for_it_any_more() -> None:
    """Its name may be that of a deployment, and say nothing."""
    request = ModelRequest(UUID(int=1), history(user("a")), is_plain=True)
    assert "include" not in json.loads(b"".join(WIRE.body(request, ROUTE)))
    said = ErrorObject("Encrypted content is not supported with this model.", "invalid_request_error")
    assert judge(400, said).kind == "opaque_refused"


VENDORS_TYPE: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsStreaming)


def body_of(messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), **route: Any) -> Any:
    """The body, which the vendor's types take."""
    request = ModelRequest(UUID(int=1), messages, tools=tools)
    body = json.loads(b"".join(WIRE.body(request, msgspec.structs.replace(ROUTE, **route))))
    require_taken(VENDORS_TYPE, body)
    return body


def test_what_an_answer_said_behind_its_calls_comes_behind_their_results() -> None:
    """As models of other vendors do, which a chat may have had before: here results follow their calls."""
    one, other = (ToolCallPart(f"c{number}", "look", "{}") for number in (1, 2))
    said = assistant(TextPart("First"), one, TextPart("then"), other, TextPart("last."))
    results = (Role.TOOL, (ToolResultPart("c1", "1"), ToolResultPart("c2", "2")))
    items = body_of(history(user("a"), said, results))["input"][1:]
    assert [item.get("content", item["type"]) for item in items] == [
        "First",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "then",
        "last.",
    ]


def test_a_model_that_searches_the_web_is_offered_its_servers_tool() -> None:
    options = ModelOptions(web_search={"search_context_size": "low"})
    look = ToolSpec("look", "", {"type": "object", "properties": {}})
    tools = body_of(history(user("a")), (look,), options=options)["tools"]
    assert [tool["type"] for tool in tools] == ["function", "web_search"]
    assert tools[1] == {"type": "web_search", "search_context_size": "low"}
    title = ModelRequest(UUID(int=1), history(user("a")), may_search=False)
    assert b"tools" not in b"".join(WIRE.body(title, msgspec.structs.replace(ROUTE, options=options)))


def test_a_request_leaves_nothing_with_the_server() -> None:
    tools = (ToolSpec("now", "Tells the time.", {}),)
    assert body_of(history((Role.SYSTEM, (TextPart("Be kind."),)), user("Hi")), tools) == {
        "model": "gpt-x",
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "tools": [
            {
                "type": "function",
                "name": "now",
                "description": "Tells the time.",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            }
        ],
        "input": [
            {"role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        ],
    }


def test_a_request_says_what_its_route_says() -> None:
    options = ModelOptions(temperature=0.5, reasoning_effort="low", extra_body={"service_tier": "flex"})
    body = body_of(history(user("Hi")), output_tokens_max=99, options=options, in_background=True, model="gpt-4o")
    assert body | {"input": []} == {
        "model": "gpt-4o",
        "stream": True,
        "store": True,
        "background": True,
        "max_output_tokens": 99,
        "temperature": 0.5,
        "reasoning": {"effort": "low", "summary": "auto"},
        "service_tier": "flex",
        "input": [],
    }


def test_a_step_is_its_items_in_order_and_then_the_results() -> None:
    image = ToolResultPart("new_2", (TextPart("Here:"), ImagePart("image/png", "aGk=")))
    results = (Role.TOOL, (image, ToolResultPart("new_1", "no such city", is_error=True)))
    second = ToolCallPart("new_2", "draw", "broken")
    items = body_of(history(user("a"), assistant(THOUGHT, TextPart("Let me see."), WEATHER, second), results))["input"]
    assert items[1:] == [
        json.loads(THOUGHT.data),
        {"type": "message", "role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": '{"city":"Bern"}'},
        {"type": "function_call", "call_id": "new_2", "name": "draw", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_a", "output": "Error: no such city"},
        {
            "type": "function_call_output",
            "call_id": "new_2",
            "output": [
                {"type": "input_text", "text": "Here:"},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        ((THOUGHT, TextPart("b")), ["reasoning", "message"]),
        ((THOUGHT, THOUGHT, WEATHER), ["reasoning", "reasoning", "function_call", "function_call_output"]),
        ((TextPart("b"), THOUGHT), ["message"]),
        ((THOUGHT,), []),
        ((THOUGHT, SEARCH), ["reasoning", "web_search_call"]),
        ((msgspec.structs.replace(THOUGHT, prefix="before"), SEARCH, TextPart("b")), ["message"]),
        ((SEARCH, TextPart("b")), ["web_search_call", "message"]),
        ((OpaquePart("another", "gpt-x", "reasoning", THOUGHT.data), TextPart("b")), ["message"]),
        ((OpaquePart("test.example", "gpt-y", "reasoning", THOUGHT.data), TextPart("b")), ["message"]),
        ((OpaquePart("test.example", "gpt-x", "reasoning", "damaged"), TextPart("b")), ["message"]),
    ],
)
def test_reasoning_goes_back_with_what_it_led_to_or_not_at_all(
    parts: tuple[Part, ...], kinds: list[str | None]
) -> None:
    items = body_of(history(user("a"), assistant(*parts), user("c")))["input"]
    assert [item.get("type") for item in items[1:-1]] == kinds


def test_pieces_of_calls_and_of_reasoning_are_told_as_they_come() -> None:
    events = [event.part for event in play(transcript("reasoning_and_calls")) if isinstance(event, Delta)]
    assert events[0] == ReasoningPart("Two cities.")
    assert ToolArgumentsPart("new_1", '{"city":') in events


@pytest.mark.parametrize("answer_id", ["", "a b", "a\0b", "\ud800", "x" * 257, 7, None, ["resp"]])
def test_what_can_neither_be_kept_nor_asked_for_again_is_no_id_of_an_answer(answer_id: object) -> None:
    route = Route(kind=Kind.RESPONSES, server=Provider("x"), model="m", in_background=True)
    event = {"type": "response.created", "response": {"id": answer_id, "status": "in_progress"}}
    events = ResponseDecoder(route).feed(json.dumps(event).encode())
    assert not any(isinstance(told, Attachable) for told in events)


@pytest.mark.parametrize("sequence", [-1, 2**60, 1.5, "3", None])
def test_what_is_no_number_of_a_piece_is_not_told(sequence: object) -> None:
    route = Route(kind=Kind.RESPONSES, server=Provider("x"), model="m", in_background=True)
    event = {"type": "response.output_text.delta", "delta": "hi", "sequence_number": sequence}
    assert ResponseDecoder(route).feed(json.dumps(event).encode()) == [Delta(TextPart("hi"))]
