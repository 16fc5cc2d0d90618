"""What servers of Chat Completions stream in odd ways: calls side by side, thoughts in tags, several tokens at once,
counts under other names. Each is told as what it means (P3: nothing is dropped, and nothing is told twice)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from played_transcripts import SERVER, numbered_call_ids

from chatcluster.errors import ProviderError
from chatcluster.llm.counts import read_usage
from chatcluster.llm.openai import ChunkDecoder
from chatcluster.llm.openai_request import REASONING_FIELDS
from chatcluster.llm.wire import Route
from chatcluster.models import ModelOptions, ThinkTags
from chatcluster.parts import Part, ReasoningPart, TextPart, ToolArgumentsPart, ToolCallPart, Usage, joined
from chatcluster.ports import Delta, Finished, ModelEvent

ROUTE = Route(server=SERVER, model="asked")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_arguments_of_the_last_call_of_an_answer_that_was_cut_are_not_known(reason: str) -> None:
    """It is not run without any; the one before it has none, and is."""
    decoder = ChunkDecoder(ROUTE, new_call_id=numbered_call_ids())
    for index in (0, 1):
        piece = {"index": index, "id": f"call_{index}", "function": {"name": "f", "arguments": ""}}
        decoder.feed(json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]}).encode())
    decoder.feed(b'{"choices":[{"delta":{},"finish_reason":"%s"}]}' % reason.encode())
    assert decoder.feed(b"[DONE]") == [Delta(ToolArgumentsPart("new_1", "{}")), Finished(reason)]


@pytest.mark.parametrize(
    ("more", "reason", "arguments"),
    [(['{"a":', "1}"], "length", '{"a":1}'), ([], "stop", "{}"), ([], "length", ""), ([], "content_filter", "")],
)
def test_an_empty_object_before_the_arguments_is_none_of_them(more: list[str], reason: str, arguments: str) -> None:
    """Some gateways send what the call begins with, and then what it has: if the answer was cut, that is not known."""
    decoder = ChunkDecoder(ROUTE, new_call_id=numbered_call_ids())
    told: list[ModelEvent] = []
    for text in ("{}", *more):
        piece = {"index": 0, "id": "call_0", "function": {"name": "f", "arguments": text}}
        told += decoder.feed(json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]}).encode())
    told += decoder.feed(b'{"choices":[{"delta":{},"finish_reason":"%s"}]}' % reason.encode()) + decoder.feed(b"[DONE]")
    (call,) = joined(event.part for event in told if isinstance(event, Delta))
    assert call == ToolCallPart("new_1", "f", arguments, "call_0")


@pytest.mark.parametrize(
    "last", [{"prompt_tokens": 0, "completion_tokens": 0}, {"completion_tokens": 3}, {"prompt_tokens": 9}, {}]
)
def test_usage_that_is_told_again_in_part_or_as_nothing_takes_nothing_away(last: dict[str, int]) -> None:
    decoder = ChunkDecoder(ROUTE)
    for usage in ({"prompt_tokens": 9, "completion_tokens": 1}, {"prompt_tokens": 9, "completion_tokens": 3}, last):
        decoder.feed(json.dumps({"choices": [{"delta": {"content": "a"}}], "usage": usage}).encode())
    assert decoder.usage == Usage(9, 3)


Pieces = list[tuple[dict[str, Any], str | None, str]]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([({}, "f", "{"), ({}, "g", "["), ({}, None, "}")], id="without index"),
        pytest.param([({"index": 0}, "f", "{"), ({"index": 0}, "g", "["), ({"index": 0}, None, "}")], id="all at 0"),
        pytest.param([({"index": 0}, "f", "{"), ({"index": 1}, "g", "["), ({"index": 0}, None, "}")], id="in order"),
    ],
)
def test_calls_that_are_written_side_by_side_are_told_apart(pieces: Pieces) -> None:
    decoder = ChunkDecoder(ROUTE, new_call_id=numbered_call_ids())
    said: list[Part] = []
    for (place, name, arguments), call_id in zip(pieces, "aba", strict=True):
        function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
        chunk = {"choices": [{"delta": {"tool_calls": [place | {"id": call_id, "function": function}]}}]}
        said += [event.part for event in decoder.feed(json.dumps(chunk).encode()) if isinstance(event, Delta)]
    calls = [(part.name, part.arguments) for part in joined(said) if isinstance(part, ToolCallPart)]
    assert calls == [("f", "{}"), ("g", "[")]


def test_calls_without_ids_and_arguments_are_told_apart_by_their_names() -> None:
    decoder = ChunkDecoder(ROUTE, new_call_id=numbered_call_ids())
    for name in ("f", "g"):
        piece = {"function": {"name": name, "arguments": ""}}
        decoder.feed(json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]}).encode())
    assert decoder.feed(b"[DONE]")[:2] == [Delta(ToolArgumentsPart(f"new_{number}", "{}")) for number in (1, 2)]


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, Usage(5, 2)),
        # xAI and Gemini leave out what was reasoned
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
            Usage(5, 12, 10),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 17}, Usage(5, 12, 10)),
        # OpenAI does not, and a total that nobody can explain is nobody's
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 12,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
            Usage(5, 12, 10),
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "total_tokens": 99,
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
            Usage(5, 2, 10),
        ),
        # gateways leave out what was cached of the input
        (
            {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 107, "cache_read_input_tokens": 100},
            Usage(105, 2, None, 100),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 2, "cache_read_input_tokens": 9}, Usage(14, 2, None, 9)),
        ({"total_tokens": 9}, None),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 3, "prompt_cache_miss_tokens": 2}, Usage(5, None, None, 3)),
        ({"prompt_tokens": 5, "cached_tokens": 3}, Usage(5, None, None, 3)),
        (
            {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 3},
            Usage(5, None, None, 0),
        ),
        (
            {"prompt_tokens": 9, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4},
            Usage(9, None, None, 3, 4),
        ),
    ],
)
def test_usage_is_read_in_the_words_of_many_servers(usage: dict[str, Any], counts: Usage | None) -> None:
    assert read_usage(usage) == counts


@pytest.mark.parametrize("field", REASONING_FIELDS)
def test_reasoning_is_read_in_each_field_and_once_where_it_is_in_two(field: str) -> None:
    decoder = ChunkDecoder(ROUTE)
    delta = {field: "Hm.", "thinking": "Hm."}
    (event,) = decoder.feed(json.dumps({"choices": [{"delta": delta}]}).encode())
    assert event == Delta(ReasoningPart("Hm."))


@pytest.mark.parametrize("characters_at_a_time", [1, 3, 100])
@pytest.mark.parametrize(
    ("tags", "answer", "parts"),
    [
        (None, "<think>a</think>b", [TextPart("<think>a</think>b")]),
        (
            ThinkTags.BOTH,
            "\n<think>\nHm <b> a</think>\n\nHi <think>",
            [ReasoningPart("Hm <b> a"), TextPart("Hi <think>")],
        ),
        (ThinkTags.BOTH, "<thi", [TextPart("<thi")]),
        (ThinkTags.BOTH, "<thinner> words", [TextPart("<thinner> words")]),
        (ThinkTags.BOTH, " Hi</think>", [TextPart(" Hi</think>")]),
        (ThinkTags.BOTH, "<think></think>Hi\n\nyou", [TextPart("Hi\n\nyou")]),
        (ThinkTags.CLOSING, "Hm.</think>\nHi</think>", [ReasoningPart("Hm."), TextPart("Hi</think>")]),
    ],
)
def test_thoughts_in_tags_are_told_as_such_where_the_options_say_so(
    tags: ThinkTags | None, answer: str, parts: list[Part], characters_at_a_time: int
) -> None:
    route = msgspec.structs.replace(ROUTE, options=ModelOptions(think_tags=tags))
    decoder = ChunkDecoder(route)
    events: list[ModelEvent] = []
    for at in range(0, len(answer), characters_at_a_time):
        chunk = {"choices": [{"delta": {"content": answer[at : at + characters_at_a_time]}}]}
        events += decoder.feed(json.dumps(chunk).encode())
    events += decoder.feed(b"[DONE]")
    assert list(joined(event.part for event in events if isinstance(event, Delta))) == parts


def test_thoughts_in_tags_alone_are_no_answer() -> None:
    decoder = ChunkDecoder(msgspec.structs.replace(ROUTE, options=ModelOptions(think_tags=ThinkTags.BOTH)))
    decoder.feed(b'{"choices":[{"delta":{"content":"<think>Hm.</th"},"finish_reason":"stop"}]}')
    with pytest.raises(ProviderError, match="nothing but reasoning"):
        decoder.feed(b"[DONE]")


def test_the_tokens_of_an_answer_are_counted_as_exactly_as_the_server_tells() -> None:
    """By its own count, where it comes with the pieces; else one for each piece, or more where several came at once."""
    route = msgspec.structs.replace(ROUTE, goes_on_from_words=True)

    def told(*chunks: dict[str, Any]) -> list[int | None]:
        decoder = ChunkDecoder(route, begun="Once ", begun_tokens=10)
        events = [event for chunk in chunks for event in decoder.feed(json.dumps(chunk).encode())]
        return [event.sequence for event in events if isinstance(event, Delta)]

    def chunk(text: str, **more: Any) -> dict[str, Any]:
        return {"choices": [{"delta": {"content": text}}], **more}

    assert told(chunk("upon "), chunk(""), chunk("a time")) == [11, 12]
    assert told(chunk("upon a time there was a king"), chunk(" who")) == [13, 14]
    assert told(chunk("upon", usage={"completion_tokens": 0}), chunk("a", usage={"completion_tokens": 7})) == [11, 17]
