"""P10: whatever a model's server says, reading it takes no long step, and what is kept of it has a bound."""

from __future__ import annotations

import json
import tracemalloc
from time import process_time
from typing import Any

import pytest
from played_transcripts import SERVER

from chatcluster.errors import ProviderError
from chatcluster.json_bounds import bounded
from chatcluster.llm import sources
from chatcluster.llm.anthropic import MessageDecoder
from chatcluster.llm.chunks import BLOCKS_MAX
from chatcluster.llm.openai import ChunkDecoder
from chatcluster.llm.responses import WORDED_MAX, ResponseDecoder
from chatcluster.llm.sources import LOOKS_MAX, TITLE_CHARACTERS_READ, Sources
from chatcluster.llm.wire import Route
from chatcluster.parts import OpaquePart, TextPart, ToolCallPart
from chatcluster.ports import Delta

ROUTE = Route(server=SERVER, model="m", base_url="https://test.example/v1", api_key="k")
LONG = '{"a":"' + "x" * 900_000


def delta(**fields: Any) -> bytes:
    return json.dumps({"choices": [{"delta": fields}]}).encode()


def call(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "function": {"name": "f", **fields}}


@pytest.mark.parametrize("piece", [call(), call(arguments=" "), call(arguments="{}")], ids=["bare", "blank", "empty"])
def test_p10_arguments_that_are_long_are_not_read_again_with_each_piece(piece: dict[str, Any]) -> None:
    """Whether a piece with a name begins another call depends on whether the arguments are whole: to look at all of
    them each time took half a minute for one chunk."""
    decoder = ChunkDecoder(ROUTE)
    decoder.feed(delta(tool_calls=[call(arguments=LONG)]))
    began = process_time()
    for _ in range(5):
        decoder.feed(delta(tool_calls=[piece] * BLOCKS_MAX))
    assert process_time() - began < 2


def test_calls_that_are_all_numbered_alike_are_told_apart_though_they_are_long() -> None:
    decoder = ChunkDecoder(ROUTE)
    told = [
        event.part
        for arguments in (LONG[:200_000], '"}', LONG[:200_000], '"}', "{}")
        for event in decoder.feed(delta(tool_calls=[call(arguments=arguments)]))
        if isinstance(event, Delta)
    ]
    assert len([part for part in told if isinstance(part, ToolCallPart)]) == 3


def test_p10_a_piece_of_a_call_that_nobody_knows_is_not_looked_for_among_all() -> None:
    decoder = ChunkDecoder(ROUTE)
    for first in range(0, 900, 300):
        decoder.feed(delta(tool_calls=[call(index) | {"id": f"c{index}"} for index in range(first, first + 300)]))
    looks = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    for known in decoder._calls._calls:
        known.provider_id = Counted(known.provider_id)
    decoder.feed(delta(tool_calls=[{"index": 0, "id": f"x{number}"} for number in range(BLOCKS_MAX)]))
    assert looks <= 3 * BLOCKS_MAX


def test_p10_more_pieces_of_calls_than_a_chunk_has_are_an_error() -> None:
    with pytest.raises(ProviderError, match="without an end"):
        ChunkDecoder(ROUTE).feed(delta(tool_calls=[call(number) for number in range(BLOCKS_MAX + 1)]))


def test_p10_a_chunk_of_very_many_pieces_of_text_becomes_few() -> None:
    """Each piece is a frame for readers, or a part of one: a hundred thousand kept the loop for half a second."""
    events = ChunkDecoder(ROUTE).feed(delta(content=[{"text": ["a"] * BLOCKS_MAX}] * 90))
    assert events == [Delta(TextPart("a" * BLOCKS_MAX))] * 90


def test_p10_of_a_title_no_more_is_read_than_is_shown_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def visible(text: str) -> str:
        read.append(len(text))
        return text.replace("\u200b", "")

    monkeypatch.setattr(sources, "visible", visible)
    found = Sources()
    found.take([{"url": "https://a.example", "title": "a\u200b" * 600_000}])
    assert max(read) <= TITLE_CHARACTERS_READ
    assert [source.title for source in found.rest()] == ["a" * (TITLE_CHARACTERS_READ // 2)]


def test_p10_what_an_answer_cites_is_looked_at_so_often_and_no_more() -> None:
    looks = 0

    class Cited(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            nonlocal looks
            looks += key == "url"
            return super().get(key, default)

    found = Sources()
    for _ in range(2 * LOOKS_MAX // sources.SOURCES_MAX):
        found.take([Cited(url="no address")] * sources.SOURCES_MAX)
    assert looks == LOOKS_MAX


@pytest.mark.parametrize("known_by", ["output_index", "item_id"])
def test_p10_long_names_of_items_are_not_kept(known_by: str) -> None:
    """Of each piece the name of its item was kept, however long it was: an answer of a few words took gigabytes."""
    decoder = ResponseDecoder(ROUTE)
    tracemalloc.start()
    try:
        for number in range(40):
            event = {"type": "response.output_text.delta", "delta": "a", known_by: f"{number}" + "x" * 500_000}
            decoder.feed(json.dumps(event).encode())
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 5 << 20


def test_words_of_very_many_items_are_told_once() -> None:
    decoder = ResponseDecoder(ROUTE)
    told = []
    for number in range(WORDED_MAX + 2):
        place = {"output_index": number}
        done = {"type": "message", "content": [{"type": "output_text", "text": "a"}]}
        for event in ({"type": "response.output_text.delta", "delta": "a"}, {"type": "response.output_item.done"}):
            item = {"item": done} if "delta" not in event else {}
            told += decoder.feed(json.dumps({**event, **place, **item}).encode())
    assert [event for event in told if isinstance(event, Delta)] == [Delta(TextPart("a"))] * (WORDED_MAX + 2)


def test_p10_an_answer_of_very_many_items_is_an_error() -> None:
    whole = {"object": "response", "status": "completed", "output": [{"type": "message", "content": "a"}] * 5000}
    with pytest.raises(ProviderError, match="without an end"):
        ResponseDecoder(ROUTE).feed(json.dumps(whole).encode())


@pytest.mark.parametrize(
    "data",
    [
        b'"' + b"e" * (4 << 20) + b'"',
        b'"' + b"e3x" * (1 << 20) + b'"',
        b'"' + b"1e300," * 1000 + b"e" * (4 << 20) + b'"',
    ],
    ids=["letters", "numbers", "both"],
)
def test_p10_to_look_whether_a_document_takes_long_takes_no_long_time(data: bytes) -> None:
    began = process_time()
    for _ in range(3):
        assert bounded(data) is data
    assert process_time() - began < 2


def test_p10_blocks_that_nothing_ended_are_ended_in_one_go() -> None:
    decoder, numbers = MessageDecoder(ROUTE), range(2000)
    for number in reversed(numbers):
        start = {"type": "thinking", "thinking": "", "signature": f"{number}"}
        decoder.feed(json.dumps({"type": "content_block_start", "index": number, "content_block": start}).encode())
    decoder.feed(b'{"type":"content_block_delta","index":3000,"delta":{"type":"text_delta","text":"a"}}')
    parts = [event.part for event in decoder.feed(b'{"type":"message_stop"}') if isinstance(event, Delta)]
    signatures = [json.loads(part.data)["signature"] for part in parts if isinstance(part, OpaquePart)]
    assert signatures == [f"{number}" for number in numbers]
