"""What holds for every stream of a door: its framing, its names and numbers, and how it ends. One lint for all of them.

A stream ends in order behind its one terminal event, or it is broken off without any: never in order without one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import msgspec
from openai.types.responses import ResponseStreamEvent

Json = dict[str, Any]
DONE = "[DONE]"
RESPONSE_EVENTS = frozenset(
    get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(get_args(ResponseStreamEvent)[0])
)
CHUNKS = frozenset(
    [
        *("start", "start-step", "finish-step", "finish", "abort", "error", "message-metadata"),
        *(f"{voice}-{step}" for voice in ("text", "reasoning") for step in ("start", "delta", "end")),
        *(f"tool-input-{step}" for step in ("start", "delta", "available", "error")),
        *("tool-approval-request", "tool-output-available", "tool-output-error", "tool-output-denied"),
        *("source-url", "source-document", "file"),
    ]
)
"""Those that versions 6 and 7 both know, besides ``data-…``."""
AG_UI_EVENTS = frozenset(
    [
        *("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR", "MESSAGES_SNAPSHOT", "CUSTOM"),
        *(f"{kind}_{step}" for kind in ("TEXT_MESSAGE", "REASONING_MESSAGE") for step in ("START", "CONTENT", "END")),
        *("REASONING_START", "REASONING_END"),
        *(f"TOOL_CALL_{step}" for step in ("START", "ARGS", "END", "RESULT")),
    ]
)


class Stream(NamedTuple):
    """As it came. ``is_clean``: its body came to an end in order."""

    raw: bytes
    is_clean: bool

    @property
    def text(self) -> str:
        return self.raw.decode("utf-8", "strict" if self.is_clean else "ignore")


class Block(NamedTuple):
    event: str | None
    data: str

    @property
    def json(self) -> Json:
        found: Json = msgspec.json.decode(self.data)
        return found


def blocks_of(stream: Stream, *, lone_comments: bool = False) -> list[Block]:
    """The events, whose framing every parser of such streams takes.

    Signs of life are comments. ``lone_comments``: an empty line may follow one; OpenAI's client fails at that.
    """
    *whole, rest = stream.text.split("\n\n")
    assert "\r" not in stream.text
    if stream.is_clean:
        assert all(line.startswith(":") for line in rest.splitlines()), rest
    found = []
    for text in whole:
        lines = [line for line in text.split("\n") if not line.startswith(":")]
        if not lines and lone_comments:
            continue
        fields = [line.partition(": ")[::2] for line in lines]
        names = [name for name, _ in fields]
        assert names in (["data"], ["event", "data"]), text
        values = dict(fields)
        found.append(Block(values.get("event"), values["data"]))
    return found


def lint_responses(stream: Stream, after: int = -1) -> list[Json]:
    blocks = blocks_of(stream)
    events = [block.json for block in _without_done(stream, blocks)]
    for block, event in zip(blocks, events, strict=False):
        assert block.event == event["type"]
        assert event["type"] in RESPONSE_EVENTS, event["type"]
    assert [event["sequence_number"] for event in events] == list(range(after + 1, after + 1 + len(events)))
    if after < 0 and events:
        assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"][: len(events)]
    _ends_once(
        stream,
        [event["type"] for event in events],
        {f"response.{end}" for end in ("completed", "failed", "incomplete")},
    )
    return events


def lint_completion(stream: Stream) -> list[Json]:
    blocks = blocks_of(stream)
    chunks = [block.json for block in _without_done(stream, blocks)]
    assert all(block.event is None for block in blocks)
    told = [chunk for chunk in chunks if "error" not in chunk]
    assert {chunk["object"] for chunk in told} <= {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in told}) <= 1
    if told:
        assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [
        "end" if "error" in chunk or (chunk["choices"] and chunk["choices"][0]["finish_reason"]) else ""
        for chunk in chunks
    ]
    behind = [chunk for chunk in chunks if "error" not in chunk and not chunk["choices"]]
    _ends_once(stream, reasons[: len(reasons) - len(behind)], {"end"})
    return chunks


def lint_ai_sdk(stream: Stream) -> list[Json]:
    blocks = blocks_of(stream)
    chunks = [block.json for block in _without_done(stream, blocks)]
    assert all(block.event is None for block in blocks)
    kinds = [chunk["type"] for chunk in chunks]
    assert all(kind in CHUNKS or kind.startswith("data-") for kind in kinds), kinds
    assert kinds[:1] in ([], ["start"])
    opened: set[str] = set()
    for chunk in chunks:
        name, _, step = chunk["type"].rpartition("-")
        if name in ("text", "reasoning"):
            assert (chunk["id"] in opened) == (step != "start"), chunk
            (opened.add if step == "start" else opened.discard if step == "end" else str)(chunk["id"])
    ends = {"finish", "abort", "error"}
    _ends_once(stream, kinds, ends)
    assert not (stream.is_clean and opened), "each piece that was opened is closed"
    return chunks


def lint_ag_ui(stream: Stream) -> list[Json]:
    blocks = blocks_of(stream)
    events = [block.json for block in blocks]
    assert all(block.event is None for block in blocks)
    kinds = [event["type"] for event in events]
    assert set(kinds) <= AG_UI_EVENTS, kinds
    assert kinds[:1] in ([], ["RUN_STARTED"])
    _ends_once(stream, kinds, {"RUN_FINISHED", "RUN_ERROR"})
    return events


def lint_mcp(stream: Stream) -> list[Json]:
    blocks = blocks_of(stream, lone_comments=True)
    messages = [block.json for block in blocks]
    assert all(block.event == "message" for block in blocks)
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    kinds = ["answer" if "id" in message else message["method"] for message in messages]
    assert set(kinds) <= {"answer", "notifications/progress"}, kinds
    _ends_once(stream, kinds, {"answer"})
    return messages


LINTS: dict[str, Callable[[Stream], list[Json]]] = {
    "responses": lint_responses,
    "completions": lint_completion,
    "ai-sdk": lint_ai_sdk,
    "ag-ui": lint_ag_ui,
    "mcp": lint_mcp,
}


def _without_done(stream: Stream, blocks: list[Block]) -> list[Block]:
    """The events before the end, which there is if the stream ended in order, and only then."""
    places = [place for place, block in enumerate(blocks) if block.data == DONE]
    assert places == ([len(blocks) - 1] if stream.is_clean else places[:1]), "one end, and nothing behind it"
    return blocks[: places[0]] if places else blocks


def _ends_once(stream: Stream, kinds: list[str], ends: set[str]) -> None:
    places = [place for place, kind in enumerate(kinds) if kind in ends]
    if stream.is_clean:
        assert places == [len(kinds) - 1], kinds[-3:]
    else:
        assert not places, "what has ended is not broken off"
