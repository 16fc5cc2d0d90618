"""What a provider finds on the web is told, on each wire: each address once, behind the text that it is for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from played_transcripts import SERVER, numbered_call_ids

from chatcluster.attempt import Said, interrupted
from chatcluster.content import SourcePart, content_version_of, seen
from chatcluster.llm.anthropic import MessageDecoder
from chatcluster.llm.openai import ChunkDecoder
from chatcluster.llm.responses import ResponseDecoder
from chatcluster.llm.simulator.script import OrderedSource, Script, read_script
from chatcluster.llm.sources import SOURCES_MAX, Sources
from chatcluster.llm.wire import Route
from chatcluster.parts import Message, OpaquePart, Parts, Role, TextPart, ToolCallPart, is_visible, joined
from chatcluster.ports import Delta, ModelEvent
from chatcluster.web.doors.mcp.told import message_told

ROUTE = Route(server=SERVER, model="m", base_url="https://test.example/v1", api_key="k")
LAKES = SourcePart("https://lakes.example/a", "Lakes")
RIVERS = SourcePart("https://rivers.example/", None)


def parts_of(decoder: Any, events: Iterable[dict[str, Any]]) -> Parts:
    told: list[ModelEvent] = [one for event in events for one in decoder.feed(json.dumps(event).encode())]
    told += decoder.end()
    return joined(event.part for event in told if isinstance(event, Delta))


def cited(source: SourcePart, kind: str) -> dict[str, Any]:
    return {"type": kind, "url": source.url, "title": source.title, "start_index": 0, "end_index": 1}


# --- Messages ---------------------------------------------------------------------------------


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_block(index: int, text: str, *sources: SourcePart) -> list[dict[str, Any]]:
    found = [{"type": "citations_delta", "citation": cited(one, "web_search_result_location")} for one in sources]
    return block(index, {"type": "text", "text": ""}, {"type": "text_delta", "text": text}, *found)


def test_texts_that_cite_are_one_for_readers_and_their_sources_stand_behind_all_of_it() -> None:
    """Anthropic cuts a sentence into blocks, one for each claim: to a reader they would be so many paragraphs."""
    parts = parts_of(
        MessageDecoder(ROUTE),
        [
            *text_block(0, "Bern has "),
            *text_block(1, "a river", RIVERS),
            *text_block(2, " and "),
            *text_block(3, "lakes", LAKES, RIVERS),
            {"type": "message_stop"},
        ],
    )
    assert seen(parts) == (TextPart("Bern has a river and lakes"), RIVERS, LAKES)
    kept = [(part.kind, json.loads(part.data)[0]["url"]) for part in parts if isinstance(part, OpaquePart)]
    assert kept == [("citations", RIVERS.url), ("citations", LAKES.url)], "as they go back to the provider"


def test_what_is_said_before_a_search_and_behind_it_are_two_texts() -> None:
    """Joined, the second one would begin in the middle of a line: no heading, no list."""
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    events = [*text_block(0, "I look it up."), *block(1, search), *text_block(2, "# Bern"), {"type": "message_stop"}]
    assert seen(parts_of(MessageDecoder(ROUTE), events)) == (TextPart("I look it up."), TextPart("# Bern"))


def test_sources_stand_before_a_call_that_follows_their_text() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
    events = [*text_block(0, "So:", LAKES), *block(1, call), {"type": "message_stop"}]
    parts = parts_of(MessageDecoder(ROUTE, new_call_id=numbered_call_ids()), events)
    assert seen(parts) == (TextPart("So:"), LAKES, ToolCallPart("new_1", "add", "{}", "toolu_1"))


# --- Responses --------------------------------------------------------------------------------


def spoken(index: int, text: str, *sources: SourcePart) -> list[dict[str, Any]]:
    at = {"output_index": index, "item_id": f"msg_{index}"}
    annotations = [cited(one, "url_citation") for one in sources]
    content = [{"type": "output_text", "text": text, "annotations": annotations}]
    return [
        {"type": "response.output_text.delta", "delta": text, **at},
        *({"type": "response.output_text.annotation.added", "annotation": one, **at} for one in annotations),
        {"type": "response.output_item.done", "item": {"type": "message", "content": content}, **at},
    ]


def test_sources_of_a_response_stand_behind_the_item_that_cites_them() -> None:
    done = {"type": "response.completed", "response": {"status": "completed"}}
    parts = parts_of(ResponseDecoder(ROUTE), [*spoken(0, "A", LAKES), *spoken(1, "B", LAKES, RIVERS), done])
    assert parts == (TextPart("A"), LAKES, TextPart("B"), RIVERS)


def test_an_item_that_ends_behind_the_place_where_one_attached_brings_all_of_its_sources() -> None:
    """Its annotations may have been told before the first owner died."""
    done = {"type": "response.completed", "response": {"status": "completed"}}
    parts = parts_of(ResponseDecoder(ROUTE, behind=7), [spoken(0, "A", LAKES)[-1], done])
    assert parts == (LAKES,)


# --- Chat Completions -------------------------------------------------------------------------


def chunk(finish: str | None = None, *, beside: dict[str, Any] | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **(beside or {})}


@pytest.mark.parametrize(
    "found",
    [
        {"annotations": [{"type": "url_citation", "url_citation": cited(LAKES, "x")}, cited(LAKES, "url_citation")]},
        {"beside": {"search_results": [{"url": LAKES.url, "title": " Lakes\n"}], "citations": [LAKES.url]}},
    ],
    ids=["OpenAI and OpenRouter", "Perplexity, xAI"],
)
def test_sources_of_a_completion_stand_behind_its_text(found: dict[str, Any]) -> None:
    events = [chunk(content="A", **found), chunk(content="B", **found), chunk("stop", **found)]
    assert parts_of(ChunkDecoder(ROUTE), events) == (TextPart("AB"), LAKES)


# --- what is told of them ---------------------------------------------------------------------


def test_what_is_no_address_of_the_web_is_no_source() -> None:
    sources = Sources()
    sources.take([
        None, 7, {}, "", "lakes.example", "javascript:alert(1)", "file:///etc/passwd", "https://a b", "https://a\u202eb",
        'https://a">', "https://" + "a" * 3000, {"url": ["https://a"]}, {"type": "file_citation", "file_id": "f"},
    ])  # fmt: skip
    assert sources.rest() == []
    sources.take({"url": "HTTPS://no".lower(), "title": "safe\u202eelif"})
    assert sources.rest() == [SourcePart("https://no", "safeelif")]


def test_an_answer_has_a_limited_number_of_them() -> None:
    sources = Sources()
    for number in range(2 * SOURCES_MAX):
        sources.take(f"https://a.example/{number}")
    assert len(sources.rest()) == SOURCES_MAX
    sources.take("https://b.example/")
    assert sources.rest() == []


def test_a_source_alone_is_no_answer_and_an_older_version_leaves_such_a_chat_to_others() -> None:
    assert not is_visible((LAKES,))
    assert content_version_of((TextPart("a"), LAKES)) == 5


def test_an_interrupt_keeps_the_sources_that_were_shown() -> None:
    kept = interrupted(Said((TextPart("a"), LAKES)), "m")
    assert kept is not None
    assert kept.parts == (TextPart("a"), LAKES)


@pytest.mark.parametrize(
    ("decoder", "events"),
    [
        (MessageDecoder(ROUTE), text_block(0, "A", LAKES)),
        (ChunkDecoder(ROUTE), [chunk(content="A", annotations=[cited(LAKES, "url_citation")])]),
        (
            ResponseDecoder(ROUTE),
            [
                {"type": "response.output_text.delta", "output_index": 0, "delta": "A"},
                {"type": "response.output_text.annotation.added", "annotation": cited(LAKES, "url_citation")},
            ],
        ),
    ],
    ids=["Messages", "Chat Completions", "Responses"],
)
def test_a_text_that_is_broken_off_has_its_sources(decoder: Any, events: list[dict[str, Any]]) -> None:
    for event in events:
        decoder.feed(json.dumps(event).encode())
    assert decoder.cited() == [LAKES]


def test_a_source_that_no_item_repeats_is_told_with_the_end() -> None:
    parts = parts_of(
        ResponseDecoder(ROUTE),
        [
            {"type": "response.output_text.delta", "output_index": 0, "delta": "A"},
            {"type": "response.output_text.annotation.added", "annotation": cited(LAKES, "url_citation")},
            {"type": "response.completed", "response": {"status": "completed"}},
        ],
    )
    assert parts == (TextPart("A"), LAKES)


def test_an_interrupt_keeps_texts_that_cite_as_the_one_that_was_streamed() -> None:
    noted = OpaquePart(SERVER.name, "m", "citations", "[]")
    kept = interrupted(Said((TextPart("Bern has "), TextPart("a river"), noted, TextPart(" and lakes"), LAKES)), "m")
    assert kept is not None
    assert kept.parts == (TextPart("Bern has a river and lakes"), LAKES)


def test_a_model_that_reads_a_chat_by_mcp_is_told_of_them_in_words() -> None:
    said = Message(2, Role.ASSISTANT, (TextPart("It rains."), LAKES, RIVERS), 2, datetime(2026, 1, 1, tzinfo=UTC))
    lines = ["It rains.", "[source Lakes https://lakes.example/a]", "[source https://rivers.example/]"]
    assert message_told(said).text == "\n".join(lines)


def test_the_simulated_model_cites_what_it_is_told_to() -> None:
    script = read_script("[[source=https://a.example/x About lakes]] [[step=2 source=https://b.example/]]", Script())
    assert script.sources == (OrderedSource("https://a.example/x", "About lakes"),)
