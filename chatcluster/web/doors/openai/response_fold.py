"""The events of a response, as a fold over the log of its turn (``turn_log.py``). Pure.

Events are numbered from 0 without a gap, by what the turn says and not by how it came: the same on every replica, while
the answer streams, after a takeover and when it is history. A reader that comes back folds from the start, and is told
what follows the number that it has.

States: ``in_progress``, then one of ``completed``, ``incomplete``, ``failed`` and ``cancelled``, with the one terminal
event, after which there is nothing. A response is over when its turn is, when all that is left of a step is for the
client to run, or when the chat waits for somebody (``resting.py``). A cancelled one ends with ``response.incomplete``:
the API knows no other event for it.

An attempt that comes to nothing is not taken back: its open item is closed as ``incomplete``, and what takes its place
is said in new items. The response has only what is in the chat's history.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from chatcluster.chat import CallState
from chatcluster.parts import (
    Message,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from chatcluster.turn_log import Attempted, Ended, Rested, Told, Waited, Withdrawn
from chatcluster.usage import added
from chatcluster.web.doors.openai.called import Called, Requested
from chatcluster.web.doors.openai.ids import kept_item_id, request_id
from chatcluster.web.doors.openai.resting import Kinds, Rests, Resumed, left_to_others
from chatcluster.web.doors.openai.spoken import Event, Spoken
from chatcluster.web.doors.voices import Citation, Voice, cited_in, spoken_at, spoken_in, voice_of

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
FAILURE_CODES = {"rate_limit": "rate_limit_exceeded", "usage_limit": "rate_limit_exceeded"}
"""OpenAI's names for what it has a name for; all else is ``server_error``, and its message says what."""
INTERRUPTED = "interrupted"


class ResponseFold:
    """``tell`` it what happens; ``response`` is what there is so far."""

    def __init__(
        self, parameters: dict[str, Any], client_tools: frozenset[str], resumed: Resumed | None = None
    ) -> None:
        """``parameters`` is the response as it begins; ``client_tools`` are the names of those that the client runs;
        ``resumed`` is what it goes on from, if it does not begin a turn."""
        self._parameters = parameters
        self._client_tools = client_tools
        self._id: str = parameters["id"]
        self._number = 0
        self._index = 0
        self._ends: dict[str, Any] = {"status": "in_progress"}
        """What the end of the response changes of it."""
        self._attempt: list[Spoken] = []
        """What was said in the attempt under way; the last one may be open."""
        self._is_open = False
        self._rests = Rests(resumed)
        self._items: list[Spoken | Called | Requested] = []
        """What is history."""
        self.kept_as: dict[str, str] = {}
        """The IDs that those of them which the model said have in their conversation."""
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._last_at = 0
        """When the last message of it was committed."""
        self.last_id = 0
        """The last message of it that its chat's user did not write."""

    @property
    def is_over(self) -> bool:
        return bool(self._ends["status"] != "in_progress")

    def response(self) -> dict[str, Any]:
        output = [item.item() for item in self._items] if self.is_over else []
        return {**self._parameters, **self._ends, "output": output, "usage": _usage(self._usage)}

    @property
    def rest(self) -> int | None:
        """The number of the rest that it has ended with."""
        return self._rests.ended_with

    @property
    def calls_that_wait(self) -> list[str]:
        """The IDs of those that it has ended without."""
        return [item.part.id for item in self._items if isinstance(item, Called) and not item.is_done]

    @property
    def clients_calls(self) -> list[str]:
        """The IDs of those that the client runs."""
        return [item.part.id for item in self._items if isinstance(item, Called) and item.is_clients]

    def tell(self, told: Told) -> Iterator[Event]:
        """The events that follow from it, numbered."""
        for event in self._events(told):
            event["sequence_number"] = self._number
            self._number += 1
            yield event

    def _events(self, told: Told) -> Iterator[Event]:
        if self._number == 0:
            yield {"type": "response.created", "response": self.response()}
            yield {"type": "response.in_progress", "response": self.response()}
            yield from self._resume()
        if self.is_over:
            return
        match told:
            case Attempted():
                yield from self._abandon()
            case TextPart() | ReasoningPart() if told.text:
                yield from self._say(voice_of(told) or Voice.TEXT, told.text)
            case SourcePart() if self._is_open:
                yield from self._attempt[-1].cite(told)
            case ToolCallPart():
                yield from self._close()
            case Message():
                yield from self._take(told)
            case Waited():
                yield from self._wait(told)
            case Ended(turn=turn, error=error):
                code = None if turn.outcome != "error" else turn.code or "unknown"
                text = error.message if error is not None else f"the turn failed: {code}"
                yield from self._end(turn.outcome == INTERRUPTED, code, text)
            case Rested():
                yield from self._end(self._finish_reason in (None, INTERRUPTED), None, "")
            case Withdrawn():
                yield from self._end(True, None, "")

    # --- what is being said -------------------------------------------------------------------

    def _say(self, voice: Voice, text: str) -> Iterator[Event]:
        if not self._is_open or self._attempt[-1].voice is not voice:
            yield from self._open(voice)
        yield from self._attempt[-1].add(text)

    def _open(self, voice: Voice) -> Iterator[Event]:
        yield from self._close()
        self._attempt.append(Spoken(voice, self._id, self._next_index()))
        self._is_open = True
        yield from self._attempt[-1].open()

    def _close(self) -> Iterator[Event]:
        if self._is_open:
            self._is_open = False
            yield from self._attempt[-1].close()

    def _abandon(self) -> Iterator[Event]:
        """What was said of the attempt counts no more."""
        if self._is_open:
            self._is_open = False
            yield from self._attempt[-1].abandon()
        self._attempt = []

    def _next_index(self) -> int:
        self._index += 1
        return self._index - 1

    # --- what is history ----------------------------------------------------------------------

    def _take(self, message: Message) -> Iterator[Event]:
        self._last_at = int(message.created_at.timestamp())
        if message.role is not Role.USER:
            self.last_id = message.id
        if message.role is Role.ASSISTANT:
            yield from self._commit(message)
        elif message.role is Role.TOOL:
            yield from self._answer(message)
        open_calls = [item for item in self._items if isinstance(item, Called) and not item.is_done]
        if not open_calls and any(isinstance(item, Called) and item.is_clients for item in self._items):
            yield from self._end(False, None, "")

    def _resume(self) -> Iterator[Event]:
        """The calls that it goes on from."""
        if (resumed := self._rests.resumed) is not None:
            for part in resumed.calls:
                yield from self._call(part, resumed.requests.get(part.id))

    def _call(self, part: ToolCallPart, request_id: str | None = None) -> Generator[Event, None, Called]:
        is_clients = part.name in self._client_tools
        called = Called(part, self._id, self._next_index(), is_clients=is_clients, request_id=request_id)
        self._items.append(called)
        yield from called.open()
        return called

    def _commit(self, message: Message) -> Iterator[Event]:
        """Say what is not said yet of the message, and take it into the response."""
        self._rests.step()
        spoken = [(*said, cited) for said, cited in zip(spoken_in(message.parts), cited_in(message.parts), strict=True)]
        if not self._leads_to(spoken):
            yield from self._abandon()
        for place, (voice, text, cited) in enumerate(spoken):
            if place >= len(self._attempt):
                yield from self._open(voice)
            if place == len(self._attempt) - 1 and self._is_open:
                yield from self._attempt[-1].tell_to_the_end(text, cited)
        yield from self._close()
        self._keep(message)
        for place, part in enumerate(message.parts):
            if isinstance(part, ToolCallPart):
                called = yield from self._call(part)
                self.kept_as[called.id] = kept_item_id("fc", message.id, place)
        self._usage = added(self._usage, message.usage)
        self._finish_reason = message.finish_reason

    def _keep(self, message: Message) -> None:
        """What was said of it is history."""
        for said, place in zip(self._attempt, spoken_at(message.parts), strict=True):
            is_text = said.voice is Voice.TEXT
            kept = kept_item_id("msg", message.id) if is_text else kept_item_id("rs", message.id, place)
            self.kept_as[said.id] = kept
        self._items.extend(self._attempt)
        self._attempt = []

    def _leads_to(self, spoken: list[tuple[Voice, str, list[Citation]]]) -> bool:
        """Whether what was said of the attempt is how the message begins."""
        if len(self._attempt) > len(spoken):
            return False
        for place, said in enumerate(self._attempt):
            voice, text, cited = spoken[place]
            is_last_open = self._is_open and said is self._attempt[-1]
            if said.voice is not voice or not said.leads_to(text, cited, is_open=is_last_open):
                return False
        return True

    def _answer(self, message: Message) -> Iterator[Event]:
        calls = {item.part.id: item for item in self._items if isinstance(item, Called) and not item.is_done}
        for part in message.parts:
            if isinstance(part, ToolResultPart) and part.call_id in calls:
                yield from calls[part.call_id].answered(part)

    # --- the end ------------------------------------------------------------------------------

    def _wait(self, waited: Waited) -> Iterator[Event]:
        """The chat waits for somebody: end the response, unless it is behind that already."""
        kinds = self._rests.found_in(waited)
        if kinds is not None:
            yield from self._end(False, None, "", kinds)

    def _request(self, kinds: Kinds) -> Iterator[Event]:
        assert self.rest is not None
        for part in self._parts:
            if kinds.get(part.id) is CallState.APPROVAL:
                requested = Requested(part, self._next_index(), request_id(part.id, self.rest))
                self._items.append(requested)
                yield from requested.tell()

    @property
    def _parts(self) -> list[ToolCallPart]:
        return [item.part for item in self._items if isinstance(item, Called)]

    def _end(self, cancelled: bool, code: str | None, text: str, kinds: Kinds | None = None) -> Iterator[Event]:
        """``kinds``: what is waited for."""
        yield from self._abandon()
        for item in self._items:
            if isinstance(item, Called) and not item.is_done:
                yield from item.abandon()
        elsewhere = None
        if kinds is not None:
            yield from self._request(kinds)
            names = {part.id: part.name for part in self._parts}
            elsewhere = left_to_others(kinds, names, str(self._parameters.get("chat_id")))
        reason = INCOMPLETE.get(self._finish_reason or "")
        if code is not None:
            self._ends = {
                "status": "failed",
                "error": {"code": FAILURE_CODES.get(code, "server_error"), "message": text},
            }
        elif elsewhere is not None:
            self._ends = {"status": "incomplete", "incomplete_details": elsewhere}
        elif cancelled:
            self._ends = {"status": "cancelled"}
        elif reason is not None:
            self._ends = {"status": "incomplete", "incomplete_details": {"reason": reason}}
        else:
            self._ends = {"status": "completed"}
        status = self._ends["status"]
        self._ends["completed_at"] = self._last_at or None
        yield {
            "type": f"response.{'incomplete' if status == 'cancelled' else status}",
            "response": self.response(),
        }


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    taken, given = usage.input_tokens or 0, usage.output_tokens or 0
    cached = {
        "cached_tokens": usage.cached_input_tokens or 0,
        "cache_write_tokens": usage.cache_write_tokens or 0,
    }
    return {
        "input_tokens": taken,
        "input_tokens_details": cached,
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": taken + given,
    }
