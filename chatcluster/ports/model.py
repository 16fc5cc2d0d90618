"""The model, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from uuid import UUID

import msgspec

from chatcluster.models import Continuation
from chatcluster.parts import Message, Part, ToolCallPart, Usage
from chatcluster.usage import NO_USAGE, Prices, counts_of


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as the model is told of it. ``name`` matches ``[A-Za-z0-9_-]{1,64}``; ``parameters`` is the JSON schema of
    an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class Window(msgspec.Struct, frozen=True):
    """How long a conversation a model takes, in tokens; ``output_tokens`` of that are for its answer.

    Above ``percent`` of it the conversation is summarised.
    """

    context_tokens: int
    output_tokens: int
    percent: int = 70

    @property
    def limit_tokens(self) -> int:
        """The tokens of the longest prompt. A model that could fill its context with one answer leaves half of it."""
        return max(self.context_tokens - self.output_tokens, self.context_tokens // 2)  # ModelEntry.answer_tokens_max

    @property
    def threshold_tokens(self) -> int:
        """Below the limit, so that there is room for the request of a summary."""
        return min(self.context_tokens * self.percent // 100, self.limit_tokens * 9 // 10)


class Stint(msgspec.Struct, frozen=True):
    """One model's part of the failures of a step: ``model`` is asked from ``first`` of them on, and from ``end`` on
    ``successor`` is, by the names that people call them. Without one it is the last to be asked."""

    first: int = 0
    end: int | None = None
    successor: str | None = None
    model: str | None = None
    """None: that which is wanted."""


class Attachment(msgspec.Struct, frozen=True):
    """An answer that its provider goes on with, also while nobody listens. ``after`` is the ``sequence`` of the last
    piece that is known of it; None: from its beginning. ``calls`` are those among what is known, with the arguments
    that came: of them the rest is told, under the same IDs."""

    answer_id: str
    after: int | None = None
    calls: tuple[ToolCallPart, ...] = ()


class Meter:
    """What one request costs, as it becomes known, and what the text that was broken off cites: a model says it here,
    however the answer ends."""

    def __init__(self) -> None:
        self.has_started = False
        """An answer began, so that it may cost something."""
        self.model: str | None = None
        self.provider: str | None = None
        self.prices = Prices()
        self.usage = NO_USAGE
        self.cited: list[Part] = []
        """Sources that were not told, as they come where a text ends."""

    def starts(self, model: str, provider: str, prices: Prices) -> None:
        """This model begins to answer, which need not be the one that was asked for."""
        self.has_started, self.model, self.provider, self.prices = True, model, provider, prices

    def count(self, usage: Usage | None) -> None:
        """The usage is so much by now; None: nothing is known yet."""
        if usage is not None:
            self.has_started, self.usage = True, usage

    def cite(self, sources: Sequence[Part]) -> None:
        self.cited.extend(sources)

    @property
    def told(self) -> dict[str, object]:
        """The fields of an event on it."""
        return {"model": self.model, "provider": self.provider, **counts_of(self.usage)}


class ModelRequest(msgspec.Struct, frozen=True):
    chat_id: UUID
    messages: tuple[Message, ...]
    model: str | None = None
    """None: the deployment's default."""
    tools: tuple[ToolSpec, ...] = ()
    may_call_tools: bool = True
    """False: the tools are told, so that what the provider keeps of the prompt stays good, and none may be called."""
    may_search: bool = True
    """False: nor is the model told that its provider could search the web for it."""
    is_plain: bool = False
    """What only a provider understands is left out. ``ProviderError`` of kind ``opaque_refused`` says that this would
    help."""
    attach: Attachment | None = None
    """Nothing is asked: the rest of this answer is listened to. ``ProviderError`` of kind ``answer_forgotten`` if the
    provider has it no more."""
    begun: str = ""
    """The answer has these words already: the model goes on from there, and says the rest alone. ``ProviderError`` of
    kind ``answer_forgotten`` if this model cannot."""
    begun_tokens: int = 0
    """How many tokens those words are, as far as that is known: what the answer may have besides is less by them. One
    that has reached its limit has ended there, and nothing is asked."""
    is_aside: bool = False
    """It is for no answer of the chat, but for a title, or a summary: nobody goes on with it if it is broken off."""
    failures: int = 0
    """How many failures count at this step by now: after some another model takes its place (``Stint``)."""
    meter: Meter | None = None
    owner_id: UUID | None = None
    """Whose chat it is, and so whose share of the replica's memory."""


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer, in order: text, reasoning, a tool call that begins (with what is there of its arguments),
    more of the arguments of one that began, a source, or what only the provider understands."""

    part: Part
    sequence: int | None = None
    """Of an answer that another owner can go on with: the place behind this piece. Of one that is attached to, its
    provider's own number; of one that is continued from its words, how many tokens it has by then."""


class KeepAlive(msgspec.Struct, frozen=True):
    """The server showed that it is alive; it resets the silence guard and nothing else."""


class Progress(KeepAlive, frozen=True):
    """A sign of life that is more: the answer grew by what is not told yet, such as a piece of a tool call."""


class Attachable(KeepAlive, frozen=True):
    """The provider goes on with this answer if the connection breaks: an ``Attachment`` gets at it."""

    answer_id: str


class Finished(msgspec.Struct, frozen=True):
    """The provider's own terminal event. ``reason``: stop, length, content_filter, tool_calls, or other where
    the provider gave a reason that is none of these and ended its answer in order. ``pause``: the provider wants to be
    asked again, with this answer as the history's last message, and goes on from there."""

    reason: str
    usage: Usage | None = None
    model: str | None = None


Windows = Callable[[str | None, int], Window | None]
"""The window of the model that is asked where this one is wanted and failed so often; None: it is not known."""

Stints = Callable[[str | None, int], Stint]
"""The stint of the model which is asked where this one is wanted and so many failures count."""

ToolLimits = Callable[[str | None, int], int | None]
"""How many tools the model may be offered that is asked where this one is wanted and failed so often; None: any
number."""

ModelEvent = Delta | KeepAlive | Finished


class Model(Protocol):
    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """One attempt at a response. The iterator ends after ``Finished``, or raises ``ProviderError``;
        an end of the wire without a terminal event is a ``ProviderError`` (kind ``stream_incomplete``)."""
        ...

    def continuation(self, request: ModelRequest) -> Continuation:
        """What the model that would be asked can do with an answer that was begun and whose owner is gone."""
        ...

    async def cancel(self, request: ModelRequest) -> None:
        """Nobody wants the answer any more that ``request.attach`` names: its provider is told, if that can be done.
        Raises ``ProviderError`` where it cannot; the caller bounds it."""
        ...
