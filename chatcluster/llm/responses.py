"""The Responses wire format, of OpenAI and of servers that speak it. Pure.

``responses_request.py`` has the request. ``ResponseDecoder`` turns the stream's payloads into events:

* An answer is a row of items: messages, reasoning, calls, and what the server does itself. Text, summaries of reasoning
  and calls come out as they come. Reasoning comes encrypted besides: that is kept verbatim, as an opaque part, when its
  item is done, and so is every kind of item that is not known here.
* The answer is complete with ``response.completed`` or ``response.incomplete``, which says why, and with nothing else.
  ``response.failed`` and ``error`` raise. Unknown events are read over.
* A message whose words did not come in pieces is told when its item is done. So are its sources (``sources.py``).
* Some servers (llama.cpp) number neither events nor items, so a call is then known by its item's ID; and they say
  ``completed`` of an answer that was cut at its limit of length, which the number of its tokens tells.

An answer **in the background** tells its ID as soon as it is known (``Attachable``), and each piece its number. To
attach is to ask for the same stream behind a number: the server has done the rest meanwhile, and nothing is done twice.
Of an item that had begun before that number, what still comes counts; a call that had begun is told whole when it is
done, or where it is known (``Attachment.calls``), the rest of it then. A server that nevertheless begins anew is not
told twice; one that gives the whole answer instead of the rest of it has ``forgotten`` it, as nobody knows which of its
words are new. An answer that nobody wants any more is cancelled at its server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from chatcluster.llm.addresses import end_point_url, key_headers
from chatcluster.llm.answers import (
    BLOCK_CHARACTERS,
    KEEP_ALIVE,
    KEPT_CHARACTERS_MAX,
    MODEL_CHARACTERS_MAX,
    PROGRESS,
    cut_answer,
    empty_answer,
    endless_answer,
    is_answer_id,
    kept_id,
    nameless_call,
    new_call_id,
    read_event,
)
from chatcluster.llm.chunks import BLOCKS_MAX, append_text
from chatcluster.llm.counts import read_response_usage
from chatcluster.llm.failures import from_stray_text, from_stream
from chatcluster.llm.openai import DONE
from chatcluster.llm.responses_request import ENCRYPTED, REASONING, request_body, tells_reasoning
from chatcluster.llm.sources import Sources
from chatcluster.llm.sse import ErrorPayload
from chatcluster.llm.wire import OPENAI_TOOLS_MAX, Route, Target, Wire, with_prefix
from chatcluster.parts import (
    OpaquePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    Usage,
    encode,
    grown,
    is_visible,
)
from chatcluster.ports import Attachable, Attachment, Delta, Finished, ModelEvent, ModelRequest

SEQUENCE_MAX = 2**53
WORDED_MAX = 1000
"""Items that are remembered to have said words. Where there are more, all of them have."""
_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
_FINAL = {"response.completed", "response.incomplete"}
_BROKEN = {"response.failed", "response.cancelled"}
_UNFINISHED = ("queued", "in_progress")
_WORDS: dict[str, type[TextPart] | type[ReasoningPart]] = {
    "response.output_text.delta": TextPart,
    "response.refusal.delta": TextPart,
    "response.reasoning_summary_text.delta": ReasoningPart,
    "response.reasoning_text.delta": ReasoningPart,
}


class _Response(msgspec.Struct):
    id: Any = None
    model: Any = None
    status: Any = None
    usage: Any = None
    tool_usage: Any = None
    error: Any = None
    incomplete_details: Any = None
    output: msgspec.Raw = msgspec.Raw(b"[]")


class _Event(msgspec.Struct):
    type: Any = None
    delta: Any = None
    item: Any = None
    item_id: Any = None
    arguments: Any = None
    annotation: Any = None
    output_index: Any = None
    summary_index: Any = None
    sequence_number: Any = None
    response: _Response | None = None
    error: Any = None
    object: Any = None


_event_decoder = msgspec.json.Decoder(_Event)
_response_decoder = msgspec.json.Decoder(_Response)


@dataclass
class _Call:
    """A call that is being streamed. ``id`` is ours."""

    id: str
    has_arguments: bool = False


class ResponseDecoder:
    """One answer, or the rest of one, ``behind`` a number; see the module's docstring. Methods may raise
    ``ProviderError``."""

    def __init__(
        self,
        route: Route,
        *,
        behind: int | None = None,
        calls: Iterable[ToolCallPart] = (),
        new_call_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._route = route
        self._server = route.server
        self._behind = behind
        self._new_call_id = new_call_id
        self._calls: dict[object, _Call] = {}
        """Calls by the index of their item, or by its ID."""
        self._begun_calls = {call.provider_id: call for call in calls if call.provider_id}
        """Those that an earlier connection has told of, by the server's name for them."""
        self._lacks_reasoning = False
        """Some of it was told without what has to go back: nor may what it led to."""
        self._worded: set[object] = set()
        """Which items have said words."""
        self._sources = Sources()
        self._kept_characters = 0
        self._answer_id = ""
        self._has_said_something = False
        self._is_visible = False
        self.usage: Usage | None = None
        self.is_complete = False

    @property
    def has_finish_reason(self) -> bool:
        return self.is_complete

    @property
    def _goes_on(self) -> bool:
        return self._behind is not None

    def feed(self, payload: bytes) -> list[ModelEvent]:
        if self.is_complete:
            return []
        if payload.strip() in (b"", DONE):
            return [KEEP_ALIVE]
        event = read_event(_event_decoder, payload, self._server)
        if event.type == "error" or event.error or isinstance(payload, ErrorPayload):
            raise from_stray_text(self._server, payload)
        if event.object == "response":
            return self._take_unstreamed(read_event(_response_decoder, payload, self._server))
        if event.response is not None:
            return self._take_response(event.type, event.response)
        if self._is_known(event.sequence_number):
            return [KEEP_ALIVE]
        parts: list[Part] = []
        kept_characters = self._kept_characters
        self._take(event, parts)
        if not parts:
            return [PROGRESS if self._kept_characters > kept_characters else KEEP_ALIVE]
        return self._told(parts, event.sequence_number)

    def end(self) -> list[ModelEvent]:
        if not self.is_complete:
            raise cut_answer(self._server)
        return []

    def cited(self) -> Sequence[Part]:
        return self._sources.rest()

    def _is_known(self, sequence: Any) -> bool:
        """Whether it was told before somebody attached to the answer."""
        return self._behind is not None and isinstance(sequence, int) and sequence <= self._behind

    def _told(self, parts: list[Part], sequence: Any = None) -> list[ModelEvent]:
        self._has_said_something = True
        self._is_visible = self._is_visible or is_visible(parts)
        if not self._route.in_background or not isinstance(sequence, int) or not 0 <= sequence <= SEQUENCE_MAX:
            return [*map(Delta, parts)]
        *rest, last = parts
        return [*map(Delta, rest), Delta(last, sequence)]

    def _take(self, event: _Event, parts: list[Part]) -> None:
        kind = _WORDS.get(event.type) if isinstance(event.type, str) else None
        if kind is not None:
            if isinstance(event.delta, str) and event.delta:
                if len(self._worded) < WORDED_MAX:
                    self._worded.add(_place(event))
                parts.append(kind(event.delta))
            return
        match event.type:
            case "response.reasoning_summary_part.added" if event.summary_index:
                parts.append(ReasoningPart("\n\n"))
            case "response.output_text.annotation.added":
                self._sources.take(event.annotation)
            case "response.function_call_arguments.delta":
                self._grow_call(event, event.delta, parts)
            case "response.function_call_arguments.done":
                call = self._calls.get(_place(event))
                if call is not None and not call.has_arguments:
                    self._grow_call(event, event.arguments, parts)
            case "response.output_item.added" if isinstance(event.item, dict):
                if event.item.get("type") == "function_call":
                    self._begin_call(event, parts)
            case "response.output_item.done" if isinstance(event.item, dict):
                self._end_item(event, parts)

    def _begin_call(self, event: _Event, parts: list[Part]) -> _Call:
        name, provider_id, arguments = (event.item.get(key) for key in ("name", "call_id", "arguments"))
        if not isinstance(name, str) or not name:
            raise nameless_call(self._server)
        arguments = arguments if isinstance(arguments, str) else ""
        call = self._calls[_place(event)] = _Call(self._new_call_id(), bool(arguments))
        self._take_space(BLOCK_CHARACTERS + len(name) + len(arguments))
        parts.append(ToolCallPart(call.id, name, arguments, kept_id(provider_id)))
        return call

    def _grow_call(self, event: _Event, text: Any, parts: list[Part]) -> None:
        if not isinstance(text, str) or not text:
            return
        self._take_space(len(text))
        call = self._calls.get(_place(event))
        if call is not None:
            call.has_arguments = True
            parts.append(ToolArgumentsPart(call.id, text))

    def _end_call(self, event: _Event, parts: list[Part]) -> None:
        """Tell what is not known yet of the arguments of a call that is done; of one that came in pieces, nothing."""
        begun = self._begun_calls.get(kept_id(event.item.get("call_id")) or "")
        if begun is not None:
            self._calls[_place(event)] = _Call(begun.id)
        call = self._calls.get(_place(event)) or self._begin_call(event, parts)
        if call.has_arguments:
            return
        known, whole = "" if begun is None else begun.arguments, event.item.get("arguments")
        if not isinstance(whole, str) or not whole.strip():
            is_cut = event.item.get("status") == "incomplete"  # before they came
            whole = known if is_cut else known or "{}"
        if not whole.startswith(known):
            raise self._server.error(f"{self._server.name} tells another call than before", "generic", retryable=True)
        if rest := whole[len(known) :]:
            parts.append(ToolArgumentsPart(call.id, rest))

    def _end_item(self, event: _Event, parts: list[Part]) -> None:
        item = event.item
        match item.get("type"):
            case None:
                return
            case "message":
                content = item.get("content")
                is_worded = _place(event) in self._worded or len(self._worded) == WORDED_MAX
                if not is_worded and not self._goes_on:
                    append_text(content, parts, TextPart)
                for block in content[:BLOCKS_MAX] if isinstance(content, list) else ():
                    self._sources.take(block.get("annotations") if isinstance(block, dict) else None)
                parts.extend(self._sources.rest())
            case "function_call":
                self._end_call(event, parts)
            case "reasoning" if not item.get("encrypted_content"):
                self._lacks_reasoning = True  # it would be looked for where nothing was left
            case kind if kind == REASONING or not self._lacks_reasoning:
                data = encode(item).decode()
                self._take_space(BLOCK_CHARACTERS + len(data))
                prefix = self._route.prefix if kind == REASONING else ""
                parts.append(OpaquePart(self._server.name, self._route.model, str(kind), data, prefix))

    def _take_response(self, kind: Any, response: _Response) -> list[ModelEvent]:
        kind = kind if isinstance(kind, str) else None
        self.usage = grown(self.usage, read_response_usage(response.usage, response.tool_usage))
        if kind in _FINAL:
            return self._finish(response, is_cut=kind == "response.incomplete")
        if kind in _BROKEN:
            raise from_stream(self._server, response.error or {"message": f"it was {response.status}"})
        if self._route.in_background and response.id != self._answer_id and is_answer_id(response.id):
            self._answer_id = response.id
            return [Attachable(response.id)]
        return [KEEP_ALIVE]

    def _take_unstreamed(self, response: _Response) -> list[ModelEvent]:
        """An answer that was not streamed. One that is not whole yet is attached to, or was cut."""
        if self._goes_on:
            said = f"{self._server.name} tells an answer from its beginning alone"
            raise self._server.error(said, "answer_forgotten", retryable=True)
        if response.status in _UNFINISHED:
            return self._take_response(None, response)
        return self._finish(response)

    def _finish(self, response: _Response, *, is_cut: bool = False) -> list[ModelEvent]:
        self.usage = grown(self.usage, read_response_usage(response.usage, response.tool_usage))
        if response.status in ("failed", "cancelled"):
            raise from_stream(self._server, response.error or {"message": f"it was {response.status}"})
        events: list[ModelEvent] = []
        if not self._has_said_something and not self._goes_on:
            events = self._take_whole(response)
        reason = self._reason(response, is_cut=is_cut or response.status == "incomplete")
        if not (self._calls or self._is_visible or self._goes_on):
            raise empty_answer(self._server, reason, has_said_something=self._has_said_something)
        events.extend(map(Delta, self._sources.rest()))
        self.is_complete = True
        model = response.model[:MODEL_CHARACTERS_MAX] if isinstance(response.model, str) else None
        return [*events, Finished(reason, self.usage, model)]

    def _take_whole(self, response: _Response) -> list[ModelEvent]:
        """An answer that was not streamed, or whose pieces were not told."""
        output = msgspec.json.decode(response.output)
        parts: list[Part] = []
        for index, item in enumerate(output if isinstance(output, list) else []):
            if not isinstance(item, dict):
                continue
            self._take_space(BLOCK_CHARACTERS)
            if item.get("type") == REASONING:
                append_text(item.get("summary"), parts, ReasoningPart)
            self._end_item(_Event(item=item, output_index=index), parts)
        return self._told(parts) if parts else []

    def _reason(self, response: _Response, *, is_cut: bool) -> str:
        if is_cut:
            details = response.incomplete_details
            word = details.get("reason") if isinstance(details, dict) else None
            return _REASONS.get(str(word), "other")
        tokens, tokens_max = self.usage and self.usage.output_tokens, self._route.output_tokens_max
        if tokens and tokens_max and tokens >= tokens_max:
            return "length"
        return "tool_calls" if self._calls or self._begun_calls else "stop"

    def _take_space(self, characters: int) -> None:
        self._kept_characters += characters
        if self._kept_characters > KEPT_CHARACTERS_MAX:
            raise endless_answer(self._server)


def _place(event: _Event) -> object:
    """What tells an item of the answer from the others."""
    if isinstance(event.output_index, int | float):
        return event.output_index
    item_id = event.item.get("id") if isinstance(event.item, dict) else event.item_id
    return kept_id(event.output_index) or kept_id(item_id)


def _target(request: ModelRequest, route: Route) -> Target:
    if request.attach is None:
        return Target("POST", end_point_url(route.base_url, "/responses"))
    query = {"stream": "true"}
    if tells_reasoning(request, route):
        query["include[]"] = ENCRYPTED
    if request.attach.after is not None:
        query["starting_after"] = str(request.attach.after)
    return Target("GET", end_point_url(route.base_url, _path(request.attach), query=urlencode(query)))


def _cancel(request: ModelRequest, route: Route) -> Target:
    assert request.attach is not None
    return Target("POST", end_point_url(route.base_url, f"{_path(request.attach)}/cancel"))


def _path(attach: Attachment) -> str:
    return f"/responses/{quote(attach.answer_id, safe='')}"


def _decoder(request: ModelRequest, route: Route) -> ResponseDecoder:
    route = with_prefix(request, route)
    if request.attach is None:
        return ResponseDecoder(route)
    return ResponseDecoder(route, behind=request.attach.after, calls=request.attach.calls)


WIRE = Wire(
    _target,
    lambda route: key_headers(route.base_url, route.api_key),
    request_body,
    _decoder,
    _cancel,
    tools_max=OPENAI_TOOLS_MAX,
)
