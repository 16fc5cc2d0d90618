"""The Chat Completions wire format, as OpenAI defines it and as compatible servers really speak it. Pure.

``openai_request.py`` has the request. ``ChunkDecoder`` turns the stream's payloads into events:

* ``feed`` takes one payload. Text, reasoning and tool calls come out at once: a call when its name is known, with what
  is there of its arguments, then the rest of them piece by piece; what can not be told yet is ``Progress``, and
  anything else a ``KeepAlive``. An error object raises, whatever came before it, and so does a finish reason that says
  that the answer was broken off (``finish_reasons.py``).
* The answer is complete with ``[DONE]``, or with a finish reason that is followed by the end of the body.
  ``end`` says that the body has ended; without either of the two the answer is cut, and that raises.
* A complete answer ends with ``Finished``. One with nothing to show raises instead: no call, and no character that
  can be seen. Reasoning alone is no answer.

An answer that can be continued from its words tells with each piece how many tokens it has by then: what the server
says of that, if it does so on the way, and else one for each piece, or more where that is long for one token.

The finish reason is only a hint: servers say ``stop`` although they sent calls, so the calls decide. Usage
may come anywhere, or never; the last one counts. Unknown fields and odd types are read over.

Servers differ most in how they number the pieces of a call: without ``index``, or with 0 for all of them; without an
ID, or with a new one for each piece; with arguments as an object, or ``null``. ``_StreamedCalls`` reads all of that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatcluster.llm.addresses import end_point_url, key_headers
from chatcluster.llm.answers import (
    KEEP_ALIVE,
    MODEL_CHARACTERS_MAX,
    PROGRESS,
    PROVIDER_ID_CHARACTERS_MAX,
    cut_answer,
    empty_answer,
    endless_answer,
    new_call_id,
    unreadable,
)
from chatcluster.llm.chunks import (
    USAGE_TOKENS_MAX,
    Choice,
    Chunk,
    Said,
    append_text,
    parse_json,
    read_chunk,
    read_usage,
)
from chatcluster.llm.failures import from_finish_reason, from_stray_text, from_stream
from chatcluster.llm.finish_reasons import OTHER, read_finish_reason
from chatcluster.llm.openai_request import EXTRA_CONTENT, REASONING, REASONING_FIELDS, request_body
from chatcluster.llm.sse import ErrorPayload
from chatcluster.llm.wire import Route, Target, Wire
from chatcluster.models import PrefixDialect
from chatcluster.parts import (
    UNDECODABLE,
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

DONE = b"[DONE]"
CALLS_CHARACTERS_MAX = 1 << 20
TOKEN_CHARACTERS_MAX = 8
"""A piece with as many for several times is several tokens, which some servers send together."""
CALL_CHARACTERS = 1000
"""What a call counts for, its texts aside."""


@dataclass
class _Call:
    """A tool call that is still being streamed. ``id`` is ours."""

    id: str
    provider_id: str
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    untold: list[Part] = field(default_factory=list)
    """What follows the call where its name is not known yet."""

    @property
    def is_whole(self) -> bool:
        """Whether what came of the arguments is a JSON value. Looked at only where it may be."""
        return bool(self.pieces) and parse_json("".join(self.pieces)) is not None


class _StreamedCalls:
    """The tool calls of one answer, from pieces as servers send them."""

    def __init__(self, route: Route, new_id: Callable[[], str]) -> None:
        self._provider = route.server
        self._model = route.model
        self._new_id = new_id
        self._calls: list[_Call] = []
        self._open: dict[int, _Call] = {}
        """The last call at each index."""
        self.kept_characters = 0

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, position: int, piece: Any, parts: list[Part]) -> None:
        """Append to ``parts`` what a piece, the one at ``position`` in its list, adds to the answer."""
        if not isinstance(piece, dict):
            return
        index = piece["index"] if isinstance(piece.get("index"), int) else position
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name = function["name"] if isinstance(function.get("name"), str) else ""
        call_id = piece["id"] if isinstance(piece.get("id"), str) else ""
        arguments = _as_text(function.get("arguments"))
        call = self._call_at(index, call_id, is_named=bool(name))
        if call is None or _starts_another(call, call_id, name, arguments):
            call = self._begin(index, call_id)
        self._grow(call, name, arguments, parts)
        if extra := piece.get(EXTRA_CONTENT):
            self._tell(call, self._opaque(call, extra), parts)

    def end(self, reason: str) -> list[Part]:
        """What is left to say when the answer is complete: nothing stands for no arguments. But of the last call of an
        answer that was cut at its limit they are not known."""
        if not all(call.name for call in self._calls):
            raise self._provider.error(
                f"{self._provider.name} asked for a tool call without a name", "generic", retryable=True
            )
        whole = self._calls[:-1] if reason == "length" else self._calls
        return [ToolArgumentsPart(call.id, "{}") for call in whole if not "".join(call.pieces).strip()]

    def _call_at(self, index: int, call_id: str, *, is_named: bool) -> _Call | None:
        """The call that a piece is of, as it seems: mostly the last one at its index. Where calls are written side by
        side without an index, or all at 0, the ID tells of which one there is more."""
        call = self._open.get(index)
        if is_named or not call_id or (call is not None and call.provider_id in ("", call_id)):
            return call
        return next((known for known in self._calls if known.provider_id == call_id), call)

    def _begin(self, index: int, call_id: str) -> _Call:
        self._take_space(CALL_CHARACTERS + len(call_id))
        is_taken = any(call.provider_id == call_id for call in self._calls)
        is_good = not is_taken and len(call_id) <= PROVIDER_ID_CHARACTERS_MAX
        call = _Call(self._new_id(), call_id if is_good else "")
        self._calls.append(call)
        self._open[index] = call
        return call

    def _grow(self, call: _Call, name: str, arguments: str, parts: list[Part]) -> None:
        if arguments:
            self._take_space(len(arguments))
            call.pieces.append(arguments)
        if name and not call.name:
            self._take_space(len(name))
            call.name = name
            parts.append(ToolCallPart(call.id, name, "".join(call.pieces), call.provider_id or None))
            parts.extend(call.untold)
            call.untold.clear()
        elif arguments and call.name:
            parts.append(ToolArgumentsPart(call.id, arguments))

    def _tell(self, call: _Call, part: Part, parts: list[Part]) -> None:
        (parts if call.name else call.untold).append(part)

    def _opaque(self, call: _Call, extra: Any) -> OpaquePart:
        data = encode({"call_id": call.id, EXTRA_CONTENT: extra}).decode()
        self._take_space(len(data))
        return OpaquePart(self._provider.name, self._model, EXTRA_CONTENT, data)

    def _take_space(self, characters: int) -> None:
        """Calls are kept until the answer is complete: so they have a limit."""
        self.kept_characters += characters
        if self.kept_characters > CALLS_CHARACTERS_MAX:
            raise endless_answer(self._provider)


def _as_text(arguments: Any) -> str:
    """The arguments' JSON: some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)


def _starts_another(call: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Whether a piece at the index of ``call`` begins a further call: some servers number all calls 0.

    A new ID alone does not tell, because others send a new ID with every piece; without an ID, another name does, or
    the same one that comes again after whole arguments.
    """
    if not name or not call.name:
        return False
    if call_id:
        return call_id != call.provider_id
    return name != call.name or (arguments[:1] in ("", "{", " ") and call.is_whole)


class _Echo:
    """The words that an answer goes on from, where the server may tell them again before the rest."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._taken = 0
        """How many of their characters came again."""

    def new_of(self, text: str) -> str:
        """What of the text is not said again. Where it turns out to be no echo, with what was held back."""
        rest = self._words[self._taken :]
        if rest.startswith(text):
            self._taken += len(text)
            return ""
        new = text[len(rest) :] if text.startswith(rest) else self._words[: self._taken] + text
        self._words, self._taken = "", 0
        return new

    def held(self) -> str:
        """What came again in part alone: so it was said anew."""
        return self._words[: self._taken] if self._taken < len(self._words) else ""

    def without(self, parts: list[Part]) -> list[Part]:
        """The parts, without what is said again."""
        kept = (TextPart(self.new_of(part.text)) if isinstance(part, TextPart) else part for part in parts)
        return [part for part in kept if not isinstance(part, TextPart) or part.text]

    @property
    def is_over(self) -> bool:
        return not self._words


class _Tokens:
    """How many tokens an answer has by now, with those that it was ``begun`` with."""

    def __init__(self, begun: int) -> None:
        self._begun = begun
        self._told = 0

    def told(self, parts: Sequence[Part], usage: Usage | None) -> Iterator[Delta]:
        """The parts of one chunk as what is told of them: the last one with the number behind it."""
        *rest, last = parts
        for part in rest:
            yield Delta(part)
        characters = sum(len(part.text) for part in parts if isinstance(part, TextPart))
        self._told += max(1, characters // TOKEN_CHARACTERS_MAX)
        if usage is not None:
            self._told = max(self._told, min(usage.output_tokens or 0, USAGE_TOKENS_MAX))
        yield Delta(last, self._begun + self._told)


class ChunkDecoder:
    """One answer, or the rest of one that was ``begun``, with so many tokens; see the module's docstring. Every method
    may raise ``ProviderError``."""

    def __init__(
        self,
        route: Route,
        *,
        begun: str = "",
        begun_tokens: int = 0,
        new_call_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._provider = route.server
        self._asked_model = route.model
        self._calls = _StreamedCalls(route, new_call_id)
        self._reasoning_field = ""
        self._reason: str | None = None
        self.usage: Usage | None = None
        """As far as the server has said, also of an answer that fails."""
        self._model: str | None = None
        self._tokens = _Tokens(begun_tokens) if route.goes_on_from_words else None
        self._echo = _Echo(begun if route.options.prefix is PrefixDialect.PREFIX_ECHOED else "")
        self._has_said_something = False
        self._is_visible = is_visible((TextPart(begun),))
        """There is something to show, calls aside."""
        self.is_complete = False
        """``Finished`` has been returned: nothing of what follows matters."""

    @property
    def has_finish_reason(self) -> bool:
        """The answer is whole; at most usage and the end marker are still to come."""
        return self._reason not in (None, OTHER)

    def feed(self, payload: bytes) -> list[ModelEvent]:
        """The events that one payload of the stream stands for."""
        if self.is_complete:
            return []
        stripped = payload.strip()
        if stripped == DONE:
            return self._complete(self._reason or "stop")
        if not stripped:
            return [KEEP_ALIVE]
        if isinstance(payload, ErrorPayload):
            raise from_stray_text(self._provider, payload)
        return self._take_chunk(self._read(payload), payload)

    def end(self) -> list[ModelEvent]:
        """The last events, now that the body has ended; raises if the answer is not whole."""
        if self.is_complete:
            return []
        if self._reason is None:
            raise cut_answer(self._provider)
        return self._complete(self._reason)

    def _read(self, payload: bytes) -> Chunk:
        try:
            return read_chunk(payload)
        except (ValueError, *UNDECODABLE) as error:
            raise unreadable(self._provider, payload, error) from None

    def _take_chunk(self, chunk: Chunk, payload: bytes) -> list[ModelEvent]:
        if (chunk.error is not None or not chunk.choices) and chunk.is_error:
            raise from_stray_text(self._provider, payload)
        if chunk.model and isinstance(chunk.model, str):
            self._model = chunk.model[:MODEL_CHARACTERS_MAX]
        if chunk.usage:
            self.usage = read_usage(chunk.usage) or self.usage
        kept_characters = self._calls.kept_characters
        parts = [part for choice in (chunk.choices or ())[:1] for part in self._take_choice(choice)]
        if parts:
            self._has_said_something = True
            return [*(map(Delta, parts) if self._tokens is None else self._tokens.told(parts, self.usage))]
        return [PROGRESS if self._calls.kept_characters > kept_characters else KEEP_ALIVE]

    def _take_choice(self, choice: Choice) -> list[Part]:
        if choice.usage:
            self.usage = read_usage(choice.usage) or self.usage
        parts: list[Part] = []
        if choice.delta is not None:
            self._take_words(choice.delta, parts)
        elif choice.message is not None:
            if not (self._has_said_something or self._calls):  # else it repeats what was streamed
                self._take_words(choice.message, parts)
            self._reason = self._reason or "stop"
        if choice.error:
            raise from_stream(self._provider, choice.error)
        reason = read_finish_reason(choice.finish_reason) if choice.finish_reason else None
        if reason is not None:
            if reason.reason is None:
                raise from_finish_reason(self._provider, reason)
            self._reason = reason.reason
        return parts

    def _take_words(self, said: Said, parts: list[Part]) -> None:
        for name in REASONING_FIELDS:
            if reasoning := getattr(said, name):  # some servers say it in two fields at once
                append_text(reasoning, parts, ReasoningPart)
                self._reasoning_field = name
                break
        if said.content:
            append_text(said.content, parts, TextPart)
        if said.refusal:
            append_text(said.refusal, parts, TextPart)
        if not self._echo.is_over:
            parts[:] = self._echo.without(parts)
        if not self._is_visible:
            self._is_visible = is_visible(parts)
        if calls := said.tool_calls:
            for position, piece in enumerate(calls if isinstance(calls, list) else [calls]):
                self._calls.take(position, piece, parts)
        if said.function_call:  # the form before there were several calls
            self._calls.take(0, {"function": said.function_call}, parts)

    def _complete(self, reason: str) -> list[ModelEvent]:
        if not self._calls and not self._is_visible:
            raise empty_answer(self._provider, reason, has_said_something=self._has_said_something)
        last = self._calls.end(reason)
        if held := self._echo.held():
            last.insert(0, TextPart(held))
        if self._calls and self._reasoning_field:
            data = encode({"field": self._reasoning_field}).decode()
            last.append(OpaquePart(self._provider.name, self._asked_model, REASONING, data))
        if self._calls and reason in ("stop", OTHER):
            reason = "tool_calls"
        elif reason == "tool_calls" and not self._calls:
            reason = "stop"
        self.is_complete = True
        return [*map(Delta, last), Finished(reason, self.usage, self._model)]


def _target(_: ModelRequest, route: Route) -> Target:
    return Target("POST", end_point_url(route.base_url, "/chat/completions"))


WIRE = Wire(
    _target,
    lambda route: key_headers(route.base_url, route.api_key),
    request_body,
    lambda request, route: ChunkDecoder(route, begun=request.begun, begun_tokens=request.begun_tokens),
)
