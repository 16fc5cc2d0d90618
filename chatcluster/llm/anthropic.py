"""The Messages wire format, of Anthropic and of servers that speak it. Pure.

``anthropic_request.py`` has the request. ``MessageDecoder`` turns the stream's payloads into events:

* An answer is a row of blocks, each begun, filled by deltas, and ended. Text, thinking and calls come out as they come.
  What only the server understands comes out as an opaque part when its block is whole: thinking with its signature,
  the server's own tools and their results, and every kind of block that is not known here. It is kept verbatim.
  What texts cite is told besides (``sources.py``), where other blocks follow them, or at the end.
* The answer is complete with ``message_stop`` and with nothing else; an end of the body before it raises. Gateways
  leave out where a block begins or ends, or give all of them one index: a delta of text or thinking that nothing began
  begins a block, and a block ends where another one takes its place, or the answer ends.
* An ``error`` event raises, and is judged by its type: the status of HTTP was 200. Unknown events are read over.

``pause_turn`` ends an answer that the server wants to go on with: its reason is ``pause``, and the same history is sent
again, with the answer as it is. A refusal is ``content_filter``; without a visible word before it, it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chatcluster.llm.addresses import end_point_url
from chatcluster.llm.answers import (
    BLOCK_CHARACTERS,
    KEEP_ALIVE,
    KEPT_CHARACTERS_MAX,
    MODEL_CHARACTERS_MAX,
    PROGRESS,
    cut_answer,
    empty_answer,
    endless_answer,
    kept_id,
    nameless_call,
    new_call_id,
    read_event,
)
from chatcluster.llm.anthropic_blocks import Block, BlockDelta, StreamEvent, begun_by, event_decoder
from chatcluster.llm.anthropic_request import CONTAINER, THINKING, request_body
from chatcluster.llm.computer_toolset import SET, TOOL
from chatcluster.llm.counts import read_count, read_searches
from chatcluster.llm.failures import Provider, from_stray_text
from chatcluster.llm.sources import Sources
from chatcluster.llm.sse import ErrorPayload
from chatcluster.llm.wire import Route, Target, Wire, with_prefix
from chatcluster.parts import (
    CUT_SHORT,
    PAUSED,
    OpaquePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    Usage,
    encode,
    is_visible,
)
from chatcluster.ports import Delta, Finished, ModelEvent, ModelRequest

VERSION = "2026-10-21"
SAMPLING = frozenset({"temperature", "top_p", "top_k"})
VERSION_WITH_TEMPERATURE = "2023-06-01"
"""The last that takes a temperature, and the like."""

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": PAUSED,
    "refusal": "content_filter",
}


class MessageDecoder:
    """One answer; see the module's docstring. Every method may raise ``ProviderError``."""

    def __init__(self, route: Route, *, new_call_id: Callable[[], str] = new_call_id) -> None:
        self._route = route
        self._new_call_id = new_call_id
        self._blocks: dict[int, Block] = {}
        self._kept_characters = 0
        self._reason: str | None = None
        self._why = ""
        """What the server says of a refusal."""
        self._tokens: dict[str, int] = {}
        self._model: str | None = None
        self._calls = 0
        self._bare_calls: dict[str, str] = {}
        """Those of which no arguments came, by our IDs, with what that means if none are missing; and the last call."""
        self._last_call: str | None = None
        self._sources = Sources()
        self._has_said_something = False
        self._is_visible = False
        self.is_complete = False

    @property
    def has_finish_reason(self) -> bool:
        return self.is_complete

    @property
    def _server(self) -> Provider:
        return self._route.server

    def feed(self, payload: bytes) -> list[ModelEvent]:
        if self.is_complete:
            return []
        if not payload.strip():
            return [KEEP_ALIVE]
        event = read_event(event_decoder, payload, self._server)
        if event.type == "error" or event.error or isinstance(payload, ErrorPayload):
            raise from_stray_text(self._server, payload)
        parts: list[Part] = []
        if event.type == "message_stop":
            self._end_blocks(parts)
            self._is_visible = self._is_visible or is_visible(parts)
            return [*map(Delta, parts), *self._complete()]
        kept_characters = self._kept_characters
        self._take(event, parts)
        if parts:
            self._has_said_something = True
            self._is_visible = self._is_visible or is_visible(parts)
            events: list[ModelEvent] = [*map(Delta, parts)]
            return events + self._complete() if event.type == "message" else events
        return [PROGRESS if self._kept_characters > kept_characters else KEEP_ALIVE]

    def end(self) -> list[ModelEvent]:
        if not self.is_complete:
            raise cut_answer(self._server)
        return []

    def cited(self) -> Sequence[Part]:
        return self._sources.rest()

    def _take(self, event: StreamEvent, parts: list[Part]) -> None:
        index = event.index if isinstance(event.index, int) else 0
        match event.type:
            case "message_start" if isinstance(event.message, dict):
                self._take_head(event.message.get("model"), event.message.get("usage"))
            case "content_block_start" if isinstance(event.content_block, dict):
                self._begin(index, event.content_block, parts)
            case "content_block_delta" if event.delta is not None:
                if index not in self._blocks and (start := begun_by(event.delta)):
                    self._begin(index, start, parts)
                if index in self._blocks:
                    self._grow(self._blocks[index], event.delta, parts)
            case "content_block_stop" if index in self._blocks:
                self._end_block(self._blocks.pop(index), parts)
            case "message_delta":
                self._take_head(None, event.usage)
                if event.delta is not None:
                    self._take_ending(event.delta, parts)
            case "message" if isinstance(event.content, list):
                self._take_whole(event, parts)

    def _take_head(self, model: Any, usage: Any) -> None:
        if isinstance(model, str) and model:
            self._model = model[:MODEL_CHARACTERS_MAX]
        if isinstance(
            usage, dict
        ):  # later counts are those of the whole answer, or of gateways that do not repeat them
            details = usage.get("output_tokens_details")
            thinking = read_count(details, "thinking_tokens")
            found = {name: read_count(usage, name) for name in _COUNTS}
            found |= {"thinking_tokens": thinking, "searches": read_searches(usage)}
            known = {name: count for name, count in found.items() if count is not None}
            self._tokens |= {name: max(count, self._tokens.get(name, 0)) for name, count in known.items()}

    def _take_ending(self, delta: BlockDelta, parts: list[Part]) -> None:
        if isinstance(delta.stop_reason, str):
            self._reason = _REASONS.get(delta.stop_reason, "other")
        if isinstance(delta.stop_details, dict):
            explanation = delta.stop_details.get("explanation")
            self._why = explanation if isinstance(explanation, str) else ""
        if isinstance(delta.container, dict):
            parts.append(self._opaque(CONTAINER, encode(delta.container)))

    def _take_whole(self, event: StreamEvent, parts: list[Part]) -> None:
        """An answer that was not streamed."""
        self._take_head(event.model, event.usage)
        for index, start in enumerate(event.content):
            if isinstance(start, dict):
                self._begin(index, start, parts)
                self._end_block(self._blocks.pop(index), parts)
        self._take_ending(BlockDelta(stop_reason=event.stop_reason), parts)
        self._end_blocks(parts)

    def _begin(self, index: int, start: dict[str, Any], parts: list[Part]) -> None:
        self._take_space(BLOCK_CHARACTERS + len(encode(start)))
        if index in self._blocks:
            self._end_block(self._blocks.pop(index), parts)
        block = self._blocks[index] = Block(start)
        if block.type != "text":
            parts.extend(self._sources.rest())
        if block.type == "tool_use":
            self._begin_call(block, parts)
            return
        for key, kind in (("text", TextPart), ("thinking", ReasoningPart)):
            text = start.get(key)
            if block.type == key and isinstance(text, str) and text:
                block.texts.append(text)
                parts.append(kind(text))
        if isinstance(signature := start.get("signature"), str):
            block.signatures.append(signature)
        if block.type == "text" and isinstance(citations := start.get("citations"), list):
            block.citations.extend(citations)
            self._sources.take(citations)

    def _begin_call(self, block: Block, parts: list[Part]) -> None:
        name, provider_id, arguments = (block.start.get(key) for key in ("name", "id", "input"))
        if not isinstance(name, str) or not name:
            raise nameless_call(self._server)
        self._calls += 1
        block.call_id = self._last_call = self._new_call_id()
        block.given = encode(arguments).decode() if arguments else ""
        if self._route.options.computer_tool is not None and block.start.get("toolset_name") == SET:
            block.member, name = name, TOOL
        parts.append(ToolCallPart(block.call_id, name, "", kept_id(provider_id)))

    def _grow(self, block: Block, delta: BlockDelta, parts: list[Part]) -> None:
        if isinstance(delta.text, str) and delta.text:
            parts.append(TextPart(delta.text))
        elif isinstance(delta.thinking, str) and delta.thinking:
            self._keep(block.texts, delta.thinking)
            parts.append(ReasoningPart(delta.thinking))
        elif isinstance(delta.partial_json, str) and delta.partial_json:
            self._keep(block.inputs, delta.partial_json)
            if block.call_id is not None and not block.member:
                parts.append(ToolArgumentsPart(block.call_id, delta.partial_json))
        elif isinstance(delta.signature, str):
            self._keep(block.signatures, delta.signature)
        elif delta.citation is not None:
            self._take_space(len(encode(delta.citation)))
            block.citations.append(delta.citation)
            self._sources.take(delta.citation)

    def _keep(self, kept: list[str], text: str) -> None:
        self._take_space(len(text))
        kept.append(text)

    def _end_block(self, block: Block, parts: list[Part]) -> None:
        if block.call_id is not None and (arguments := block.late_arguments):
            parts.append(ToolArgumentsPart(block.call_id, arguments))
        elif block.call_id is not None and not block.has_inputs:
            self._bare_calls[block.call_id] = block.without_arguments
        if (opaque := block.opaque()) is not None:
            parts.append(self._opaque(*opaque))

    def _end_blocks(self, parts: list[Part]) -> None:
        """End the blocks that nothing ended. Calls of which nothing was said have no arguments; but of the last call of
        an answer that was cut they are not known."""
        for index in sorted(self._blocks):
            self._end_block(self._blocks.pop(index), parts)
        parts.extend(self._sources.rest())
        unknown = self._last_call if self._reason in CUT_SHORT else None
        bare = self._bare_calls.items()
        parts.extend(ToolArgumentsPart(call_id, meant) for call_id, meant in bare if call_id != unknown)
        self._bare_calls.clear()

    def _opaque(self, kind: str, data: bytes) -> OpaquePart:
        prefix = self._route.prefix if kind in THINKING else ""
        return OpaquePart(self._server.name, self._route.model, kind, data.decode(), prefix)

    def _take_space(self, characters: int) -> None:
        self._kept_characters += characters
        if self._kept_characters > KEPT_CHARACTERS_MAX:
            raise endless_answer(self._server)

    def _complete(self) -> list[ModelEvent]:
        reason = self._reason or "stop"
        if not self._calls and not self._is_visible and reason != PAUSED:
            raise empty_answer(self._server, reason, has_said_something=self._has_said_something, why=self._why)
        if self._calls and reason in ("stop", "other"):
            reason = "tool_calls"
        elif reason == "tool_calls" and not self._calls:
            reason = "stop"
        self.is_complete = True
        return [Finished(reason, self.usage, self._model)]

    @property
    def usage(self) -> Usage | None:
        """The server counts what it read from its cache and wrote to it apart from the rest of the input."""
        tokens = self._tokens
        if not tokens:
            return None
        input_tokens = [tokens[name] for name in _INPUT_COUNTS if name in tokens]
        return Usage(
            input_tokens=sum(input_tokens) if input_tokens else None,
            output_tokens=tokens.get("output_tokens"),
            reasoning_tokens=tokens.get("thinking_tokens"),
            cached_input_tokens=tokens.get("cache_read_input_tokens"),
            cache_write_tokens=tokens.get("cache_creation_input_tokens"),
            searches=tokens.get("searches"),
        )


_INPUT_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_COUNTS = (*_INPUT_COUNTS, "output_tokens")


def _target(_: ModelRequest, route: Route) -> Target:
    """Base URLs are given with and without the version at their end."""
    return Target("POST", end_point_url(route.base_url, "/v1/messages", without=("/v1",)))


def _headers(route: Route) -> dict[str, str]:
    """The newest version takes no temperature. The one that does wants its key in a header of its own."""
    if route.options.temperature is not None or SAMPLING & route.options.extra_body.keys():
        return {"anthropic-version": VERSION_WITH_TEMPERATURE, "x-api-key": route.api_key}
    return {"anthropic-version": VERSION, "authorization": f"Bearer {route.api_key}"}


WIRE = Wire(_target, _headers, request_body, lambda request, route: MessageDecoder(with_prefix(request, route)))
