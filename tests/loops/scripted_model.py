"""A model that says what the test tells it to, when the test tells it to.

Every attempt of every replica arrives as a ``Call``. The test takes it (``next_call``) and plays the provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import trio

from chatcluster.errors import ProviderError
from chatcluster.models import Continuation
from chatcluster.parts import Part, ReasoningPart, Role, TextPart, ToolArgumentsPart, ToolCallPart, Usage, text_of
from chatcluster.ports import Attachable, Delta, Finished, KeepAlive, ModelEvent, ModelRequest

CALL_SECONDS_MAX = 100.0


class Call:
    """One attempt at an answer. Nothing here blocks: what is said waits until the runner takes it."""

    def __init__(self, request: ModelRequest) -> None:
        self.request = request
        self.ended = trio.Event()
        """The runner is done with it: it finished, failed, or was cancelled."""
        self._script, self._played = trio.open_memory_channel[ModelEvent | Exception](inf)

    def __repr__(self) -> str:
        return f"<Call on {self.prompt}>"

    @property
    def prompt(self) -> list[str]:
        """The history that the model was given."""
        return [f"{message.role}: {text_of(message.parts)}" for message in self.request.messages]

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> ModelEvent:
        try:
            event = await self._played.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        if isinstance(event, Exception):
            raise event
        return event

    # what the test plays

    def begin(self, answer_id: str) -> None:
        """The provider goes on with this answer, whoever listens."""
        self._script.send_nowait(Attachable(answer_id))

    def say_numbered(self, sequence: int, words: str) -> None:
        """A piece of an answer that can be attached to behind it."""
        self._script.send_nowait(Delta(TextPart(words), sequence))

    def say(self, *words: str) -> None:
        self._deltas(*map(TextPart, words))

    def think(self, *words: str) -> None:
        self._deltas(*map(ReasoningPart, words))

    def ask_for_tool(self, call_id: str, name: str = "tool", arguments: str = "{}") -> None:
        self._deltas(ToolCallPart(call_id, name, arguments))

    def ask_numbered(self, sequence: int, call_id: str, name: str, arguments: str, provider_id: str) -> None:
        """A call that begins in an answer that can be attached to behind it."""
        self._script.send_nowait(Delta(ToolCallPart(call_id, name, arguments, provider_id), sequence))

    def write_arguments(self, call_id: str, *pieces: str) -> None:
        """More of the arguments of a call that has begun."""
        self._deltas(*(ToolArgumentsPart(call_id, piece) for piece in pieces))

    def call_tools(self, *call_ids: str, name: str = "tool") -> None:
        """Ask for these calls, and be done."""
        for call_id in call_ids:
            self.ask_for_tool(call_id, name)
        self.finish("tool_calls")

    def keep_alive(self) -> None:
        self._script.send_nowait(KeepAlive())

    def play(self, event: ModelEvent) -> None:
        self._script.send_nowait(event)

    def finish(self, reason: str = "stop", usage: Usage | None = None, model: str | None = None) -> None:
        self._script.send_nowait(Finished(reason, usage, model))

    def answer(self, *words: str) -> None:
        """Say this, and be done."""
        self.say(*words)
        self.finish()

    def fail(self, kind: str = "overloaded", *, retryable: bool = True, retry_after: float | None = None) -> None:
        error = ProviderError(
            f"the provider says: {kind}",
            kind=kind,
            retryable=retryable,
            status_code=429 if kind == "rate_limit" else None,
            retry_after_seconds=retry_after,
            provider="scripted",
        )
        self._script.send_nowait(error)

    def crash(self, error: Exception) -> None:
        """A bug of ours, in mid-answer."""
        self._script.send_nowait(error)

    def hang_up(self) -> None:
        """The wire ends without the provider's own terminal event."""
        self._script.close()

    def _deltas(self, *parts: Part) -> None:
        for part in parts:
            self._script.send_nowait(Delta(part))


class ScriptedModel:
    """One provider for the whole cluster."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.able = Continuation.NONE
        """What it can do with an answer that was begun."""
        self.cancelled: list[str] = []
        self._arrivals, self._arrived = trio.open_memory_channel[Call](inf)

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        call = Call(request)
        self.calls.append(call)
        self._arrivals.send_nowait(call)
        try:
            yield call
        finally:
            call.ended.set()

    def continuation(self, request: ModelRequest) -> Continuation:
        return self.able

    async def cancel(self, request: ModelRequest) -> None:
        assert request.attach is not None
        self.cancelled.append(request.attach.answer_id)

    async def next_call(self) -> Call:
        """The next attempt that nobody has taken yet, waiting for it if need be."""
        with trio.fail_after(CALL_SECONDS_MAX):
            return await self._arrived.receive()

    def idle(self) -> bool:
        """Whether no attempt waits to be taken."""
        return not self._arrived.statistics().current_buffer_used


def last_user_words(call: Call) -> str:
    """The message that this call answers."""
    return text_of(next(m for m in reversed(call.request.messages) if m.role is Role.USER).parts)
