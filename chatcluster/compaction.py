"""A summary in the place of a history: when one is needed, and how the owner of a chat comes to it.

Before each call of the model ``context.py`` decides whether one comes first (``comes_first``). The model writes it: the
same prompt and tools, none of which may be called, and one more message that asks for the summary. Readers see a call
begin, and its result. What comes of it is one command, ``CommitSummary``: a replica that dies before it is committed
leaves the old history, after it the new one, and its successor decides again from what there is.

What happens on failure:

* the provider says that what is to be summarised is too long itself: the newest half of it is told as one text, then
  half of that, and so on; and so where it is too long to be told as a whole, and the model refuses what there is room
  for, as that may be for something that was said long ago;
* the model fails, refuses, or says nothing: if the prompt can be sent nevertheless, the turn goes on without a summary,
  readers get a notice, and the next step tries again; else it is a failed attempt like any other (``runner.py``), and
  so is that of a summary which the user asked for;
* the chat moves under it: nothing of it is kept, whatever was said.

The provider's "too long", and a summary that failed, are remembered for the history at which it was, by this tenure
alone: the next owner asks again, and learns the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.attempt import Attempt
from chatcluster.chat import CommitSummary, ErrorInfo, Fail, OwnerCommand
from chatcluster.config import Settings
from chatcluster.content import SummaryPart
from chatcluster.context import (
    INSTRUCTION,
    SUMMARY_CALL,
    TOKEN_BYTES,
    Source,
    is_whole,
    kept_of,
    newest_summary,
    next_for,
    tokens_of,
    tokens_of_prompt,
    tokens_of_summary,
    tokens_of_tools,
    transcript,
)
from chatcluster.errors import Moved, ProviderError
from chatcluster.held_chat import HeldChat
from chatcluster.parts import (
    JsonPart,
    Message,
    NewMessage,
    NoticePart,
    Part,
    Position,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    encode,
    text_of,
)
from chatcluster.ports import ModelRequest, Outside, Window
from chatcluster.room import bytes_of
from chatcluster.turn import asked_model, steps_taken

INSTRUCTION_TOKENS = len(INSTRUCTION) // TOKEN_BYTES
SUMMARY_BYTES_MAX = 64 << 10
SUMMARY_SHARES = 2
"""A summary takes no more than this part of the window's threshold: else what follows it has no room."""
CUT = "\n\n(The summary was cut here, as it was too long.)"
ROOM_TOKENS_MIN = 100
"""A history of which no more than that can be told is not summarised."""
SHORTENED_MAX = 6
"""How often a history that is too long to be summarised is halved."""
MESSAGES_PER_STEP = 2000
"""So many messages are measured in one step of the loop."""
FAILED = NoticePart("compaction_failed", "The conversation could not be summarised; it goes on at its full length.")


class Steps(NamedTuple):
    """What the owner of the chat does besides, as its runner does it."""

    start_attempt: Callable[[], Awaitable[bool]]
    request: Callable[[Sequence[Message]], Awaitable[ModelRequest]]
    """The next one, with the history as the model is given it."""
    end: Callable[[OwnerCommand, str], Awaitable[None]]
    """Commit it, and go on to what was promoted, or end the tenure."""
    failed: Callable[[ProviderError], Awaitable[None]]
    """Schedule another attempt, or end the turn."""


class Compaction:
    """The summaries of one tenure."""

    def __init__(self, held: HeldChat, outside: Outside, settings: Settings, steps: Steps) -> None:
        self._held = held
        self._outside = outside
        self._settings = settings
        self._steps = steps
        self._overflowed_at = 0
        """The history version of which the provider said that it is too long."""
        self._overflow = ""
        """What the provider said then, which may be about images or bytes."""
        self._failed_at = 0
        """The one at which a summary could not be had."""
        self._is_told = True

    def __repr__(self) -> str:
        return f"<Compaction {self._held}>"

    async def overflowed(self, error: ProviderError) -> None:
        """The provider says that the prompt is too long: the next step summarises, or ends the turn."""
        chat = self._held.chat
        telemetry.event("chat.attempt_failed", chat_id=str(chat.id), kind="context_overflow", retryable=False)
        self._overflowed_at, self._overflow = chat.history_version, error.message

    def news(self) -> list[NoticePart]:
        """What the turn goes on without, once."""
        news = [] if self._is_told else [FAILED]
        self._is_told = True
        return news

    async def comes_first(self, messages: Sequence[Message], *, asked_for: bool) -> bool:
        """Summarise the history if that has to be done before the model is asked, or if it is ``asked_for``; or end the
        turn if it cannot go on. False: the model is to be asked now.

        Raises what commits raise.
        """
        need, is_needed = (Source.MANUAL, True) if asked_for else await self._need(messages)
        if need is None:
            return False
        if isinstance(need, ErrorInfo):
            said = f" ({self._overflow})" if self._overflowed_at == self._held.chat.history_version else ""
            await self._steps.end(Fail(msgspec.structs.replace(need, message=need.message + said)), "error")
        else:
            await self._summarise(messages, need, is_needed=is_needed)
        return True

    async def _need(self, messages: Sequence[Message]) -> tuple[Source | ErrorInfo | None, bool]:
        """What is needed, as ``next_for`` says it; and whether the turn cannot go on without it."""
        chat, window = self._held.chat, self._window(messages)
        if self._held.history.known(chat) is None:
            raise Moved("another model is asked now, which takes more than was read of the history")
        overflowed = self._overflowed_at == chat.history_version
        if window is None and not overflowed:
            return None, False
        request = await self._held.unless_moved(lambda: self._steps.request(messages))
        if request is None:
            raise Moved("the chat moved while its tools were asked for")
        tokens = await self._measured(request, window)
        need = next_for(messages, tokens, window, overflowed=overflowed)
        is_needed = overflowed or (window is not None and tokens > window.limit_tokens)
        if self._failed_at == chat.history_version and need is Source.THRESHOLD and not is_needed:
            return None, False
        return need, is_needed

    async def _summarise(self, messages: Sequence[Message], source: Source, *, is_needed: bool) -> None:
        """If a summary is all that was asked for, the work is done with it."""
        await self._steps.start_attempt()
        chat = self._held.chat
        self._held.stream.attempt(chat.attempt, chat.history_version, chat.snapshot_version)

        async def summary() -> CommitSummary:
            return await self._run(messages, source, await self._steps.request(messages))

        try:
            command = await self._held.unless_moved(summary)
        except ProviderError as error:
            await self._failed(error, is_needed=is_needed)
            return
        if command is None:
            await self._held.reload()
        elif self._held.chat.compacting:
            await self._steps.end(command, "compacted")
        else:
            await self._held.commit(command)
        self._held.history.close()  # what came before the summary is not needed any more

    async def _failed(self, error: ProviderError, *, is_needed: bool) -> None:
        chat = self._held.chat
        telemetry.event("chat.compaction_failed", chat_id=str(chat.id), kind=error.kind, error=error.message)
        if is_needed:
            await self._steps.failed(error)
        else:
            self._failed_at, self._is_told = chat.history_version, False

    def _window(self, messages: Sequence[Message]) -> Window | None:
        chat = self._held.chat
        return self._outside.windows(asked_model(messages) or chat.model, chat.failures)

    async def _measured(self, request: ModelRequest, window: Window | None) -> int:
        """The tokens of the request; above the limit if a part of the history is left out, as that is never sent."""
        estimates: list[int] = []
        for index, message in enumerate(request.messages, start=1):
            estimates.append(tokens_of(message))
            if index % MESSAGES_PER_STEP == 0:
                await trio.lowlevel.checkpoint()
        tokens = tokens_of_prompt(request.messages, estimates, tokens_of_tools(request.tools))
        if window is None or self._held.history.is_whole:
            return tokens
        return max(tokens, window.limit_tokens + 1)

    # --- the summary --------------------------------------------------------------------------

    async def _run(self, messages: Sequence[Message], source: Source, request: ModelRequest) -> CommitSummary:
        """Have the model write the summary, and tell readers. ``request`` is that of the next answer."""
        chat, stream = self._held.chat, self._held.stream
        call_id = f"{SUMMARY_CALL}_{chat.history_version}_{chat.attempt}"
        call = ToolCallPart(call_id, SUMMARY_CALL, encode({"source": source}).decode())
        window, kept = self._window(messages), kept_of(messages)
        tokens = await self._measured(request, window)
        stream.part(call)
        with telemetry.span("chat.compaction", chat_id=str(chat.id), source=str(source)):
            try:
                said = await self._said(request, tokens, window, kept, source)
            except ProviderError as error:
                stream.part(ToolResultPart(call_id, f"The summary failed: {error.message}", is_error=True))
                raise
        text = _words_of(said, window)
        result = _result(call_id, text, source, tokens, window)
        stream.part(result)
        asked = msgspec.structs.replace(said, parts=(call,), finish_reason="tool_calls", position=str(stream.flush()))
        summary = _summary(messages, kept, text, window, _tokens_before(request))
        return CommitSummary((asked, NewMessage(Role.TOOL, (result, summary), position=asked.position)))

    async def _said(
        self,
        request: ModelRequest,
        tokens: int,
        window: Window | None,
        kept: Sequence[Message],
        source: Source,
    ) -> NewMessage:
        """The model's words. A history that is too long is shortened until it is not."""
        room = tokens if window is None else max(window.limit_tokens - INSTRUCTION_TOKENS, ROOM_TOKENS_MIN)
        if source is Source.OVERFLOW:
            room = min(room, tokens) // 2
        why = "not even a part of the conversation is short enough to be sent"
        failure = ProviderError(why, kind="context_overflow")
        for _ in range(SHORTENED_MAX):
            is_part = tokens > room
            try:
                return await self._ask(_shortened(request, kept, room) if is_part else request)
            except ProviderError as error:
                is_refused = is_part and error.kind == "content_filter"
                if not (is_refused or error.kind == "context_overflow") or room // 2 < ROOM_TOKENS_MIN:
                    raise
                failure = error if is_refused else failure
            room = min(room, tokens) // 2
        raise failure

    async def _ask(self, request: ModelRequest) -> NewMessage:
        attempt = Attempt(self._outside.model, _Unheard(self._held.stream.flush), self._settings, _forget)
        messages = (*request.messages, _of_user(request.messages[-1], INSTRUCTION))
        asked = self._held.history.asked
        with self._held.unbooked.attempt(self._held.chat, attempt, asked=asked, compaction=True):
            aside = msgspec.structs.replace(request, messages=messages, may_call_tools=False, is_aside=True)
            said = await attempt.run(aside)
        if not text_of(said.parts).strip():
            raise ProviderError("the model's summary is empty", kind="empty_answer", retryable=True)
        if said.finish_reason == "content_filter":  # what came before that is no summary
            raise ProviderError("the model refused to summarise the conversation", kind="content_filter")
        return said


class _Unheard:
    """In the place of a stream: what the model says is for the summary, and for no reader."""

    def __init__(self, flush: Callable[[], Position]) -> None:
        self.flush = flush

    def part(self, part: Part, sequence: int | None = None) -> None:
        """Nobody is told."""


async def _forget(_answer_id: str) -> None:
    """A summary that is broken off is begun anew, and never gone on with."""


def _words_of(said: NewMessage, window: Window | None) -> str:
    """The words of the summary. If it was cut, they say so: its reader has to know that it has no end."""
    bytes_max = SUMMARY_BYTES_MAX
    if window is not None:
        bytes_max = min(bytes_max, window.threshold_tokens // SUMMARY_SHARES * TOKEN_BYTES)
    words = text_of(said.parts).strip().encode("utf-8", "replace")
    text = words[:bytes_max].decode("utf-8", "ignore")
    return text + CUT if said.finish_reason == "length" or len(words) > bytes_max else text


def _of_user(like: Message, text: str) -> Message:
    """A message of no history."""
    return Message(0, Role.USER, (TextPart(text),), like.revision, like.created_at)


def _result(call_id: str, text: str, source: Source, tokens: int, window: Window | None) -> ToolResultPart:
    """What readers are shown of a summary."""
    told: dict[str, Any] = {"summary": text, "source": source, "context_tokens": tokens}
    if window is not None:
        told |= {
            "context_limit_tokens": window.context_tokens,
            "threshold_percent": window.percent,
            "usage_percent": round(100 * tokens / window.context_tokens),
        }
    return ToolResultPart(call_id, (JsonPart(encode(told).decode()),))


def _tokens_before(request: ModelRequest) -> int:
    """The tokens of the tools, and of what the model is told before the conversation."""
    systems = (message for message in request.messages if message.role is Role.SYSTEM)
    return tokens_of_tools(request.tools) + sum(map(tokens_of, systems))


def _summary(
    messages: Sequence[Message], kept: Sequence[Message], text: str, window: Window | None, before: int
) -> SummaryPart:
    """What the model is given instead of the history; so many tokens come ``before`` that."""
    _, last = newest_summary(messages)
    steps = 0 if is_whole(messages[-1]) else steps_taken(messages)
    summary = SummaryPart(text, tuple(message.id for message in kept), bytes_of(kept), steps)
    if window is None or before + tokens_of_summary(summary, kept) <= window.threshold_tokens:
        return summary
    return msgspec.structs.replace(summary, tight=1 + (0 if last is None else last.tight))


def _shortened(request: ModelRequest, kept: Sequence[Message], room_tokens: int) -> ModelRequest:
    """What there is room for of the newest of the history, as one message, and of the summary before it; and the system
    texts, if they are short. What is kept anyway is left out."""
    systems = [message for message in request.messages if message.role is Role.SYSTEM]
    room = room_tokens - sum(map(tokens_of, systems))
    if room < room_tokens // 2:
        systems, room = [], room_tokens // 2
    left_out = {message.id for message in (*kept, *systems)}
    text = transcript([message for message in request.messages if message.id not in left_out], room)
    return msgspec.structs.replace(request, messages=(*systems, _of_user(request.messages[-1], text)), tools=())
