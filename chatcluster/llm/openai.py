"""The Chat Completions wire format, as OpenAI defines it and as compatible servers really speak it. Pure.

``request_body`` turns a history into the bytes of a request. ``ChunkDecoder`` turns the stream's payloads into events:

* ``feed`` takes one payload. Text and reasoning come out at once, tool calls when they are complete; a piece of a
  call is ``Progress``, and anything else a ``KeepAlive``. An error object raises, whatever came before it, and so does
  a finish reason that says that the answer was broken off (``finish_reasons.py``).
* The answer is complete with ``[DONE]``, or with a finish reason that is followed by the end of the body.
  ``end`` says that the body has ended; without either of the two the answer is cut, and that raises.
* A complete answer ends with ``Finished``. One with nothing to show raises instead: no call, and no character that
  can be seen. Reasoning alone is no answer.

The finish reason is only a hint: servers say ``stop`` although they sent calls, so the calls decide. Usage
may come anywhere, or never; the last one counts. Unknown fields and odd types are read over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from uuid import uuid4

from chatcluster.errors import ProviderError
from chatcluster.llm.chunks import (
    Choice,
    Chunk,
    Said,
    append_text,
    is_json_object,
    parse_json,
    read_chunk,
    read_usage,
)
from chatcluster.llm.failures import Provider, from_finish_reason, from_stray_text, from_stream
from chatcluster.llm.finish_reasons import OTHER, read_finish_reason
from chatcluster.llm.sse import ErrorPayload
from chatcluster.parts import (
    UNDECODABLE,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    encode,
    is_visible,
)
from chatcluster.ports import Delta, Finished, KeepAlive, ModelEvent, ModelRequest, Progress

DONE = b"[DONE]"
KEEP_ALIVE = KeepAlive()
PROGRESS = Progress()
OUTCOME_UNKNOWN = "The outcome of this call is unknown."
BLANK_LINE = rb"\n\n"
"""As it stands in JSON."""
SLICE_BYTES = 128 << 10
PIECE_BYTES = 64
"""What a piece of a slice counts for, besides its own."""
CALLS_CHARACTERS_MAX = 1 << 20
CALL_CHARACTERS = 1000
"""What a call counts for, its texts aside."""
MODEL_CHARACTERS_MAX = 200


# --- the request ------------------------------------------------------------------------------


def request_body(request: ModelRequest, default_model: str, *, include_usage: bool = True) -> Iterator[bytes]:
    """The body of a streaming request for the next assistant message, in slices.

    A slice is a bounded piece of work, whatever the history is: the caller lets others run between two of them. No
    text is copied but into its slice.
    """
    body: dict[str, Any] = {"model": request.model or default_model, "stream": True}
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    pieces = chain((encode(body)[:-1] + b',"messages":[',), _wire_messages(request.messages), (b"]}",))
    slice_, work = bytearray(), 0
    for piece in pieces:
        slice_ += piece
        work += PIECE_BYTES + len(piece)
        if work >= SLICE_BYTES:
            yield bytes(slice_)
            slice_, work = bytearray(), 0
    yield bytes(slice_)


def _wire_messages(history: Sequence[Message]) -> Iterator[bytes]:
    """The history as providers accept it: pieces of the JSON of a list's items.

    Reasoning stays here. Messages without content are left out. Each call is followed by exactly one result,
    in the order of the calls; results without a call are left out. Neighbours of one role are joined with a
    blank line, because some models refuse two user messages in a row.
    """
    comma = b""
    open_role: Role | None = None
    """The role of the message that is being written, while the text of the next one may be joined to it."""
    for index, message in enumerate(history):
        role, calls = message.role, _calls_of(message)
        if role is Role.TOOL or not (calls or _has_text(message)):
            yield b""  # results are taken where their calls are
            continue
        if role is open_role and not calls:
            yield BLANK_LINE
        else:
            if open_role is not None:
                yield b'"}'
            yield b'%s{"role":"%s",' % (comma, role.value.encode())
            comma = b","
            open_role = None if calls else role
            yield b'"content":"' if open_role else b""
        if calls:
            yield from _wire_calls(message, calls, _results_after(history, index))
        else:
            yield from _wire_texts(message)
    if open_role is not None:
        yield b'"}'


def _calls_of(message: Message) -> list[ToolCallPart]:
    if message.role is not Role.ASSISTANT:
        return []
    return [part for part in message.parts if isinstance(part, ToolCallPart)]


def _has_text(message: Message) -> bool:
    return any(isinstance(part, TextPart) and part.text for part in message.parts)


def _results_after(history: Sequence[Message], index: int) -> dict[str, str]:
    """Results by call, from the message after ``index`` up to the next answer; the first of each counts."""
    results: dict[str, str] = {}
    for later in range(index + 1, len(history)):
        message = history[later]
        if message.role is Role.ASSISTANT:
            break
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                results.setdefault(part.call_id, part.text)
    return results


def _wire_calls(message: Message, calls: list[ToolCallPart], results: dict[str, str]) -> Iterator[bytes]:
    """The rest of an answer that calls tools, and what they say."""
    if _has_text(message):
        yield b'"content":"'
        yield from _wire_texts(message)
        yield b'","tool_calls":['
    else:
        yield b'"content":null,"tool_calls":['
    for number, call in enumerate(calls):
        yield b"," if number else b""
        yield _wire_call(call)
    yield b"]}"
    for call in calls:
        yield b',{"role":"tool","tool_call_id":%s,"content":"' % encode(call.id)
        yield from _wire_text(results.get(call.id, OUTCOME_UNKNOWN))
        yield b'"}'


def _wire_texts(message: Message) -> Iterator[bytes]:
    for part in message.parts:
        if isinstance(part, TextPart):
            yield from _wire_text(part.text)


def _wire_text(text: str) -> Iterator[bytes]:
    """What stands between the quotes."""
    for start in range(0, len(text), SLICE_BYTES):
        yield encode(text[start : start + SLICE_BYTES])[1:-1]


def _wire_call(call: ToolCallPart) -> bytes:
    """Arguments that are no JSON object go as an empty one: servers parse them, and fail for good."""
    arguments = call.arguments if is_json_object(call.arguments) else "{}"
    return encode({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})


# --- the answer -------------------------------------------------------------------------------


@dataclass
class _Call:
    """A tool call that is still being streamed."""

    id: str
    name: str
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        """JSON as the model wrote it; nothing stands for no arguments."""
        return "".join(self.pieces).strip() or "{}"

    @property
    def is_whole(self) -> bool:
        return bool(self.pieces) and parse_json(self.arguments) is not None


class ChunkDecoder:
    """One answer; see the module's docstring. Every method may raise ``ProviderError``."""

    def __init__(self, provider: Provider, *, new_call_id: Callable[[], str] = lambda: f"call_{uuid4().hex}") -> None:
        self._provider = provider
        self._new_call_id = new_call_id
        self._calls: list[_Call] = []
        self._open_calls: dict[int, _Call] = {}
        """The last call at each index."""
        self._kept_characters = 0
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._model: str | None = None
        self._has_said_something = False
        self._is_visible = False
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
            raise self._provider.error(
                f"{self._provider.name} ended the stream in the middle of its answer",
                "stream_incomplete",
                retryable=True,
            )
        return self._complete(self._reason)

    def _read(self, payload: bytes) -> Chunk:
        try:
            return read_chunk(payload)
        except (ValueError, *UNDECODABLE) as error:
            text = payload[:200].decode("utf-8", "replace")
            raise self._provider.error(
                f"{self._provider.name} sent a chunk that cannot be read ({error}): {text}", "generic", retryable=True
            ) from None

    def _take_chunk(self, chunk: Chunk, payload: bytes) -> list[ModelEvent]:
        if (chunk.error is not None or not chunk.choices) and chunk.is_error:
            raise from_stray_text(self._provider, payload)
        if chunk.model and isinstance(chunk.model, str):
            self._model = chunk.model[:MODEL_CHARACTERS_MAX]
        if chunk.usage:
            self._usage = read_usage(chunk.usage) or self._usage
        kept_characters = self._kept_characters
        events: list[ModelEvent] = []
        for choice in (chunk.choices or ())[:1]:
            events.extend(map(Delta, self._take_choice(choice)))
        if events:
            self._has_said_something = True
            return events
        return [PROGRESS if self._kept_characters > kept_characters else KEEP_ALIVE]

    def _take_choice(self, choice: Choice) -> list[Part]:
        if choice.usage:
            self._usage = read_usage(choice.usage) or self._usage
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
        if reasoning := said.reasoning_content or said.reasoning:
            append_text(reasoning, parts, ReasoningPart)
        if said.content:
            append_text(said.content, parts, TextPart)
        if said.refusal:
            append_text(said.refusal, parts, TextPart)
        if not self._is_visible:
            self._is_visible = is_visible(parts)
        if calls := said.tool_calls:
            for position, piece in enumerate(calls if isinstance(calls, list) else [calls]):
                self._take_call(position, piece)
        if said.function_call:  # the form before there were several calls
            self._take_call(0, {"function": said.function_call})

    def _take_call(self, position: int, piece: Any) -> None:
        if not isinstance(piece, dict):
            return
        index = piece["index"] if isinstance(piece.get("index"), int) else position
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        call_id = piece["id"] if isinstance(piece.get("id"), str) else ""
        name = function["name"] if isinstance(function.get("name"), str) else ""
        call = self._open_calls.get(index)
        if call is None or _starts_another(call, call_id, name):
            call = self._open_call(index, call_id, name)
        elif name and not call.name:
            self._take_space(len(name))
            call.name = name
        arguments = function.get("arguments")
        if arguments is not None:
            text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            call.pieces.append(text)
            self._take_space(len(text))

    def _open_call(self, index: int, call_id: str, name: str) -> _Call:
        self._take_space(CALL_CHARACTERS + len(call_id) + len(name))
        is_taken = any(call.id == call_id for call in self._calls)
        call = _Call(call_id if call_id and not is_taken else self._new_call_id(), name)
        self._calls.append(call)
        self._open_calls[index] = call
        return call

    def _take_space(self, characters: int) -> None:
        """Text leaves at once, calls are kept until they are whole: so they have a limit."""
        self._kept_characters += characters
        if self._kept_characters > CALLS_CHARACTERS_MAX:
            raise self._provider.error(f"{self._provider.name} sent tool calls without an end", "generic")

    def _complete(self, reason: str) -> list[ModelEvent]:
        calls: list[ModelEvent] = [Delta(ToolCallPart(call.id, call.name, call.arguments)) for call in self._calls]
        if not calls and not self._is_visible:
            raise self._empty(reason)
        if not all(call.name for call in self._calls):
            raise self._provider.error(
                f"{self._provider.name} asked for a tool call without a name", "generic", retryable=True
            )
        if calls and reason in ("stop", OTHER):
            reason = "tool_calls"
        elif reason == "tool_calls" and not calls:
            reason = "stop"
        self.is_complete = True
        return [*calls, Finished(reason, self._usage, self._model)]

    def _empty(self, reason: str) -> ProviderError:
        name = self._provider.name
        if reason == "content_filter":
            return self._provider.error(f"{name}'s content filter blocked the answer", "content_filter")
        if reason == "length":  # the next attempt would cost the same, for nothing
            return self._provider.error(
                f"{name} reached its limit of length before it had said anything; raise the limit, or reason less",
                "empty_answer",
            )
        what = "nothing but reasoning or space" if self._has_said_something else "an empty answer"
        return self._provider.error(f"{name} sent {what} (finish reason {reason})", "empty_answer", retryable=True)


def _starts_another(call: _Call, call_id: str, name: str) -> bool:
    """Whether a piece at the index of ``call`` begins a further call: some servers number all calls 0.

    A new ID alone does not tell, because others send a new ID with every piece; without an ID, a name that
    comes again after whole arguments does.
    """
    if not name or not call.name:
        return False
    if call_id:
        return call_id != call.id
    return call.is_whole
