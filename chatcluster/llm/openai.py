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
may come anywhere, or never; of several the highest counts. Unknown fields and odd types are read over.

Where a model writes what it thinks into its answer, in tags, and its options say so, that is told as reasoning. What it
found on the web (``sources.py``) is told behind the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatcluster.llm.addresses import end_point_url, key_headers
from chatcluster.llm.answers import (
    KEEP_ALIVE,
    MODEL_CHARACTERS_MAX,
    PROGRESS,
    cut_answer,
    empty_answer,
    new_call_id,
    unreadable,
)
from chatcluster.llm.chunks import (
    Choice,
    Chunk,
    Said,
    read_chunk,
)
from chatcluster.llm.failures import from_finish_reason, from_stray_text, from_stream
from chatcluster.llm.finish_reasons import OTHER, read_finish_reason
from chatcluster.llm.openai_request import request_body
from chatcluster.llm.sse import ErrorPayload
from chatcluster.llm.streamed_calls import StreamedCalls
from chatcluster.llm.streamed_words import StreamedWords
from chatcluster.llm.wire import OPENAI_TOOLS_MAX, Route, Target, Wire
from chatcluster.parts import (
    UNDECODABLE,
    Part,
    Usage,
    grown,
)
from chatcluster.ports import Delta, Finished, ModelEvent, ModelRequest

DONE = b"[DONE]"


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
        self._calls = StreamedCalls(route, new_call_id)
        self._words = StreamedWords(route, begun, begun_tokens)
        self._reason: str | None = None
        self.usage: Usage | None = None
        """The usage as far as the server has said, also of an answer that fails."""
        self._model: str | None = None
        self._has_said_something = False
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

    def cited(self) -> Sequence[Part]:
        return self._words.sources()

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
            self.usage = grown(self.usage, chunk.counts)
        self._words.take_beside(chunk)
        kept_characters = self._calls.kept_characters
        parts = [part for choice in (chunk.choices or ())[:1] for part in self._take_choice(choice)]
        if parts:
            self._has_said_something = True
            return [*self._words.told(parts, self.usage)]
        return [PROGRESS if self._calls.kept_characters > kept_characters else KEEP_ALIVE]

    def _take_choice(self, choice: Choice) -> list[Part]:
        if choice.usage:
            self.usage = grown(self.usage, choice.counts)
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
        self._words.take(said, parts)
        if calls := said.tool_calls:
            parts.extend(self._words.sources())
            self._calls.take(calls, parts)
        if said.function_call:  # the form before there were several calls
            self._calls.take({"function": said.function_call}, parts)

    def _complete(self, reason: str) -> list[ModelEvent]:
        rest = self._words.rest()
        if not self._calls and not self._words.is_visible:
            raise empty_answer(self._provider, reason, has_said_something=self._has_said_something)
        last: list[Part] = [*rest, *self._calls.end(reason)]
        if self._calls:
            last.extend(self._words.reasoned())
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
    tools_max=OPENAI_TOOLS_MAX,
)
